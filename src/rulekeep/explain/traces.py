"""What each token does to the state, by kind of token: traces, token by token.

    change_t = |S_t − S_{t−1}| / (|S_t| + |S_{t−1}|)        for each tensor of each layer's state

0: the token leaves the state unchanged, bit for bit. 1: it writes first, or replaces everything.
Unlike a change relative to S_t alone, this never divides by a vanished state. If a mixer has a
method `write_strength(x, state)`, its write gates are traced too: from 0, nothing is written, to 1.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rulekeep.explain.record import GATE, Bin, Trace, Traced
from rulekeep.mixers.base import Mixer, flattened, part_of
from rulekeep.running.model import LanguageModel, ModelState
from rulekeep.tasks.base import Role
from rulekeep.tasks.sampled import Sample, SampledTask

EXAMPLES = 64
# In the order of tables; marks come after them.
KINDS = {
    Role.RULE: "rule",
    Role.ITEM: "item",
    Role.DECOY_RULE: "decoy rule",
    Role.DECOY_ITEM: "decoy item",
    Role.PLAIN: "filler",
    Role.CUE: "cue",
    Role.REQUEST: "request",
    Role.ANSWER: "answer",
}


def traced(
    model: LanguageModel, task: SampledTask, context: int, seed: int, examples: int = EXAMPLES
) -> Traced:
    """Traces of validation examples, up to the answer."""
    sample = task.sample("validation", context, examples, seed=seed)
    kinds = token_kinds(sample, task.vocabulary)
    every = [
        trace
        for (layer, part), values in follow(model, sample.tokens[:, : sample.answer_start]).items()
        for trace in by_kind(layer, part, values, kinds)
    ]
    return Traced(
        context=context,
        examples=examples,
        changes=tuple(one for one in every if one.part != GATE),
        gates=tuple(one for one in every if one.part == GATE),
    )


def token_kinds(sample: Sample, vocabulary: Sequence[str]) -> np.ndarray:
    """The kind of each token before the answer, `[n, prefix]`; marks such as `<go>` by name."""
    tokens = sample.tokens[:, : sample.answer_start]
    roles = sample.roles[:, : sample.answer_start]
    words = np.array(vocabulary, dtype=object)[tokens]
    marks = np.array([word.startswith("<") for word in vocabulary])[tokens]
    names = np.array([KINDS[role] for role in Role], dtype=object)[roles]
    kinds: np.ndarray = np.where((roles == Role.PLAIN) & marks, words, names)
    return kinds


@torch.no_grad()
def follow(
    model: LanguageModel, prefixes: np.ndarray
) -> dict[tuple[int, str], Float[Tensor, "n prefix values"]]:
    """The change of every tensor of the state at every token, and write gates, by layer and part.

    A state that grew at a token has no change there: NaN.
    """
    tokens = torch.from_numpy(prefixes).long().to(model.head.weight.device)
    mixers: list[Mixer] = [block.mixer for block in model.blocks]  # type: ignore[misc]
    state = ModelState(0, tuple(mixer.init_state(len(tokens)) for mixer in mixers))
    found: dict[tuple[int, str], list[Tensor]] = defaultdict(list)
    with _inputs(mixers) as inputs:
        for token in tokens.split(1, dim=1):
            before = state
            _, state = model.advance(token, before)
            for layer, mixer in enumerate(mixers, start=1):
                was, now = before.layers[layer - 1], state.layers[layer - 1]
                for name, a, b in zip(_names(now), was, now, strict=True):
                    # What has no room, such as a filter's past at one tap, has nothing to change.
                    if b.numel():
                        found[layer, name].append(change(a, b))
                if (write_strength := _gates(mixer)) is not None:
                    found[layer, GATE].append(write_strength(inputs[layer], was).flatten(1).float())
    return {key: torch.stack(values, dim=1).cpu() for key, values in found.items()}


@torch.no_grad()
def write_gates(
    model: LanguageModel, tokens: Int[Tensor, "batch time"]
) -> dict[int, Float[Tensor, "batch time gates"]]:
    """How open each write gate is at each token, `[batch, time, gates]` from 0 to 1, by layer.

    Layers count from 1. One whose mixer has no method `write_strength` is left out.

    Args:
        model: A model, in training or not; no gradient is kept.
        tokens: `[batch, time]`, from the start of a text.
    """
    mixers: list[Mixer] = [block.mixer for block in model.blocks]  # type: ignore[misc]
    with _inputs(mixers) as inputs:
        model(tokens)
    return {
        layer: write_strength(inputs[layer], mixer.init_state(len(tokens))).float()
        for layer, mixer in enumerate(mixers, start=1)
        if (write_strength := _gates(mixer)) is not None
    }


def change(before: Tensor, after: Tensor) -> Float[Tensor, "batch 1"]:
    """|after − before| / (|after| + |before|), 0 where both are zero, NaN where it grew."""
    if before.shape != after.shape:
        return after.new_full((len(after), 1), torch.nan, dtype=torch.float32)
    a, b = (flattened(state).double() for state in (before, after))
    moved, size = (b - a).norm(dim=1), a.norm(dim=1) + b.norm(dim=1)
    # A state that is all zeros has not moved: 0 over anything.
    share: Tensor = (moved / torch.where(size > 0, size, 1.0)).clamp(max=1.0).float()
    return share.unsqueeze(1)


def by_kind(
    layer: int, part: str, table: Float[Tensor, "n prefix values"], kinds: np.ndarray
) -> Iterator[Trace]:
    """Means by kind of token and by position, in bins that each span twice as many tokens."""
    values, zeros = (of.double().mean(dim=2).numpy() for of in (table, table == 0))
    position = np.broadcast_to(np.arange(kinds.shape[1]), kinds.shape)
    bins = np.frexp(position + 1)[1] - 1
    known = ~np.isnan(values)
    order = list(KINDS.values())
    present = sorted(set(kinds[known]))
    for kind in sorted(present, key=lambda kind: order.index(kind) if kind in order else 99):
        here = known & (kinds == kind)
        each = table.numpy()[here].T if part == GATE else ()
        yield Trace(
            layer=layer,
            part=part,
            kind=kind,
            n=int(here.sum()),
            mean=_mean(values[here]),
            zeros=_mean(zeros[here]),
            bins=tuple(
                Bin(
                    first=2**number - 1,
                    last=min(2 ** (number + 1) - 2, kinds.shape[1] - 1),
                    n=int((here & (bins == number)).sum()),
                    mean=_mean(values[here & (bins == number)]),
                )
                for number in np.unique(bins[here]).tolist()
            ),
            mean_by_gate=tuple(_mean(gate) for gate in each),
            zeros_by_gate=tuple(_mean(gate == 0) for gate in each),
        )


def _mean(values: np.ndarray) -> float:
    return min(1.0, float(values.mean(dtype=np.float64)))


@contextmanager
def _inputs(mixers: Sequence[Mixer]) -> Iterator[dict[int, Tensor]]:
    """The last input of each mixer by layer from 1, as calls inside the block give it."""
    inputs: dict[int, Tensor] = {}

    def keep(layer: int, _: Any, given: tuple[Any, ...]) -> None:
        inputs[layer] = given[0]

    hooks = [
        mixer.register_forward_pre_hook(partial(keep, layer))
        for layer, mixer in enumerate(mixers, start=1)
    ]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def _gates(mixer: Mixer) -> Callable[[Tensor, Any], Tensor] | None:
    return getattr(part_of(mixer), "write_strength", None)


def _names(state: Any) -> Sequence[str]:
    # A module from outside may have a plain tuple.
    return getattr(state, "_fields", None) or [f"tensor {i}" for i in range(1, len(state) + 1)]

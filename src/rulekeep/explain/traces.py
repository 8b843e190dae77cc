"""What each token does to the state, by kind of token: traces, token by token.

    change_t = |S_t − S_{t−1}| / (|S_t| + |S_{t−1}|)        for each tensor of each layer's state

0: the token leaves the state unchanged, bit for bit. 1: it writes first, or replaces everything.
Unlike a change relative to S_t alone, this never divides by a vanished state. If a mixer has a
method `write_strength(x, state)`, its write gates are traced too: from 0, nothing is written, to 1.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

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


class Series(NamedTuple):
    """Values of one part of one layer at every token, and the fraction of exact zeros in each.

    NaN if there is no value: a state that grew at this token has no change. Write gates are also
    kept one by one.
    """

    layer: int
    part: str
    values: Float[np.ndarray, "n prefix"]
    zeros: Float[np.ndarray, "n prefix"]
    gates: Float[np.ndarray, "n prefix gates"] | None = None


def traced(
    model: LanguageModel, task: SampledTask, context: int, seed: int, examples: int = EXAMPLES
) -> Traced:
    """Traces of validation examples, up to the answer."""
    sample = task.sample("validation", context, examples, seed=seed)
    kinds = token_kinds(sample, task.vocabulary)
    changes, gates = follow(model, sample.tokens[:, : sample.answer_start])
    return Traced(
        context=context,
        examples=examples,
        changes=tuple(trace for one in changes for trace in by_kind(one, kinds)),
        gates=tuple(trace for one in gates for trace in by_kind(one, kinds)),
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
def follow(model: LanguageModel, prefixes: np.ndarray) -> tuple[list[Series], list[Series]]:
    """Changes of every tensor of the state at every token, and write gates."""
    tokens = torch.from_numpy(prefixes).long().to(model.head.weight.device)
    mixers: list[Mixer] = [block.mixer for block in model.blocks]  # type: ignore[misc]
    state = ModelState(0, tuple(mixer.init_state(len(tokens)) for mixer in mixers))
    changes: dict[tuple[int, str], list[Tensor]] = {}
    gates: dict[int, list[Tensor]] = {}
    with _inputs(mixers) as inputs:
        for token in tokens.split(1, dim=1):
            before = state
            _, state = model.advance(token, before)
            for layer, mixer in enumerate(mixers, start=1):
                was, now = before.layers[layer - 1], state.layers[layer - 1]
                for name, a, b in zip(_names(now), was, now, strict=True):
                    # What has no room, such as a filter's past at one tap, has nothing to change.
                    if not b.numel():
                        continue
                    changes.setdefault((layer, name), []).append(change(a, b))
                if (write_strength := _gates(mixer)) is not None:
                    strength = write_strength(inputs[layer], was)
                    gates.setdefault(layer, []).append(strength.flatten(1).float())
    return (
        [_series(layer, name, values) for (layer, name), values in changes.items()],
        [_series(layer, GATE, values) for layer, values in gates.items()],
    )


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


def by_kind(series: Series, kinds: np.ndarray) -> Iterator[Trace]:
    """Means by kind of token and by position, in bins that each span twice as many tokens."""
    position = np.broadcast_to(np.arange(kinds.shape[1]), kinds.shape)
    bins = np.frexp(position + 1)[1] - 1
    known = ~np.isnan(series.values)
    order = list(KINDS.values())
    present = sorted(set(kinds[known]))
    for kind in sorted(present, key=lambda kind: order.index(kind) if kind in order else 99):
        here = known & (kinds == kind)
        each = () if series.gates is None else series.gates[here].T
        yield Trace(
            layer=series.layer,
            part=series.part,
            kind=kind,
            n=int(here.sum()),
            mean=_mean(series.values[here]),
            zeros=_mean(series.zeros[here]),
            bins=tuple(
                Bin(
                    first=2**number - 1,
                    last=min(2 ** (number + 1) - 2, kinds.shape[1] - 1),
                    n=int((here & (bins == number)).sum()),
                    mean=_mean(series.values[here & (bins == number)]),
                )
                for number in np.unique(bins[here]).tolist()
            ),
            mean_by_gate=tuple(_mean(gate) for gate in each),
            zeros_by_gate=tuple(_mean(gate == 0) for gate in each),
        )


def _mean(values: np.ndarray) -> float:
    return min(1.0, float(values.mean(dtype=np.float64)))


def _series(layer: int, part: str, values: Sequence[Tensor]) -> Series:
    table = torch.stack(list(values), dim=1).cpu()
    zeros = (table == 0).double().mean(dim=2)
    gates = table.numpy() if part == GATE else None
    return Series(layer, part, table.double().mean(dim=2).numpy(), zeros.numpy(), gates)


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

"""Training: the model of a run, its batches and its loss, and the loop, one step at a time.

    model = build(resolved)
    for step in train_model(resolved, model):
        ...     # evaluate, log, save, stop: none of it is timed

The loop is AdamW, a learning rate by step and clipped gradients. Nothing here depends on other
runs. Every random consumer has a stream named after the seed and its purpose, and example i of a
batch depends on its name alone. So the same spec gives the same weights, to the bit, whenever it is
trained on the same machine.
"""

import math
import random
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from itertools import count
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.mixers.base import MixerError, auxiliary_loss, start_step
from rulekeep.running.building import Resolved
from rulekeep.running.model import LanguageModel, ModelState
from rulekeep.seeds import named_seed
from rulekeep.specs import RunSpec, TrainingSpec
from rulekeep.tasks.sampled import Sample

_SHORTEST_LENGTH = 64
Batch = TypeVar("Batch")


class _Drawn(NamedTuple):
    """A batch, and the texts whose states it begins from, if it does: those of the batch before."""

    number: int
    sample: Sample
    before: Sample | None


class Step(NamedTuple):
    """One finished step: its number from 1, the loss before it, and the seconds of all steps."""

    number: int
    loss: float
    train_seconds: float


class DivergedError(RuntimeError):
    """A loss or a gradient is not finite: which one, at what step, and the last finite loss."""

    def __init__(self, what: str, step: int, last_finite_loss: float | None) -> None:
        last = "no loss was finite before"
        if last_finite_loss is not None:
            last = f"last finite loss: {last_finite_loss:.4g}"
        super().__init__(f"{what} not finite at step {step}; {last}")
        self.step, self.last_finite_loss = step, last_finite_loss


def train(
    model: nn.Module,
    loss_of: Callable[[Batch], Tensor],
    batches: Iterator[Batch],
    spec: TrainingSpec,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    after: Step | None = None,
) -> Iterator[Step]:
    """Train `model` in place, yielding after every step; continues `after` a step if one is given.

    One forward and backward pass comes first, without an update and without timing, to warm up the
    process. It draws nothing, and changes no weight, buffer or extra state.

    Gradients are those of the loss and of the auxiliary losses of the mixers in `model`. The loss
    of a `Step` is the task's alone.

    Raises:
        DivergedError: a loss or a gradient is not finite.
    """
    optimizer = optimizer or torch.optim.AdamW(
        model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay
    )
    done, last_loss = (after.number, after.loss) if after else (0, None)
    seconds = after.train_seconds if after else 0.0
    for number in range(done + 1, spec.steps + 1):
        batch = next(batches)
        if number == done + 1:
            _warm_up(model, loss_of, batch, number)
        start_step(model, number)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(spec, number)
        start = time.perf_counter()
        loss = loss_of(batch)
        _backward(loss, model, number)
        norm = nn.utils.clip_grad_norm_(model.parameters(), spec.max_gradient_norm)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError("loss", number, last_loss)
        if not torch.isfinite(norm):
            raise DivergedError("gradient", number, value)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds += time.perf_counter() - start
        last_loss = value
        yield Step(number, value, seconds)


def _warm_up(
    model: nn.Module, loss_of: Callable[[Batch], Tensor], batch: Batch, number: int
) -> None:
    # A run that goes on from a checkpoint warms up once more, and must not differ for it.
    extra = {n: deepcopy(p) for n, p in model.state_dict().items() if n.endswith("_extra_state")}
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    start_step(model, number)
    _backward(loss_of(batch), model, number)
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            kept = before.get(name)
            # A table that a layer makes or lengthens as it first reads is not undone.
            if kept is not None and kept.shape == buffer.shape:
                buffer.copy_(kept)
    if extra:
        model.load_state_dict(extra, strict=False)


def _backward(loss: Tensor, model: nn.Module, step: int) -> None:
    penalty = auxiliary_loss(model, step)
    (loss if penalty is None else loss + penalty).backward()


def learning_rate(spec: TrainingSpec, step: int) -> float:
    """The learning rate of a step, counted from 1: linear warm-up, then a cosine to its end."""
    if step <= spec.warmup_steps:
        return spec.learning_rate * step / spec.warmup_steps
    if spec.final_share == 1:
        return spec.learning_rate
    done = (step - spec.warmup_steps) / max(1, spec.steps - spec.warmup_steps)
    falling = (1 + math.cos(math.pi * done)) / 2
    return spec.learning_rate * (spec.final_share + (1 - spec.final_share) * falling)


def build(resolved: Resolved) -> LanguageModel:
    """The model of a run, before its first step."""
    spec = resolved.spec
    assert spec.hidden is not None, "filled in by resolve"
    return LanguageModel(
        len(resolved.task.vocabulary), resolved.mixers, width=spec.width, hidden=spec.hidden,
        added_positions=spec.added_positions, context=spec.context, seed=spec.seed,
    )  # fmt: skip


def train_model(
    resolved: Resolved,
    model: LanguageModel,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    after: Step | None = None,
) -> Iterator[Step]:
    """Train the model of a run in place, yielding after every step; continues `after` a step if
    given.

    `optimizer` is that of `optimizer_of`; a caller that saves checkpoints holds it.

    Raises:
        DivergedError: a loss or a gradient is not finite.
        MixerError: the mixer breaks its contract.
    """
    spec = resolved.spec.training
    return train(
        model, partial(_loss, model, resolved.spec), _batches(resolved, after), spec,
        optimizer=optimizer or optimizer_of(model, spec), after=after,
    )  # fmt: skip


def optimizer_of(model: nn.Module, spec: TrainingSpec) -> torch.optim.AdamW:
    """AdamW with weight decay on the weights of linear layers alone."""
    decaying = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if id(p) in decaying]},
        {"params": [p for p in parameters if id(p) not in decaying], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, weight_decay=spec.weight_decay)


def lengths(spec: RunSpec, shortest: int) -> Iterator[int]:
    """The length of each training batch, in order: log-uniform up to the longest, or fixed.

    The longest is the context. Over the first fraction `length_growth` of the steps it grows from
    the shortest, by equal factors. A rule is found sooner in a short text, and then kept in a long
    one.
    """
    stream = np.random.default_rng(named_seed("training lengths", spec.seed))
    low = min(max(_SHORTEST_LENGTH, shortest), spec.context)
    growing = spec.length_growth * spec.steps
    for number in count():
        longest = low * (spec.context / low) ** min(1.0, number / growing if growing else 1.0)
        draw = low * (longest / low) ** stream.random()
        yield round(draw if spec.mixed_lengths else longest)


def tokens_per_second(resolved: Resolved, last: Step) -> float:
    """Tokens of all batches so far, divided by the seconds of their steps."""
    spec = resolved.spec
    drawn = lengths(spec, resolved.task.shortest_context)
    tokens = sum(spec.batch_size * next(drawn) for _ in range(last.number))
    return tokens / last.train_seconds


def _batches(resolved: Resolved, done: Step | None) -> Iterator[_Drawn]:
    spec, task = resolved.spec, resolved.task
    passed = spec.steps - spec.state_steps if spec.initial_states != "zero" else spec.steps
    earlier: tuple[int, int] | None = None

    def drawn(number: int, length: int) -> Sample:
        start = number * spec.batch_size
        return task.sample("train", length, spec.batch_size, seed=spec.seed, start=start)

    for number, length in enumerate(lengths(spec, task.shortest_context)):
        if done is None or number >= done.number:
            before = drawn(*earlier) if number >= passed and earlier else None
            yield _Drawn(number, drawn(number, length), before)
        earlier = number, length


def initial_state(model: LanguageModel, spec: RunSpec, batch: _Drawn) -> ModelState | None:
    """The states that a batch begins from; None for zeros.

    Those that the batch before has left in the same weights (Ruiz and Gu 2025, arXiv 2507.02782;
    there in the weights of a step ago), or normal noise with the mean and the spread of each.
    """
    if batch.before is None:
        return None
    with torch.no_grad():
        tokens = torch.from_numpy(batch.before.tokens).to(spec.device)
        layers = model.advance(tokens)[1].layers
    if spec.initial_states == "noise":
        stream = torch.Generator().manual_seed(named_seed("states", batch.number, spec.seed))

        def noisy(part: Tensor) -> Tensor:
            drawn = torch.randn(part.shape, generator=stream, dtype=part.dtype).to(part.device)
            return part.mean() + part.std() * drawn

        layers = tuple(type(layer)(*map(noisy, layer)) for layer in layers)
    # Positions start anew.
    return ModelState(0, layers)


def _loss(model: LanguageModel, spec: RunSpec, batch: _Drawn) -> Tensor:
    before, sample = global_streams(), batch.sample
    tokens, answers, supervised = (
        torch.from_numpy(table).to(spec.device)
        for table in (sample.tokens, sample.answers, sample.supervised)
    )
    kind = torch.device(spec.device).type
    with torch.autocast(kind, torch.bfloat16, enabled=spec.precision == "bfloat16"):
        state = initial_state(model, spec, batch)
        # The last token predicts nothing that is supervised.
        logits = model.last_logits(tokens[:, :-1], supervised.shape[1], state)
    if global_streams() != before:
        raise MixerError(
            f"{spec.mixer} draws from a global random stream: give it a generator of its own, "
            "seeded in start_step(step)"
        )
    return answer_loss(logits.float(), answers, supervised)


def global_streams() -> dict[str, object]:
    """The states of the global random streams, by library."""
    state: Any = np.random.get_state()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (state[1].tobytes(), *state[2:]),
        "random": random.getstate(),
    }


def answer_loss(
    logits: Float[Tensor, "batch answer v"],
    tokens: Int[Tensor, "batch context"],
    supervised: Bool[Tensor, "batch answer"] | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the answer tokens, the last ones of each sequence."""
    answers = tokens[:, -logits.shape[1] :]
    if supervised is None:
        return F.cross_entropy(logits.flatten(0, 1), answers.flatten())
    return F.cross_entropy(logits[supervised], answers[supervised])

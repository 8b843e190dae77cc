"""The training loop: AdamW, a learning rate by step, clipped gradients; one step at a time.

for step in train(model, loss_of_batch, batches, spec):
    ...     # evaluate, log, save, stop: none of it is under the clock
"""

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from rulekeep.mixers.base import auxiliary_loss, start_step
from rulekeep.specs import TrainingSpec

Batch = TypeVar("Batch")


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


def adamw(model: nn.Module, spec: TrainingSpec) -> torch.optim.AdamW:
    """AdamW on every parameter, all with the same weight decay."""
    return torch.optim.AdamW(
        model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay
    )


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
    optimizer = optimizer or adamw(model, spec)
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

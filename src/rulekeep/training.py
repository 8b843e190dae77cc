"""The training loop: AdamW, a constant learning rate, clipped gradients; one step at a time.

for step in train(model, loss_of_batch, batches, spec):
    ...     # evaluate, log, stop: none of it is under the clock
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from rulekeep.costs import Clock
from rulekeep.specs import TrainingSpec

Batch = TypeVar("Batch")


class Step(NamedTuple):
    """One finished step: its number from 1, the loss before it, and all steps' seconds."""

    number: int
    loss: float
    train_seconds: float


def train(
    model: nn.Module,
    loss_of: Callable[[Batch], Tensor],
    batches: Iterator[Batch],
    spec: TrainingSpec,
) -> Iterator[Step]:
    """Trains `model` in place, yielding after every step.

    One forward and backward pass goes first, uncounted and without an update, so that the
    clock sees a process that is warm. It draws nothing and changes no weight.

    Raises:
        RuntimeError: a gradient is not finite.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay
    )
    clock = Clock()
    for number in range(1, spec.steps + 1):
        batch = next(batches)
        if number == 1:
            loss_of(batch).backward()
            model.zero_grad(set_to_none=True)
        with clock.running():
            loss = loss_of(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(
                model.parameters(), spec.max_gradient_norm, error_if_nonfinite=True
            )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            value = loss.item()
        yield Step(number, value, clock.seconds)

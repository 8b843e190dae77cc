"""The autocast that a caller has put around a computation whose backward pass is by hand."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def uncast(kind: str) -> AbstractContextManager[Any]:
    """Inside, the kind of device computes in the precision of what it is given."""
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def cast_as_now(kind: str) -> Callable[[], AbstractContextManager[Any]]:
    """What makes the autocast of this moment again later."""
    dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
    return partial(torch.autocast, kind, dtype, enabled)


def by_hand(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward pass that is written by hand: differentiable once, and never cast.

    Users may call `loss.backward()` inside their autocast.
    """

    @wraps(backward)
    def own(ctx: Any, *grads: Tensor | None) -> Any:
        (kind, *_) = (grad.device.type for grad in grads if grad is not None)
        with uncast(kind):
            return backward(ctx, *grads)

    return once_differentiable(own)

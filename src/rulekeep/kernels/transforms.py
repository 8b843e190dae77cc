"""What a caller may have put around a computation: transforms of `torch.func`, and autocast.

A function with a hand-written backward pass can support `torch.func`, but then each call costs some
40 µs more. So transformed computations take a plain way instead.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# A device on which nothing is computed has no autocast.
_META = "meta"


def transformed() -> bool:
    """Whether the call runs inside `torch.func.grad` or another transform."""
    # What `torch.autograd.Function.apply` asks, to refuse our functions.
    found: bool = torch._C._are_functorch_transforms_active()
    return found


def uncast(kind: str) -> AbstractContextManager[Any]:
    """Inside, the kind of device computes in the precision of what it is given."""
    if kind == _META or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def cast_as_now(kind: str) -> Callable[[], AbstractContextManager[Any]]:
    """What makes the autocast of this moment again later."""
    if kind == _META:
        return nullcontext
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

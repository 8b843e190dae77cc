"""A causal filter a channel over the last few tokens, with its backward pass by hand.

    y_t = sum_{j < n} w_j ⊙ x_{t − n + 1 + j}

By passes over whole rows: torch's depthwise convolution wants time last, and takes longer.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from rulekeep.kernels.autocast import by_hand

# Numbers that stay in a core's cache through all passes.
_NUMBERS_AT_ONCE = 2**17


def convolve(
    x: Float[Tensor, "batch time channels"],
    before: Float[Tensor, "batch kernel-1 channels"],
    filters: Float[Tensor, "kernel channels"],
) -> tuple[Float[Tensor, "batch time channels"], Float[Tensor, "batch kernel-1 channels"]]:
    """The sums at every token, and the last inputs; `before` are those before the first token."""
    seen = torch.cat([before, x], dim=1)
    found: tuple[Tensor, Tensor] = _Convolve.apply(seen, filters)  # type: ignore[no-untyped-call]
    return found


def convolve_token(
    x: Float[Tensor, "batch 1 channels"],
    before: Float[Tensor, "batch kernel-1 channels"],
    filters: Float[Tensor, "kernel channels"],
) -> tuple[Float[Tensor, "batch 1 channels"], Float[Tensor, "batch kernel-1 channels"]]:
    """The same of one token, in few operations; sums are rounded otherwise."""
    seen = torch.cat([before, x], dim=1)
    return (seen * filters).sum(1, keepdim=True), seen[:, 1:]


def later_sums(
    parts: Float[Tensor, "batch time kernel heads"],
    pending: Float[Tensor, "batch kernel-1 heads"] | None,
) -> tuple[Float[Tensor, "batch time heads"], Float[Tensor, "batch kernel-1 heads"]]:
    """Sums where part j of a token counts j places later, and what is due at later tokens."""
    time, count = parts.shape[1:3]
    if time == 1 and pending is not None:
        sums = torch.cat([parts[:, 0, :-1] + pending, parts[:, 0, -1:]], dim=1)
    else:
        # One row a part, each longer by a place than what is kept: the next one starts later.
        rows = pad(parts.transpose(1, 2), (0, 0, 0, count)).flatten(1, 2)
        sums = rows[:, :-count].unflatten(1, (count, -1)).sum(1)
        if pending is not None:
            sums = sums + pad(pending, (0, 0, 0, time))
    now, later = sums.split([time, count - 1], dim=1)
    # Else the state would hold every sum.
    return now, later.clone()


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, seen: Tensor, filters: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(seen, filters)
        time = seen.shape[1] - len(filters) + 1
        y = seen.new_empty(len(seen), time, seen.shape[2])
        for out, part in _blocks(y, seen):
            torch.mul(part[:, :time], filters[0], out=out)
            for place in range(1, len(filters)):
                out.addcmul_(part[:, place : place + time], filters[place])
        return y, seen[:, time:].clone()

    @staticmethod
    @by_hand
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (seen, filters), (grad, of_recent) = ctx.saved_tensors, grads
        time, last = grad.shape[1], len(filters) - 1
        of_filters, of_seen = torch.empty_like(filters), torch.empty_like(seen)
        product = torch.empty_like(grad)
        for place in range(last + 1):
            torch.mul(grad, seen[:, place : place + time], out=product)
            torch.sum(product, (0, 1), out=of_filters[place])
        for out, part, ends in _blocks(of_seen, grad, of_recent):
            out[:, :last] = 0
            torch.mul(part, filters[last], out=out[:, last:])
            out[:, time:] += ends
            for place in reversed(range(last)):
                out[:, place : place + time].addcmul_(part, filters[place])
        return of_seen, of_filters


def _blocks(*parts: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """A few sequences of each at a time."""
    at_once = max(1, _NUMBERS_AT_ONCE // max(1, parts[0][:1].numel()))
    return zip(*(part.split(at_once) for part in parts), strict=True)

"""The inverse of unit triangular matrices in a batch, by products of 2x2 blocks.

    [[P, 0], [X, Q]]⁻¹ = [[P⁻¹, 0], [−Q⁻¹ X P⁻¹, Q⁻¹]]

Blocks of one place, then of two, and so on, all blocks at once. No powers of the triangle, which
can be huge.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, ParamSpec, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from rulekeep.kernels.autocast import by_hand

_KEPT = 64
_Spread: TypeAlias = Callable[[Tensor], Tensor]


def unit_triangular_inverse(below: Float[Tensor, "... place place"]) -> Tensor:
    """(I + below)⁻¹ for a strictly lower triangular `below`, places a power of two."""
    inverse: Tensor = _UnitTriangularInverse.apply(below)  # type: ignore[no-untyped-call]
    return inverse


class _UnitTriangularInverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, below: Tensor) -> Tensor:
        inverse = invert_unit_triangles(below.flatten(0, -3)).view_as(below)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    @by_hand
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        grad: Tensor = inverse.mT @ grads[0] @ inverse.mT
        grad *= grad.new_full(grad.shape[-2:], -1.0).tril(-1)
        return grad


def invert_unit_triangles(below: Float[Tensor, "batch place place"]) -> Tensor:
    """The same for a batch, without a gradient.

    Up to the last level, products of whole matrices that are zero outside the blocks: at these
    sizes they cost less than cutting blocks out.
    """
    place, size, kind = below.shape[-1], 2, (below.dtype, below.device)
    # Blocks of one place: the inverse of the diagonal is the identity.
    first_level = second_sees_first(place, 1, *kind)
    inverse = torch.addcmul(identity(place, *kind), below, first_level, value=-1)
    corner, product = torch.empty_like(below), torch.empty_like(below)
    while size < place // 2:
        torch.mul(below, second_sees_first(place, size, *kind), out=corner)
        torch.bmm(inverse, corner, out=product)
        inverse -= torch.bmm(product, inverse, out=corner)
        size *= 2
    if size < place:
        first, second = slice(size), slice(size, place)
        solved = inverse[:, second, second] @ below[:, second, first]
        torch.neg(solved @ inverse[:, first, first], out=inverse[:, second, first])
    return inverse


_P = ParamSpec("_P")


def _made_once(make: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Small constants, outside inference mode, so that training may use them later."""
    kept: Any = lru_cache(_KEPT)(torch.inference_mode(False)(make))
    return kept  # type: ignore[no-any-return]


@_made_once
def identity(place: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "place place"]:
    """The identity matrix."""
    return torch.eye(place, dtype=dtype, device=device)


@_made_once
def second_sees_first(
    place: int, size: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "place place"]:
    """1 where a second half of a block of 2 x size places meets the first half of the same."""
    half = torch.arange(place, device=device) // size
    row, column = half[:, None], half[None, :]
    return ((row % 2 == 1) & (column == row - 1)).to(dtype)


def halves(
    decay: Float[Tensor, "... place k"],
) -> Iterator[tuple[Tensor, _Spread, _Spread, Tensor]]:
    """Blocks of two places, then of four, and so on: products of decays without a quotient.

    Of each: pairs of a second half's place and a first half's, what takes places from the start of
    a block on, what takes them to its end, and the decay all through it.
    """
    place, size = decay.shape[-2], 1
    while size < place:
        first, second = decay.unflatten(-2, (-1, 2)).unbind(-2)
        ones, decay = torch.ones_like(first), first * second
        pairs = second_sees_first(place, size, decay.dtype, decay.device)
        yield pairs, _spread(size, ones, first), _spread(size, second, ones), decay
        size *= 2


def _spread(size: int, *factors: Tensor) -> _Spread:
    of_halves = torch.stack(factors, dim=-2).flatten(-3, -2).unsqueeze(-2)
    return lambda x: (x.unflatten(-2, (-1, size)) * of_halves).flatten(-3, -2)


@_made_once
def seen_and_before(
    place: int, read_first: bool, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "2*place place"]:
    """1 where a query sees j: j <= t, or j < t if it is read first; below it 1 where j < t."""
    before = torch.ones(place, place, dtype=dtype, device=device).tril(-1)
    seen = before if read_first else before + identity(place, dtype, device)
    return torch.cat([seen, before])

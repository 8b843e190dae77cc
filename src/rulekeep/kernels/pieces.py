"""A recurrent layer, one cache-sized piece of time at a time.

    y, state = layer(x, state)      is      y_i, state = layer(x_i, state)  for each piece x_i

The last pieces keep their intermediate values: 65,536 rows at width 64. Of those before only `x`
and the state before each piece are kept, and the backward pass computes each piece again. So a
layer holds its input, a state every few thousand rows and what those last pieces compute.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rulekeep.kernels.autocast import by_hand, cast_as_now

# Rows of a piece: what it computes stays in a core's cache.
_ROWS_AT_ONCE = 4096
# Numbers of the input whose pieces keep all: some 340 MiB a layer.
_NUMBERS_KEPT = 2**22


def in_pieces(
    module: nn.Module,
    advance: Callable[..., tuple[Tensor, ...]],
    x: Float[Tensor, "batch time width"],
    state: Sequence[Tensor],
    *,
    multiple: int,
) -> tuple[Tensor, ...]:
    """`y, *state = advance(x, *state)`, in successive cache-sized pieces of time.

    Of all but the last pieces only `x` and the state before each are kept: the backward pass
    computes them again. `advance` is a method of `module` and uses no other tensors with gradients.
    """
    batch, time, _ = x.shape
    length = max(1, _ROWS_AT_ONCE // (max(1, batch) * multiple)) * multiple
    if time <= multiple:
        return advance(x, *state)
    cuts, outputs = _cuts(time, length, multiple), list[Tensor]()
    first = max(0, len(cuts) - _NUMBERS_KEPT // max(1, x[:, :length].numel()))
    if first:
        trained = [one for one in module.parameters() if one.requires_grad]
        again = Again(module, advance.__func__, trained)  # type: ignore[attr-defined]
        y, *state = _InPieces.apply(  # type: ignore[no-untyped-call]
            again, cuts[:first], len(state), x[:, : cuts[first - 1].stop], *state, *trained
        )
        outputs.append(y)
    for cut in cuts[first:]:
        y, *state = advance(x[:, cut].contiguous(), *state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), *state


class Again:
    """A method of a module, to be called with others in the place of its parameters.

    Of a copy that shares all else: by the backward pass the module may be another, and another
    thread may use it meanwhile.
    """

    def __init__(
        self,
        module: nn.Module,
        method: Callable[..., tuple[Tensor, ...]],
        parameters: Sequence[Tensor],
    ) -> None:
        self._module, self._method = _copied(module), method
        numbers = {id(one): number for number, one in enumerate(parameters)}
        # One parameter may stand in two places.
        self._places = [
            (part._parameters, name, numbers[id(one)])
            for part in self._module.modules()
            for name, one in part._parameters.items()
            if id(one) in numbers
        ]

    def under(self, parameters: Sequence[Tensor], *given: Tensor) -> tuple[Tensor, ...]:
        """What the method gives with these parameters."""
        for places, name, number in self._places:
            places[name] = parameters[number]  # type: ignore[assignment]
        return self(*given)

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        """What the method gives."""
        return self._method(self._module, *given)


def _copied(module: nn.Module) -> nn.Module:
    """The module and its parts, with parameters in places of their own."""
    other = module.__new__(type(module))
    parts = {
        name: None if part is None else _copied(part) for name, part in module._modules.items()
    }
    other.__dict__.update(module.__dict__, _parameters=dict(module._parameters), _modules=parts)
    return other


def _cuts(time: int, length: int, multiple: int) -> list[slice]:
    """Pieces of whole chunks, and a last one with the rest."""
    whole = time - time % multiple
    starts = [*range(0, whole, length), *([whole] if whole < time else [])]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], time], strict=True)]


class _InPieces(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        again: Again,
        cuts: list[slice],
        count: int,
        x: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        state, kept = rest[:count], list[Tensor]()
        y = torch.empty_like(x)
        for cut in cuts:
            kept += state
            y[:, cut], *state = again(x[:, cut].contiguous(), *state)  # type: ignore[assignment]
        ctx.again, ctx.cuts, ctx.count = again, cuts, count
        ctx.cast = cast_as_now(x.device.type)
        ctx.save_for_backward(x, *rest[count:], *kept)
        return y, *state

    @staticmethod
    @by_hand
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *others = ctx.saved_tensors
        states = len(ctx.cuts) * ctx.count
        kept = others[-states:]
        # Others of the same values: hooks of the module's own run once, on their whole gradient.
        parameters = [one.detach().requires_grad_() for one in others[:-states]]
        grad_x, of_state = torch.empty_like(x), list(grads[1:])
        sums: list[Tensor | None] = [None] * len(parameters)
        for i in reversed(range(len(ctx.cuts))):
            cut = ctx.cuts[i]
            before = kept[i * ctx.count : (i + 1) * ctx.count]
            leaves = [part.detach().requires_grad_() for part in (x[:, cut].contiguous(), *before)]
            with torch.enable_grad(), ctx.cast():
                outputs = ctx.again.under(parameters, *leaves)
            found = torch.autograd.grad(
                outputs, [*leaves, *parameters], [grads[0][:, cut], *of_state], allow_unused=True
            )
            grad_x[:, cut] = found[0]
            of_state = [
                torch.zeros_like(part) if grad is None else grad
                for grad, part in zip(found[1 : 1 + ctx.count], before, strict=True)
            ]
            for j, grad in enumerate(found[1 + ctx.count :]):
                if grad is not None:
                    total = sums[j]
                    # Two parameters may have one gradient.
                    sums[j] = grad if total is None else total + grad
        return None, None, None, grad_x, *of_state, *sums

"""The layers around a mixer in a block, computed in cache-sized pieces of rows.

    z = x + mixed
    y = norm_out(r + W2 gelu(W1 norm_mixed(z) + b1) + b2)        (exact GELU)

with r = norm_mixed(z), as in `torch.nn.TransformerEncoderLayer`, or r = z. Without `norm_out` and
with r = z it is the pre-norm block of today's language models.

The hidden layer of a long batch is by far its largest tensor. On a CPU, storing and reading it
costs more than computing it. So it is never kept: each piece of rows passes through while it is in
the cache, and the backward pass computes it again. The parameters are those of the `torch.nn`
modules that it is built from.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.kernels.autocast import by_hand, uncast

# Fewer make more calls, more fall out of the cache: between 1,024 and 8,192 all are alike.
_ROWS_AT_ONCE = 4096


def feed_forward(
    x: Float[Tensor, "... width"],
    mixed: Float[Tensor, "... width"],
    norm_mixed: nn.LayerNorm,
    expand: nn.Linear,
    contract: nn.Linear,
    norm_out: nn.LayerNorm | None,
    *,
    add_normed: bool,
) -> Float[Tensor, "... width"]:
    """The values and gradients of the formula, in far less memory; `add_normed` chooses r."""
    modules: list[nn.LayerNorm | nn.Linear] = [norm_mixed, expand, contract]
    if norm_out is not None:
        modules.append(norm_out)
    z = (x + mixed).reshape(-1, x.shape[-1]).contiguous()
    # In one precision throughout: pieces are written into room made for them.
    with uncast(x.device.type):
        z = z.to(expand.weight.dtype)
        eps = norm_mixed.eps, 0.0 if norm_out is None else norm_out.eps
        parameters = [one for module in modules for one in (module.weight, module.bias)]
        if torch.is_grad_enabled():
            y: Tensor = _FeedForward.apply(z, add_normed, eps, *parameters)  # type: ignore[no-untyped-call]
        else:
            y, _ = _computed(z, add_normed, eps, *parameters)
    return y.view(x.shape)


def _computed(
    z: Tensor, add_normed: bool, eps: tuple[float, float], *parameters: Tensor
) -> tuple[Tensor, Tensor]:
    """The formula, and the sum before the last norm."""
    norm_weight, norm_bias, expand, expand_bias, contract, contract_bias = parameters[:6]
    out = parameters[6:]
    total = torch.empty_like(z)
    y = torch.empty_like(z) if out else total
    room = _room(z, expand)
    for z_now, total_now, y_now in _pieces(z, total, y):
        normed = F.layer_norm(z_now, z.shape[1:], norm_weight, norm_bias, eps[0])
        before = torch.addmm(expand_bias, normed, expand.T, out=room[: len(z_now)])
        torch.add(normed if add_normed else z_now, contract_bias, out=total_now)
        total_now.addmm_(torch.ops.aten.gelu_(before), contract.T)
        if out:
            y_now.copy_(F.layer_norm(total_now, z.shape[1:], out[0], out[1], eps[1]))
    return y, total


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, add_normed: bool, eps: tuple[float, float], *parameters: Tensor
    ) -> Tensor:
        y, total = _computed(z, add_normed, eps, *parameters)
        ctx.save_for_backward(z, total if parameters[6:] else z, *parameters)
        ctx.add_normed, ctx.eps = add_normed, eps
        return y

    @staticmethod
    @by_hand
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        z, total, *parameters = ctx.saved_tensors
        expand, expand_bias, contract, _ = parameters[2:6]
        grad_z = torch.empty_like(z)
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        of_expand, of_expand_bias, of_contract, of_bias = sums[2:6]
        first, second = _room(z, expand), _room(z, expand)
        for z_now, total_now, grad_y, grad_now in _pieces(z, total, grads[0], grad_z):
            normed = _Norm(z_now, parameters[:2], ctx.eps[0])
            grad_total = grad_y
            if sums[6:]:
                norm_out = _Norm(total_now, parameters[6:], ctx.eps[1])
                grad_total = norm_out.backward(grad_y, sums[6:])
            before = torch.addmm(expand_bias, normed.y, expand.T, out=first[: len(z_now)])
            hidden = torch.ops.aten.gelu.out(before, out=second[: len(z_now)])
            of_contract.addmm_(grad_total.T, hidden)
            of_bias += grad_total.sum(0)
            grad_hidden = torch.mm(grad_total, contract, out=hidden)
            grad_before = _gelu_backward(grad_hidden, before, grad_input=before)
            of_expand.addmm_(grad_before.T, normed.y)
            of_expand_bias += grad_before.sum(0)
            if ctx.add_normed:
                grad_normed = torch.addmm(grad_total, grad_before, expand)
                grad_now.copy_(normed.backward(grad_normed, sums[:2]))
            else:
                grad_normed = grad_before @ expand
                torch.add(grad_total, normed.backward(grad_normed, sums[:2]), out=grad_now)
        return grad_z, None, None, *sums


_gelu_backward = torch.ops.aten.gelu_backward.grad_input


class _Norm:
    """LayerNorm of a piece of rows, computed again in the backward pass."""

    def __init__(self, x: Tensor, parameters: Sequence[Tensor], eps: float) -> None:
        self.x, self.parameters = x, parameters
        weight, bias = parameters
        self.y, *self.moments = torch.native_layer_norm(x, x.shape[1:], weight, bias, eps)

    def backward(self, grad: Tensor, sums: Sequence[Tensor]) -> Tensor:
        """The gradient of x; those of weight and bias are added to `sums`."""
        grad_x: Tensor
        grad_x, *grads = torch.ops.aten.native_layer_norm_backward(
            grad, self.x, self.x.shape[1:], *self.moments, *self.parameters, [True] * 3
        )
        for total, part in zip(sums, grads, strict=True):
            total += part
        return grad_x


def _room(x: Tensor, expand: Tensor) -> Tensor:
    """A buffer for the hidden layer of one piece, shared by all pieces."""
    return x.new_empty(min(_ROWS_AT_ONCE, len(x)), len(expand))


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.split(_ROWS_AT_ONCE) for tensor in tensors), strict=True)

"""The delta rule over chunks of tokens, with its backward pass by hand.

    S ← Diag(a_t) S                         a_t = exp(g_t), g_t ≤ 0: a scalar or a key channel each
    S ← S + β_t k_t (v_t − Sᵀ k_t)ᵀ
    o_t = Sᵀ q_t

A chunk starts from S_0. With b_t = a_1 … a_t, rows q' = b q, k' = b k, k'' = k / b, and a = b_C:

    A = tril(k' k''ᵀ, −1)    P = tril(q' k''ᵀ)    R = (I + Diag(β) A)⁻¹
    E = Diag(a) k''ᵀ R Diag(β)
    S_C = M S_0 + E v        M = Diag(a) − E k'                   one small product a chunk in turn
    x = v − k' S_0           D = R Diag(β) x      o = q' S_0 + P D

P = tril(q' k''ᵀ, −1) where a token reads before it writes. D is what the chunk writes, row by row;
h = x − A D is what it would write if every β were 1.
With δ for gradients, chunks in reverse:

    y = Rᵀ Pᵀ δo                    δS_0 = Mᵀ δS_C + q'ᵀ δo − k'ᵀ Diag(β) y
    G = y + Rᵀ k'' Diag(a) δS_C     δv = Diag(β) G     δβ = sum of G h over a row
    δP = tril(δo Dᵀ)         δA = −tril(δv Dᵀ, −1)
    δq' = δP k'' + δo S_0ᵀ   δk' = δA k'' − δv S_0ᵀ
    δk'' = δPᵀ q' + δAᵀ k' + D (Diag(a) δS_C)ᵀ     δ log a = sum of δS_C S_C over a row

q' and k' lie in one tensor, queries above keys, so that most products serve both. The quotient
k / b needs a chunk that leaves at least exp(−40); the caller takes another way where one does not.

Glossary: tokens `[batch, time, heads, k]`; in chunks `[chunk, batch, heads, place, k]`, with
the first three as one in what goes through batched products.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rulekeep.kernels.autocast import by_hand
from rulekeep.kernels.triangle import identity, invert_unit_triangles, seen_and_before

Readers: TypeAlias = Float[Tensor, "chunk batch heads 2 place k"]


def delta_rule(
    readers: Readers,
    values: Tensor,
    write: Tensor,
    memory: Tensor,
    log_decay_sums: Tensor | None,
    read_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """What is read, as tokens, and the memory after the last.

    `read_first`: a token reads before it writes. `log_decay_sums` are the sums of log-decays since
    the start of each chunk, the token's own included, one channel a head or one a key channel.
    """
    found: tuple[Tensor, Tensor] = _DeltaRule.apply(  # type: ignore[no-untyped-call]
        readers, values, write, memory, log_decay_sums, read_first
    )
    return found


def unit_readers(queries_keys: Float[Tensor, "batch time 2*heads k"], place: int) -> Readers:
    """silu(x) / |silu(x)|, in chunks: queries above keys."""
    readers: Tensor = _UnitReaders.apply(queries_keys, place, 1e-6)  # type: ignore[no-untyped-call]
    return readers


class _UnitReaders(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, place: int, eps: float) -> Tensor:
        batch, time, heads, width = x.shape
        h = F.silu(x)
        scale = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
        scale.mul_(scale).add_(eps).rsqrt_()
        readers = x.new_empty(time // place, batch, heads // 2, 2, place, width)
        torch.mul(_halves(h, place), _halves(scale, place), out=readers)
        ctx.save_for_backward(x, readers, scale)
        return readers

    @staticmethod
    @by_hand
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, readers, scale = ctx.saved_tensors
        place = readers.shape[-2]
        along = (readers * grads[0]).sum(-1, keepdim=True)
        of_h = torch.addcmul(grads[0], readers, along, value=-1)
        grad = torch.empty_like(x)
        torch.mul(of_h, _halves(scale, place), out=_halves(grad, place))
        return torch.ops.aten.silu_backward.grad_input(grad, x, grad_input=grad), None, None


def _halves(x: Tensor, place: int) -> Tensor:
    """[batch, time, 2*heads, k] seen as [chunk, batch, heads, 2, place, k]."""
    x = x.unflatten(2, (2, -1)).unflatten(1, (-1, place))
    return x.permute(1, 0, 4, 3, 2, 5)


class _DeltaRule(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        readers: Tensor,
        values: Tensor,
        write: Tensor,
        memory: Tensor,
        sums: Tensor | None,
        read_first: bool,
    ) -> tuple[Tensor, Tensor]:
        *sizes, _, place, width = readers.shape
        ctx.sizes, ctx.read_first = sizes, read_first
        v, beta = (in_chunks(x, place).contiguous().flatten(0, 2) for x in (values, write))
        since_start = total = None
        if sums is None:
            both = readers.flatten(3, 4).flatten(0, 2)
            upward = both[:, place:]
        else:
            since_start = sums.exp()
            both = (readers * since_start.unsqueeze(3)).flatten(3, 4).flatten(0, 2)
            upward = (readers[:, :, :, 1] / since_start).flatten(0, 2)
            total = since_start[..., -1:, :].flatten(0, 2).mT
        keys = both[:, place:]
        scores = torch.bmm(both, upward.mT)
        scores *= seen_and_before(place, ctx.read_first, scores.dtype, scores.device)
        inverse = invert_unit_triangles(scores[:, place:] * beta)
        ends = torch.bmm(upward.mT, inverse)
        kept = identity(width, v.dtype, v.device).expand(len(v), -1, -1)
        if total is not None:
            ends *= total
            kept = kept * total
        writers = ends * beta.mT
        kept = torch.baddbmm(kept, writers, keys, alpha=-1)
        states = v.new_empty(sizes[0] + 1, *memory.flatten(0, 1).shape)
        states[0] = memory.flatten(0, 1)
        added = torch.bmm(writers, v).view_as(states[1:])
        carry_into(states.unbind(), added, kept.unflatten(0, added.shape[:2]), step=torch.baddbmm)
        before = states[:-1].flatten(0, 1)
        read = torch.bmm(both, before)
        missing = read[:, place:]
        missing -= v
        change = torch.bmm(inverse, missing * -beta)
        read.baddbmm_(scores, change)
        ctx.save_for_backward(
            both, upward, beta, scores, inverse, ends, kept, states, change, read, since_start
        )
        return _to_tokens(read[:, :place], sizes), states[-1].clone().view_as(memory)

    @staticmethod
    @by_hand
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (both, upward, beta, scores, inverse, ends, kept, states, change, read, since_start) = (
            ctx.saved_tensors
        )
        grad_out, grad_memory = outer
        sizes, place = ctx.sizes, upward.shape[1]
        before = states[:-1].flatten(0, 1)
        grad_read = in_chunks(grad_out, place).contiguous().flatten(0, 2)
        # Of what is read, above; of what is missing, with its sign turned, below.
        grads = torch.empty_like(read)
        grads[:, :place] = grad_read
        solved = torch.bmm(inverse.mT, torch.bmm(scores[:, :place].mT, grad_read))
        minus = -beta
        torch.mul(solved, minus, out=grads[:, place:])
        every = torch.empty_like(states)
        every[-1] = grad_memory.flatten(0, 1)
        added = torch.bmm(both.mT, grads).view_as(states[1:])
        carry_into(
            every.unbind(),
            added,
            kept.mT.unflatten(0, added.shape[:2]),
            step=torch.baddbmm,
            back=True,
        )
        of_end = every[1:].flatten(0, 1)
        solved.baddbmm_(ends.mT, of_end)
        torch.mul(solved, minus, out=grads[:, place:])
        grad_values = _to_tokens(grads[:, place:], sizes).neg_()
        solved *= read[:, place:]
        grad_write = solved.sum(-1, keepdim=True).neg_()
        grad_scores = torch.bmm(grads, change.mT)
        grad_scores *= seen_and_before(place, ctx.read_first, scores.dtype, scores.device)
        grad_both = torch.bmm(grad_scores, upward)
        grad_both.baddbmm_(grads, before.mT)
        grad_upward = torch.bmm(grad_scores.mT, both)
        grad_sums = None
        if since_start is None:
            grad_upward.baddbmm_(change, of_end.mT)
            grad_both[:, place:] += grad_upward
        else:
            since = since_start.flatten(0, 2)
            grad_upward.baddbmm_(change, (of_end * since[:, -1:].mT).mT)
            of_sums = both * grad_both
            of_sums = of_sums[:, :place] + of_sums[:, place:]
            of_sums.addcmul_(grad_upward, upward, value=-1)
            of_total = (of_end * states[1:].flatten(0, 1)).sum(-1).unsqueeze(1)
            if since.shape[-1] == 1:
                of_sums, of_total = (x.sum(-1, keepdim=True) for x in (of_sums, of_total))
            of_sums[:, -1:] += of_total
            grad_sums = of_sums.view_as(since_start)
            grad_both = grad_both.view(-1, 2, *upward.shape[1:]) * since.unsqueeze(1)
            grad_both[:, 1] += grad_upward.div_(since)
        return (
            grad_both.view(*sizes, 2, *upward.shape[1:]),
            grad_values,
            _to_tokens(grad_write, sizes),
            every[0].view(*sizes[1:], *states.shape[2:]),
            grad_sums,
            None,
        )


def carry_into(
    states: Sequence[Tensor],
    added: Tensor,
    kept: Tensor,
    *,
    step: Callable[..., Tensor],
    back: bool = False,
) -> None:
    """S ← kept S + added from a state to the next, or back from the last; written into `states`.

    `step` is `torch.baddbmm` if `kept` has a matrix a chunk, `torch.addcmul` if it has factors.
    """
    steps = list(zip(added.unbind(), kept.unbind(), strict=True))
    if back:
        steps, states = steps[::-1], states[::-1]
    for (add, keep), before, after in zip(steps, states[:-1], states[1:], strict=True):
        step(add, keep, before, out=after)


def in_chunks(
    x: Float[Tensor, "batch time heads k"], place: int
) -> Float[Tensor, "chunk batch heads place k"]:
    """A view of whole chunks."""
    chunks: Tensor = x.unflatten(1, (-1, place))
    return chunks.permute(1, 0, 3, 2, 4)


def _to_tokens(
    x: Float[Tensor, "chunk*batch*heads place k"], sizes: Sequence[int]
) -> Float[Tensor, "batch time heads k"]:
    chunks, batch, heads = sizes
    tokens = x.new_empty(batch, chunks * x.shape[1], heads, x.shape[2])
    in_chunks(tokens, x.shape[1]).copy_(x.unflatten(0, sizes))
    return tokens

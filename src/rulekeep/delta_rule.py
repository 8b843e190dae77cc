"""The delta rule over chunks of tokens, with its backward pass by hand.

    S ← Diag(a_t) S                         a_t = exp(g_t), g_t ≤ 0: a scalar or a key channel each
    S ← S + β_t k_t (v_t − Sᵀ k_t)ᵀ
    o_t = Sᵀ q_t

A chunk starts from S_0. With b_t = a_1 … a_t, rows q' = b q, k' = b k, k'' = k / b, and a = b_C:

    A = tril(k' k''ᵀ, −1)    P = tril(q' k''ᵀ)    R = (I + Diag(β) A)⁻¹    E = a k''ᵀ R Diag(β)
    S_C = M S_0 + E v        M = Diag(a) − E k'                   one small product a chunk in turn
    x = v − k' S_0           D = R Diag(β) x      o = q' S_0 + P D

D is what the chunk writes, row by row; h = x − A D is what it would write if every β were 1.
With δ for gradients, chunks in reverse:

    y = Rᵀ Pᵀ δo             δS_0 = Mᵀ δS_C + q'ᵀ δo − k'ᵀ Diag(β) y
    G = y + Rᵀ (a k'')ᵀᵀ δS_C               δv = Diag(β) G        δβ = sum of G h over a row
    δP = tril(δo Dᵀ)         δA = −tril(δv Dᵀ, −1)
    δq' = δP k'' + δo S_0ᵀ   δk' = δA k'' − δv S_0ᵀ
    δk'' = δPᵀ q' + δAᵀ k' + D (a δS_C)ᵀ    δ log a = sum of δS_C S_C over a row

q' and k' lie in one tensor, queries above keys, so that most products serve both. The quotient
k / b needs a chunk that leaves at least exp(−40); the caller takes another way where one does not.

Glossary: tokens `[batch, time, heads, k]`; in chunks `[chunk, batch, heads, place, k]`, with
the first three as one in what goes through batched products.
"""

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

def delta_rule(q,k,v,beta,memory,sums,chunk):
    return _DeltaRule.apply(q,k,v,beta,memory,sums,chunk)


class _DeltaRule(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, write: Tensor, memory: Tensor, sums: Tensor | None, place: int) -> tuple[Tensor, Tensor]:
        batch, time, heads, width = keys.shape
        ctx.sizes = sizes = time // place, batch, heads
        both = keys.new_empty(*sizes, 2, place, width)
        q, k = in_chunks(queries, place), in_chunks(keys, place)
        v, beta = (in_chunks(x, place).contiguous() for x in (values, write))
        v, beta = v.flatten(0, 2), beta.flatten(0, 2)
        total = since_start = None
        if sums is None:
            both[:, :, :, 0], both[:, :, :, 1] = q, k
            both = both.flatten(3,4).flatten(0, 2)
            upward = both[:, place:]
        else:
            since_start = sums.exp()
            torch.mul(q, since_start, out=both[:, :, :, 0])
            torch.mul(k, since_start, out=both[:, :, :, 1])
            both = both.flatten(3,4).flatten(0, 2)
            upward = (k / since_start).flatten(0, 2)
            total = since_start[..., -1:, :].flatten(0, 2).mT
        readers = both[:, place:]
        scores = torch.bmm(both, upward.mT)
        scores *= _sees(place, scores.dtype, scores.device)
        inverse = unit_inverse(scores[:, place:] * beta)
        ends = torch.bmm(upward.mT, inverse)
        if total is not None:
            ends *= total
        writers = ends * beta.mT
        kept = _one(width, v.dtype, v.device).expand(len(v), -1, -1)
        if total is not None:
            kept = kept * total
        kept = torch.baddbmm(kept, writers, readers, alpha=-1)
        states = v.new_empty(sizes[0] + 1, batch * heads, width, v.shape[-1])
        states[0] = memory.flatten(0, 1)
        if len(states) > 1:
            added = torch.bmm(writers, v)
            every = states.unbind()
            for add, keep, before, after in zip(added.view_as(states[1:]).unbind(), kept.view(*states.shape[:2], width, width)[:0].unbind() if False else kept.view(sizes[0], -1, width, width).unbind(), every[:-1], every[1:], strict=True):
                torch.baddbmm(add, keep, before, out=after)
        before = states[:-1].flatten(0, 1)
        read = torch.bmm(both, before)
        missing = read[:, place:]
        missing -= v
        change = torch.bmm(inverse, missing * -beta)
        read.baddbmm_(scores, change)
        outputs = to_tokens(read[:, :place], sizes)
        ctx.save_for_backward(both, upward, beta, scores, inverse, ends, kept, states, change, read, since_start, total)
        return outputs, states[-1].view_as(memory)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, grad_memory: Tensor) -> tuple[Tensor | None, ...]:
        both, upward, beta, scores, inverse, ends, kept, states, change, read, since_start, total = ctx.saved_tensors
        sizes = ctx.sizes
        place, width = upward.shape[1:]
        readers, before = both[:, place:], states[:-1].flatten(0, 1)
        grads = read.new_empty(read.shape)
        grad_o = in_chunks(grad_out, place).contiguous().flatten(0, 2)
        grads[:, :place] = grad_o
        solved = torch.bmm(inverse.mT, torch.bmm(scores[:, :place].mT, grad_o))
        negative = -beta
        torch.mul(solved, negative, out=grads[:, place:])
        # carry, in reverse
        every = torch.empty_like(states)
        every[-1] = grad_memory.flatten(0, 1)
        back = torch.bmm(both.mT, grads).view_as(states[1:])
        list_ = every.unbind()
        for add, keep, after, b4 in zip(reversed(back.unbind()), reversed(kept.mT.view(sizes[0], -1, width, width).unbind()) , reversed(list_[1:]), reversed(list_[:-1]), strict=True):
            torch.baddbmm(add, keep, after, out=b4)
        of_end = every[1:].flatten(0, 1)
        solved.baddbmm_(ends.mT, of_end)
        torch.mul(solved, negative, out=grads[:, place:])
        grad_v = to_tokens(grads[:, place:], sizes, sign=-1)
        grad_beta = torch.mul(solved, read[:, place:], out=solved).sum(-1, keepdim=True).neg_()
        grad_scores = torch.bmm(grads, change.mT)
        grad_scores *= _sees(place, scores.dtype, scores.device)
        grad_both = torch.bmm(grad_scores, upward)
        grad_both.baddbmm_(grads, before.mT)
        grad_up = torch.bmm(grad_scores.mT, both)
        grad_up.baddbmm_(change, (of_end if total is None else of_end * total).mT)
        grad_sums = None
        if since_start is not None:
            since = since_start.flatten(0, 2)
            w = both * grad_both
            w = (w[:, :place] + w[:, place:]).addcmul_(grad_up, upward, value=-1)
            of_total = of_end * states[1:].flatten(0, 1)
            if since.shape[-1] == 1:
                w, of_total = w.sum(-1, keepdim=True), of_total.sum((1, 2), keepdim=True)
            else:
                of_total = of_total.sum(-1, keepdim=True).mT
            w[:, -1:] += of_total
            grad_sums = w.view_as(since_start)
            grad_q = grad_both[:, :place] * since
            grad_k = (grad_both[:, place:] * since).addcdiv_(grad_up, since)
        else:
            grad_q = grad_both[:, :place]
            grad_k = grad_up.add_(grad_both[:, place:])
        return to_tokens(grad_q, sizes), to_tokens(grad_k, sizes), grad_v, to_tokens(grad_beta, sizes), list_[0].view(*sizes[1:], *states.shape[2:]), grad_sums, None


def in_chunks(x, place):
    return x.unflatten(1, (-1, place)).permute(1, 0, 3, 2, 4)


def to_tokens(x, sizes, sign=1):
    chunks, batch, heads = sizes
    tokens = x.new_empty(batch, chunks * x.shape[1], heads, x.shape[2])
    out, x = in_chunks(tokens, x.shape[1]), x.unflatten(0, sizes)
    if sign < 0:
        torch.neg(x, out=out)
    else:
        out.copy_(x)
    return tokens


@lru_cache(maxsize=64)
def _sees(place, dtype, device):
    with torch.inference_mode(False):
        one = torch.ones(place, place, dtype=dtype, device=device)
        return torch.cat([one.tril(), one.tril(-1)])


@lru_cache(maxsize=64)
def _one(place, dtype, device):
    with torch.inference_mode(False):
        return torch.eye(place, dtype=dtype, device=device)


@lru_cache(maxsize=64)
def _second_sees_first(place, size, dtype, device):
    with torch.inference_mode(False):
        half = torch.arange(place, device=device) // size
        row, column = half[:, None], half[None, :]
        return ((row % 2 == 1) & (column == row - 1)).to(dtype)


def unit_inverse(flat: Tensor) -> Tensor:
    place, size, kind = flat.shape[-1], 2, (flat.dtype, flat.device)
    inverse = torch.addcmul(_one(place, *kind), flat, _second_sees_first(place, 1, *kind), value=-1)
    corner, product = torch.empty_like(flat), torch.empty_like(flat)
    while size < place // 2:
        torch.mul(flat, _second_sees_first(place, size, *kind), out=corner)
        torch.bmm(inverse, corner, out=product)
        inverse.baddbmm_(product, inverse.clone(), alpha=-1) if False else inverse.sub_(torch.bmm(product, inverse, out=corner))
        size *= 2
    if size < place:
        first, second = slice(size), slice(size, place)
        solved = inverse[:, second, second] @ flat[:, second, first]
        torch.neg(solved @ inverse[:, first, first], out=inverse[:, second, first])
    return inverse

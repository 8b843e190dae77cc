"""A matrix memory per head over many tokens, by matrix products over chunks of them.

    S ← Diag(a_t) S                         a_t = exp(g_t), g_t ≤ 0: a scalar or a key channel each
    S ← S + k_t u_tᵀ                        u_t = v_t, or β_t (v_t − Sᵀ k_t): the delta rule
    o_t = Sᵀ q_t

Within a chunk that starts from S_0, with a(j, t] the product of the decays after j up to t:

    o_t = S_0ᵀ (a(0, t] q_t) + sum_{j ≤ t} (q_t · a(j, t] k_j) u_j
    (I + Diag(β) A) u = Diag(β) (v − (a(0, ·] k) S_0),  A_tj = k_t · a(j, t] k_j  for j < t

so what a chunk does to the memory is S_C = M S_0 + B, with M and B made of products over the
chunk: all chunks at once; then one small product a chunk in turn. (Chunks: Yang et al. 2024,
arXiv 2312.06635 and 2406.06484.)

a(j, t] is a(0, t] / a(0, j] as long as a chunk leaves at least exp(−40) in every channel. As soon
as one does not, no quotient is formed: chunks are halved again and again, and what a second half
sees of the first is (decay since the middle) × (decay up to the middle), both products of factors
in [0, 1]. A decay of 0 is as good as any other.

Glossary: tokens `[batch, time, heads, k]`; in chunks `[chunk, batch, heads, place, k]`. What
all heads, all chunks or all sequences share may have a size of 1 there.
"""

from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rulekeep.kernels.autocast import by_hand
from rulekeep.kernels.delta_rule import carry_into, delta_rule, in_chunks, unit_readers
from rulekeep.kernels.triangle import halves, unit_triangular_inverse

Tokens: TypeAlias = Float[Tensor, "batch time heads k"]
Chunks: TypeAlias = Float[Tensor, "chunk batch heads place k"]
Memory: TypeAlias = Float[Tensor, "batch heads k v"]


class Read(NamedTuple):
    """What is read at every token, and the memory after the last."""

    outputs: Tokens
    memory: Memory


def linear_chunks(
    queries: Tokens,
    keys: Tokens,
    values: Tokens,
    memory: Memory,
    *,
    log_decay: Tokens | None = None,
    chunk: int,
) -> Read:
    """Writes u_t = v_t. `log_decay` has one channel per head or one per key channel.

    A log-decay with one row and one time applies to every token. Queries and keys of one head apply
    to every head, if the decays are scalars.
    """
    chunk = fitting(chunk, queries.shape[1])
    q, k, v = (_to_chunks(x, chunk) for x in (queries, keys, values))
    seen = _decayed(q, k, _decay_chunks(log_decay, queries.shape[1], chunk))
    states = carry(memory, seen.keys_to_end.mT @ v, seen.total)
    outputs = seen.query_scores @ v + seen.queries @ states[:-1]
    return Read(_to_tokens(outputs, queries.shape[1]), states[-1].clone())


def delta_unit(
    queries_keys: Tokens,
    values: Tokens,
    write: Tokens,
    memory: Memory,
    *,
    log_decay: Tokens | None = None,
    chunk: int = 16,
    read_first: bool = False,
) -> Read:
    """Writes u_t = β_t (v_t − Sᵀ k_t). `write` is β, one channel a head; decays as above.

    `read_first`: a token reads the memory before it writes.
    Queries and keys are silu(x) / |silu(x)|.
    """
    time = values.shape[1]
    chunk = fitting(chunk, time)
    sums = _decay_sums(log_decay, chunk)
    if log_decay is not None and sums is None:
        queries, keys = unit(F.silu(queries_keys)).chunk(2, dim=-2)
        return delta_chunks(
            queries, keys, keys, values, write, memory,
            log_decay=log_decay, chunk=chunk, read_first=read_first,
        )  # fmt: skip
    readers = unit_readers(padded(queries_keys, chunk), chunk)
    outputs, memory = delta_rule(
        readers, padded(values, chunk), padded(write, chunk), memory, sums, read_first
    )
    return Read(outputs[:, :time], memory)


def delta_chunks(
    queries: Tokens,
    erasers: Tokens,
    keys: Tokens,
    values: Tokens,
    write: Tokens,
    memory: Memory,
    *,
    log_decay: Tokens,
    chunk: int = 16,
    read_first: bool = False,
) -> Read:
    """Writes u_t = β_t (v_t − Sᵀ e_t) at k_t; e_t is its eraser. Any decays, 0 included."""
    chunk = fitting(chunk, values.shape[1])
    q, e, k, v, beta = (_to_chunks(x, chunk) for x in (queries, erasers, keys, values, write))
    decay = _decay_chunks(log_decay, queries.shape[1], chunk)
    seen = _decayed(q, k, decay, e)
    assert seen.key_scores is not None
    assert seen.keys is not None
    inverse = unit_triangular_inverse(beta * seen.key_scores) * beta.mT
    widths = [v.shape[-1], e.shape[-1]]
    # What a chunk writes is U − W S_0; both at once, side by side.
    solved = inverse @ torch.cat([v, seen.keys], dim=-1)
    added, taken = (seen.keys_to_end.mT @ solved).split(widths, dim=-1)
    kept = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
    states = carry(memory, added, kept * seen.total - taken)
    scores = seen.query_scores.tril(-1) if read_first else seen.query_scores
    own, corrected = (scores @ solved).split(widths, dim=-1)
    outputs = own + (seen.queries - corrected) @ states[:-1]
    return Read(_to_tokens(outputs, queries.shape[1]), states[-1].clone())


def token_loop(
    queries: Tokens,
    keys: Tokens,
    values: Tokens,
    memory: Memory,
    *,
    log_decay: Tokens | None = None,
    write: Tokens | None = None,
    erasers: Tokens | None = None,
    read_first: bool = False,
) -> Read:
    """The formula, a token at a time: the reference of all chunks. Without `write` u_t is v_t."""
    time, heads = values.shape[1:3]
    queries, keys = (x.expand(-1, -1, heads, -1) for x in (queries, keys))
    erasers = keys if erasers is None else erasers
    decay = None if log_decay is None else log_decay.exp().expand(-1, time, -1, -1)
    outputs = []
    for t in range(time):
        if decay is not None:
            memory = decay[:, t, :, :, None] * memory
        if read_first:
            outputs.append(_read(memory, queries[:, t]))
        change = values[:, t]
        if write is not None:
            change = write[:, t] * (change - _read(memory, erasers[:, t]))
        memory = torch.addcmul(memory, keys[:, t, :, :, None], change.unsqueeze(-2))
        if not read_first:
            outputs.append(_read(memory, queries[:, t]))
    return Read(torch.stack(outputs, dim=1), memory)


def _read(memory: Memory, readers: Float[Tensor, "batch heads k"]) -> Tensor:
    return (readers.unsqueeze(-2) @ memory).squeeze(-2)


# exp(40) times the square of a number of 1e10 is still far from the end of float32.
_LEAST = -40.0


def leaves_enough(log_decay: Tensor) -> bool:
    """Whether these decays from start to end of a chunk may be divided by."""
    return bool(log_decay.detach().min() > _LEAST)


class _Seen(NamedTuple):
    """What the places of a chunk see of each other, of its start and of its end."""

    query_scores: Tensor  # q_t · a(j, t] k_j for j <= t
    key_scores: Tensor | None  # e_t · a(j, t] k_j for j < t
    queries: Chunks  # a(0, t] q_t
    keys: Chunks | None  # a(0, t] e_t
    keys_to_end: Chunks  # a(t, C] k_t
    total: Tensor  # a(0, C], [..., k or 1, 1]


def _decayed(
    q: Chunks, k: Chunks, log_decay: Chunks | None, readers: Chunks | None = None
) -> _Seen:
    if log_decay is None:
        return _Seen(_lower(q @ k.mT), None, q, None, k, k.new_ones((1,) * 5))
    if leaves_enough(log_decay.sum(-2)):
        return _decayed_evenly(q, readers, k, log_decay)
    return _decayed_at_all(q, readers, k, log_decay.exp())


def _lower(scores: Tensor) -> Tensor:
    # A product with a mask takes a third of the time of torch's tril of a batch.
    return scores * scores.new_ones(scores.shape[-2:]).tril()


def _decayed_evenly(q: Chunks, readers: Chunks | None, k: Chunks, log_decay: Chunks) -> _Seen:
    """Decays that leave something at the end of a chunk: a(j, t] is a quotient from its start."""
    place = log_decay.shape[-2]
    sums = q.new_ones(place, place).tril() @ log_decay
    since_start = sums.exp()
    q = q * since_start
    total = since_start[..., -1:, :]
    upward = k * sums.neg().exp()
    scores = None
    if readers is not None:
        readers = readers * since_start
        scores = (readers @ upward.mT).tril(-1)
    return _Seen(_lower(q @ upward.mT), scores, q, readers, upward * total, total.mT)


def _decayed_at_all(q: Chunks, readers: Chunks | None, k: Chunks, decay: Chunks) -> _Seen:
    """Any decays, 0 included: by halves, without a quotient."""
    query_scores = torch.diag_embed((q * k).sum(-1))
    key_scores = torch.zeros_like(query_scores) if readers is not None else None
    # From the start of a block, to its end, and all through it.
    q = q * decay
    readers = None if readers is None else readers * decay
    total = decay
    for pairs, since_start, to_end, total in halves(decay):  # noqa: B007 - the last one counts
        query_scores = torch.addcmul(query_scores, q @ k.mT, pairs)
        if readers is not None and key_scores is not None:
            key_scores = torch.addcmul(key_scores, readers @ k.mT, pairs)
            readers = since_start(readers)
        q, k = since_start(q), to_end(k)
    return _Seen(query_scores, key_scores, q, readers, k, total.mT)


def carry(
    memory: Memory, added: Float[Tensor, "chunk batch heads k v"], kept: Tensor
) -> Float[Tensor, "chunk+1 batch heads k v"]:
    """S ← kept S + added, chunk after chunk: the memory before each, and after the last.

    `kept` is a matrix `[..., k, k]`, or factors `[..., k, 1]` or `[..., 1, 1]`, of each chunk.
    """
    kept = kept.expand(*added.shape[:3], -1, -1)
    states: Tensor = _Carry.apply(  # type: ignore[no-untyped-call]
        memory.flatten(0, 1), added.flatten(1, 2), kept.flatten(1, 2)
    )
    return states.view(-1, *memory.shape)


class _Carry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, memory: Tensor, added: Tensor, kept: Tensor) -> Tensor:
        states = added.new_empty(len(added) + 1, *added.shape[1:])
        states[0] = memory
        step = torch.baddbmm if kept.shape[-1] > 1 else torch.addcmul
        carry_into(states.unbind(), added, kept, step=step)
        ctx.save_for_backward(states, kept)
        return states

    @staticmethod
    @by_hand
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        states, kept = ctx.saved_tensors
        total = torch.empty_like(states)
        total[-1] = grads[0][-1]
        matrix = kept.shape[-1] > 1
        step = torch.baddbmm if matrix else torch.addcmul
        by = kept.mT if matrix else kept
        carry_into(total.unbind(), grads[0][:-1], by, step=step, back=True)
        of_kept = None
        if ctx.needs_input_grad[2]:
            of_kept = (
                total[1:] @ states[:-1].mT
                if matrix
                else (total[1:] * states[:-1]).sum_to_size(kept.shape)
            )
        return total[0], total[1:], of_kept


def fitting(chunk: int, time: int) -> int:
    """The chunk, or the power of two that holds a shorter piece."""
    return min(chunk, 1 << (time - 1).bit_length())


def _decay_chunks(log_decay: Tokens | None, time: int, chunk: int) -> Chunks | None:
    if log_decay is None:
        return None
    # Beyond exp(-60) nothing is left in any precision, and -inf would make NaN of a sum.
    log_decay = log_decay.clamp(min=-60.0)
    if log_decay.shape[1] < time:
        log_decay = log_decay.expand(-1, time if time % chunk else chunk, -1, -1)
    return _to_chunks(log_decay, chunk)


def _decay_sums(log_decay: Tokens | None, chunk: int) -> Chunks | None:
    """Sums since the start of a chunk; None without decay or where a chunk leaves too little."""
    if log_decay is None:
        return None
    decays = _to_chunks(log_decay, chunk)
    sums = decays.new_ones(chunk, chunk).tril() @ decays
    return sums if leaves_enough(sums[..., -1, :]) else None


def padded(x: Tokens, chunk: int) -> Tokens:
    return F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % chunk)) if x.shape[1] % chunk else x


def _to_chunks(x: Tokens, chunk: int) -> Chunks:
    return in_chunks(padded(x, chunk), chunk).contiguous()


def _to_tokens(x: Chunks, time: int) -> Tokens:
    return x.permute(1, 0, 3, 2, 4).flatten(1, 2)[:, :time]


def unit(x: Float[Tensor, "... k"], eps: float = 1e-6) -> Float[Tensor, "... k"]:
    """X / sqrt(|x|² + eps), with a backward pass in few operations."""
    if not torch.is_grad_enabled():
        return x * _scale(x, eps)
    y: Tensor = _Unit.apply(x, eps)  # type: ignore[no-untyped-call]
    return y


def _scale(x: Tensor, eps: float) -> Tensor:
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.rsqrt(length * length + eps)


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        scale = _scale(x, eps)
        y: Tensor = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @by_hand
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        y, scale = ctx.saved_tensors
        along = (y * grads[0]).sum(-1, keepdim=True)
        grad: Tensor = torch.addcmul(grads[0], y, along, value=-1)
        grad *= scale
        return grad, None

"""Slots of keys and values, each with a gate of its own, by matrix products over chunks of tokens.

    K_i ← a_ti K_i + (1 − a_ti) k_t,   V_i ← a_ti V_i + (1 − a_ti) v_t      for every slot i
    o_t = sum_i softmax_i(K_i · q_t) V_i

Two passes of gated linear attention (Zhang et al. 2024, arXiv 2409.07146). Within a chunk that
starts from K and V, with a(j, t] the product of a slot's gates after j up to t:

    scores_ti = a_i(0, t] (K_i · q_t) + sum_{j ≤ t} (q_t · k_j) a_i(j, t] (1 − a_ji)
    p_t       = softmax_i(scores_t)
    o_t       = sum_i p_ti a_i(0, t] V_i + sum_{j ≤ t} (sum_i p_ti a_i(j, t] (1 − a_ji)) v_j

a_i(j, t] is (decay from the start of a span up to t) × (1 / decay up to j) as long as a chunk
leaves at least exp(−40) in every slot; then the backward pass is written out, too. As soon as one
does not, no quotient is formed: the places
of a chunk are halved again and again, and what a second half sees of the first is (decay since the
middle) × (decay up to the middle). A gate of 0 is as good as any other.

Glossary: tokens `[batch, time, heads, k]`; in chunks `[chunk, batch, heads, place, k]`.
"""

from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from rulekeep.kernels.autocast import by_hand
from rulekeep.kernels.chunks import Chunks, Tokens, carry, fitting, leaves_enough, padded
from rulekeep.kernels.delta_rule import carry_into, in_chunks
from rulekeep.kernels.triangle import halves

Gates: TypeAlias = Float[Tensor, "batch time heads slots"]
Keys: TypeAlias = Float[Tensor, "batch heads slots k"]
Values: TypeAlias = Float[Tensor, "batch heads slots v"]


class SlotRead(NamedTuple):
    """What was read at every token, and the slots after the last."""

    outputs: Tokens
    keys: Keys
    values: Values


def slot_chunks(
    queries: Tokens,
    keys: Tokens,
    values: Tokens,
    log_gate: Gates,
    slot_keys: Keys,
    slot_values: Values,
    *,
    chunk: int,
) -> SlotRead:
    """`log_gate` is ln a, at most 0; queries come scaled; `chunk` is a power of two."""
    time = queries.shape[1]
    chunk = fitting(chunk, time)
    # Beyond exp(-60) nothing is left in any precision, and -inf would make NaN of a sum.
    tokens = [padded(x, chunk) for x in (queries, keys, values, log_gate.clamp(min=-60.0))]
    inputs = (*tokens, slot_keys, slot_values)
    if leaves_enough(tokens[3].unflatten(1, (-1, chunk)).sum(2)):
        outputs, *slots = _EvenSlots.apply(*inputs, chunk)  # type: ignore[no-untyped-call]
    else:
        outputs, *slots = _any_slots(*inputs, chunk=chunk)
    return SlotRead(outputs[:, :time], *slots)


def slot_loop(
    queries: Tokens,
    keys: Tokens,
    values: Tokens,
    log_gate: Gates,
    slot_keys: Keys,
    slot_values: Values,
) -> SlotRead:
    """The formula, a token at a time: the reference of `slot_chunks`."""
    outputs = []
    for t in range(queries.shape[1]):
        keep, write = log_gate[:, t].exp(), -log_gate[:, t].expm1()
        slot_keys = keep[..., None] * slot_keys + write[..., None] * keys[:, t, :, None]
        slot_values = keep[..., None] * slot_values + write[..., None] * values[:, t, :, None]
        scores = queries[:, t].unsqueeze(-2) @ slot_keys.mT
        outputs.append((scores.softmax(-1) @ slot_values).squeeze(-2))
    return SlotRead(torch.stack(outputs, dim=1), slot_keys, slot_values)


class _EvenSlots(torch.autograd.Function):
    """Gates that leave something at the end of a chunk, forward and backward in few operations.

    Tokens come in whole chunks; inside, `[chunk · batch · heads, place, …]`. The state of keys and
    values, `[…, slots, k + v]`, goes from chunk to chunk at once. Gradients are named `of_…`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tokens,
        keys: Tokens,
        values: Tokens,
        log_gate: Gates,
        slot_keys: Keys,
        slot_values: Values,
        chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.chunk, ctx.shape = chunk, queries.shape
        batch, time, heads, _ = queries.shape
        ctx.widths = widths = [keys.shape[-1], values.shape[-1]]
        chunks = time // chunk
        q, gate = _to_places(queries, chunk), _to_places(log_gate, chunk)
        kv = _to_places((keys, values), chunk)
        k, v = kv.split(widths, -1)
        lower = q.new_ones(chunk, chunk).tril()
        sums = lower @ gate
        reads, writes = sums.exp(), sums.neg().exp_().mul_(gate.expm1().neg_())
        total = reads[:, -1, :, None]
        to_end = writes * reads[:, -1:]
        added = to_end.mT @ kv
        states = added.new_empty(chunks + 1, batch * heads, *added.shape[1:])
        states[0] = torch.cat([slot_keys, slot_values], -1).flatten(0, 1)
        carry_into(
            states.unbind(),
            *(x.view(chunks, batch * heads, *x.shape[1:]) for x in (added, total)),
            step=torch.addcmul,
        )
        held_keys, held_values = states[:-1].flatten(0, 1).split(widths, -1)
        products = (q @ k.mT).mul_(lower)
        scores = (q @ held_keys.mT).baddbmm_(products, writes)
        weights = (scores * reads).softmax(-1)
        reading = weights * reads
        seen = (reading @ writes.mT).mul_(lower)
        outputs = (seen @ v).baddbmm_(reading, held_values)
        ctx.save_for_backward(
            q, kv, gate, sums, reads, writes, states, products, scores, weights, reading, seen
        )
        last = states[-1].unflatten(0, (batch, heads)).split(widths, -1)
        return _to_time(outputs, batch, heads, chunks), last[0].clone(), last[1].clone()

    @staticmethod
    @by_hand
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, kv, gate, sums, reads, writes, states, products, *rest = ctx.saved_tensors
        scores, weights, reading, seen = rest
        (batch, time, heads, _), chunk, widths = ctx.shape, ctx.chunk, ctx.widths
        chunks, lower = time // chunk, q.new_ones(chunk, chunk).tril()
        k, v = kv.split(widths, -1)
        before = states[:-1].flatten(0, 1)
        held_keys, held_values = before.split(widths, -1)
        of_outputs = _to_places(grads[0], chunk)
        of_seen = (of_outputs @ v.mT).mul_(lower)
        of_reading = (of_seen @ writes).baddbmm_(of_outputs, held_values.mT)
        of_writes = of_seen.mT @ reading
        of_reads = of_reading * weights
        of_scores: Tensor = torch.ops.aten._softmax_backward_data(
            of_reading.mul_(reads), weights, -1, weights.dtype
        )
        of_reads.addcmul_(of_scores, scores)
        of_scores *= reads
        of_writes.baddbmm_(products.mT, of_scores)
        of_products = (of_scores @ writes.mT).mul_(lower)
        of_q = (of_products @ k).baddbmm_(of_scores, held_keys)

        # Of the state before each chunk, and after the last: what is read of it, and what it
        # leaves to the next.
        of_states = torch.empty_like(states)
        of_states[-1] = torch.cat(grads[1:3], -1).flatten(0, 1)
        read = torch.cat([of_scores.mT @ q, reading.mT @ of_outputs], -1)
        parts = (x.view(chunks, batch * heads, *x.shape[1:]) for x in (read, reads[:, -1, :, None]))
        carry_into(of_states.unbind(), *parts, step=torch.addcmul, back=True)
        of_after = of_states[1:].flatten(0, 1)
        of_after_keys, of_after_values = of_after.split(widths, -1)
        to_end = writes * reads[:, -1:]
        # Not into parts of a whole: torch would take one small product after another.
        of_k = (of_products.mT @ q).baddbmm_(to_end, of_after_keys)
        of_v = (seen.mT @ of_outputs).baddbmm_(to_end, of_after_values)
        of_to_end = kv @ of_after.mT
        of_reads[:, -1] += (of_after * before).sum(-1) + (of_to_end * writes).sum(-2)
        of_writes.addcmul_(of_to_end, reads[:, -1:])

        # reads = exp(sums), writes = (1 − exp(gate)) exp(−sums).
        of_sums = of_reads.mul_(reads).addcmul_(of_writes, writes, value=-1)
        of_gate = (lower.mT @ of_sums).addcmul_(of_writes, (gate - sums).exp_(), value=-1)
        first = of_states[0].unflatten(0, (batch, heads)).split(widths, -1)
        of_tokens = (_to_time(x, batch, heads, chunks) for x in (of_q, of_k, of_v, of_gate))
        return *of_tokens, *first, None


def _to_places(parts: Tensor | tuple[Tensor, ...], chunk: int) -> Tensor:
    """Tokens as `[chunk · batch · heads, place, k]`; several side by side."""
    parts = (parts,) if isinstance(parts, Tensor) else parts
    views = [in_chunks(x, chunk) for x in parts]
    out = views[0].new_empty(*views[0].shape[:-1], sum(x.shape[-1] for x in views))
    for x, room in zip(views, out.split([x.shape[-1] for x in views], -1), strict=True):
        room.copy_(x)
    return torch.flatten(out, 0, 2)


def _to_time(x: Tensor, batch: int, heads: int, chunks: int) -> Tokens:
    x = x.view(chunks, batch, heads, *x.shape[1:])
    return x.permute(1, 0, 3, 2, 4).contiguous().flatten(1, 2)


def _any_slots(
    queries: Tokens,
    keys: Tokens,
    values: Tokens,
    log_gate: Gates,
    slot_keys: Keys,
    slot_values: Values,
    *,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Any gates, 0 included: by halves, without a quotient."""
    q, k, v, log_gate = (in_chunks(x, chunk) for x in (queries, keys, values, log_gate))
    reach = _reach(log_gate)
    states = carry(
        torch.cat([slot_keys, slot_values], dim=-1),
        reach.to_end.mT @ torch.cat([k, v], dim=-1),
        reach.total.mT,
    )
    key_states, value_states = states.split([k.shape[-1], v.shape[-1]], dim=-1)
    products = q @ k.mT
    scores = (q @ key_states[:-1].mT) * reach.from_start
    for level in reach.levels:
        scores = torch.addcmul(scores, (products * level.mask) @ level.writes, level.reads)
    weights = scores.softmax(-1)
    seen = torch.zeros_like(products)
    for level in reach.levels:
        seen = torch.addcmul(seen, (weights * level.reads) @ level.writes.mT, level.mask)
    outputs = seen @ v + (weights * reach.from_start) @ value_states[:-1]
    outputs = outputs.permute(1, 0, 3, 2, 4).flatten(1, 2)
    return outputs, key_states[-1], value_states[-1]


class _Level(NamedTuple):
    """Pairs of places (t, j) in `mask`: a(j, t] (1 − a_j) is reads_t × writes_j for these."""

    mask: Float[Tensor, "place place"]
    reads: Chunks
    writes: Chunks


class _Reach(NamedTuple):
    """How much of what is written at a place is left at another, slot by slot."""

    levels: list[_Level]
    from_start: Chunks  # a(0, t]
    to_end: Chunks  # a(t, C] (1 − a_t)
    total: Chunks  # a(0, C], one place


def _reach(log_gate: Chunks) -> _Reach:
    gate, writes, place = log_gate.exp(), -log_gate.expm1(), log_gate.shape[-2]
    levels = [
        _Level(torch.eye(place, dtype=gate.dtype, device=gate.device), gate.new_ones(1), writes)
    ]
    # From the start of a block, to its end, and all through it.
    from_start, to_end, total = gate, writes, gate
    for pairs, spread_on, spread_back, total in halves(gate):  # noqa: B007 - the last one counts
        levels.append(_Level(pairs, from_start, to_end))
        from_start, to_end = spread_on(from_start), spread_back(to_end)
    return _Reach(levels, from_start, to_end, total)

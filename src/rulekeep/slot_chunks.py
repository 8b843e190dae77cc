"""Slots of keys and values, each with a gate of its own, by matrix products over chunks of tokens.

    K_i ← a_ti K_i + (1 − a_ti) k_t,   V_i ← a_ti V_i + (1 − a_ti) v_t      for every slot i
    o_t = sum_i softmax_i(K_i · q_t) V_i

Two passes of gated linear attention (Zhang et al. 2024, arXiv 2409.07146). Within a chunk that
starts from K and V, with a(j, t] the product of a slot's gates after j up to t:

    scores_ti = a_i(0, t] (K_i · q_t) + sum_{j ≤ t} (q_t · k_j) a_i(j, t] (1 − a_ji)
    p_t       = softmax_i(scores_t)
    o_t       = sum_i p_ti a_i(0, t] V_i + sum_{j ≤ t} (sum_i p_ti a_i(j, t] (1 − a_ji)) v_j

a_i(j, t] is (decay from the start of a span up to t) × (1 / decay up to j) as long as a chunk
leaves at least exp(−40) in every slot. As soon as one does not, no quotient is formed: the places
of a chunk are halved again and again, and what a second half sees of the first is (decay since the
middle) × (decay up to the middle). A gate of 0 is as good as any other.

Glossary: tokens `[batch, time, heads, k]`; in chunks `[chunk, batch, heads, place, k]`.
"""

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rulekeep.chunks import carry

Tokens: TypeAlias = Float[Tensor, "batch time heads k"]
Gates: TypeAlias = Float[Tensor, "batch time heads slots"]
Keys: TypeAlias = Float[Tensor, "batch heads slots k"]
Values: TypeAlias = Float[Tensor, "batch heads slots v"]
Chunks: TypeAlias = Float[Tensor, "chunk batch heads place k"]

# As for the matrix memories: exp(40) times a number of 1e10, squared, is still in float32.
_LEAST = -40.0


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
    time, key_width = queries.shape[1], keys.shape[-1]
    chunk = min(chunk, 1 << (time - 1).bit_length())
    # Beyond exp(-60) nothing is left in any precision, and -inf would make NaN of a sum.
    q, k, v, log_gate = (
        _to_chunks(x, chunk) for x in (queries, keys, values, log_gate.clamp(min=-60.0))
    )
    reach = _reach(log_gate)
    both = torch.cat([k, v], dim=-1)
    states = carry(
        torch.cat([slot_keys, slot_values], dim=-1), reach.to_end.mT @ both, reach.total.mT
    )
    key_states, value_states = states.split([key_width, v.shape[-1]], dim=-1)
    products = q @ k.mT
    scores = (q @ key_states[:-1].mT) * reach.from_start
    for level in reach.levels:
        scores = torch.addcmul(scores, (products * level.mask) @ level.writes, level.reads)
    weights = scores.softmax(-1)
    seen = torch.zeros_like(products)
    for level in reach.levels:
        seen = torch.addcmul(seen, (weights * level.reads) @ level.writes.mT, level.mask)
    outputs = seen @ v + (weights * reach.from_start) @ value_states[:-1]
    outputs = outputs.permute(1, 0, 3, 2, 4).flatten(1, 2)[:, :time]
    return SlotRead(outputs, key_states[-1], value_states[-1])


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
        scores = torch.einsum("bhsk,bhk->bhs", slot_keys, queries[:, t])
        outputs.append(torch.einsum("bhs,bhsv->bhv", scores.softmax(-1), slot_values))
    return SlotRead(torch.stack(outputs, dim=1), slot_keys, slot_values)


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
    writes = -log_gate.expm1()
    place = log_gate.shape[-2]
    lower = log_gate.new_ones(place, place).tril()
    if log_gate.detach().sum(-2).min() > _LEAST:
        sums = lower @ log_gate
        from_start = sums.exp()
        upward = writes * sums.neg().exp()
        total = from_start[..., -1:, :]
        return _Reach([_Level(lower, from_start, upward)], from_start, upward * total, total)
    gate = log_gate.exp()
    levels = [
        _Level(torch.eye(place, dtype=gate.dtype, device=gate.device), gate.new_ones(1), writes)
    ]
    # From the start of a block of `size` places, to its end, and all through it.
    from_start, to_end, total, size = gate, writes, gate, 1
    half = torch.arange(place, device=gate.device)
    while size < place:
        row, column = half[:, None] // size, half // size
        mask = ((row % 2 == 1) & (column == row - 1)).to(gate.dtype)
        levels.append(_Level(mask, from_start, to_end))
        first, second = total.unflatten(-2, (-1, 2)).unbind(-2)
        ones = torch.ones_like(first)
        before = torch.stack([ones, first], dim=-2).flatten(-3, -2).unsqueeze(-2)
        after = torch.stack([second, ones], dim=-2).flatten(-3, -2).unsqueeze(-2)
        from_start = (from_start.unflatten(-2, (-1, size)) * before).flatten(-3, -2)
        to_end = (to_end.unflatten(-2, (-1, size)) * after).flatten(-3, -2)
        total = first * second
        size *= 2
    return _Reach(levels, from_start, to_end, total)


def _to_chunks(x: Tokens, chunk: int) -> Chunks:
    if x.shape[1] % chunk:
        x = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % chunk))
    x = x.unflatten(1, (-1, chunk)).permute(1, 0, 3, 2, 4)
    return x.contiguous()

"""Causal softmax attention (Vaswani et al. 2017, arXiv 1706.03762): the full context.

    o_t = sum_{i <= t} softmax_i(q_t · k_i / sqrt(head width)) v_i      per head

The state is the KV cache: it grows by 2 x width numbers a token. Parameters, and the
draws that initialise them, are those of `torch.nn.MultiheadAttention`, in its order.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.mixers.base import Mixer


class KVCache(NamedTuple):
    """Keys and values of every token so far."""

    keys: Float[Tensor, "batch heads past head_width"]
    values: Float[Tensor, "batch heads past head_width"]


class Attention(Mixer):
    """Multi-head causal attention without positions of its own."""

    def __init__(self, width: int, *, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads {heads}: must divide the width {width}")
        self.heads = heads
        self.head_width = width // heads
        self.out_projection = nn.Linear(width, width)
        self.in_projection = torch.nn.utils.skip_init(nn.Linear, width, 3 * width)
        nn.init.xavier_uniform_(self.in_projection.weight)
        nn.init.zeros_(self.in_projection.bias)
        nn.init.zeros_(self.out_projection.bias)

    def init_state(self, batch_size: int) -> KVCache:
        """An empty cache."""
        empty = self.out_projection.weight.new_zeros(batch_size, self.heads, 0, self.head_width)
        return KVCache(empty, empty)

    def forward(
        self, x: Float[Tensor, "batch time width"], state: KVCache | None = None
    ) -> tuple[Float[Tensor, "batch time width"], KVCache]:
        """Outputs at every position, and the cache with these tokens in it."""
        queries, keys, values = (self._split(part) for part in self.in_projection(x).chunk(3, -1))
        if state is not None and state.keys.shape[2]:
            keys = torch.cat([state.keys, keys], dim=2)
            values = torch.cat([state.values, values], dim=2)
        return self._merge(causal_attention(queries, keys, values)), KVCache(keys, values)

    def tail(
        self, x: Float[Tensor, "batch time width"], last: int
    ) -> Float[Tensor, "batch last width"]:
        """Keys and values of every position, queries of the last ones only."""
        query_rows, other_rows = self.in_projection.weight.tensor_split([x.shape[-1]])
        query_bias, other_bias = self.in_projection.bias.tensor_split([x.shape[-1]])
        queries = self._split(F.linear(x[:, -last:], query_rows, query_bias))
        keys, values = map(self._split, F.linear(x, other_rows, other_bias).chunk(2, -1))
        return self._merge(causal_attention(queries, keys, values))

    def _split(self, x: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch heads time k"]:
        return x.view(*x.shape[:2], self.heads, self.head_width).transpose(1, 2)

    def _merge(self, x: Float[Tensor, "batch heads time k"]) -> Float[Tensor, "batch time width"]:
        out: Tensor = self.out_projection(x.transpose(1, 2).flatten(-2))
        return out


def causal_attention(
    queries: Float[Tensor, "batch heads time k"],
    keys: Float[Tensor, "batch heads total k"],
    values: Float[Tensor, "batch heads total k"],
) -> Float[Tensor, "batch heads time k"]:
    """Attention of the last `time` of `total` positions, through torch's fused kernels.

    A whole sequence needs no mask tensor; a piece of one needs `[time, total]` booleans.
    """
    time, total = queries.shape[2], keys.shape[2]
    if time == total:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    mask = None
    if time > 1:
        mask = torch.ones(time, total, dtype=torch.bool, device=keys.device).tril(total - time)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


def causal_attention_loop(
    queries: Float[Tensor, "batch heads time k"],
    keys: Float[Tensor, "batch heads total k"],
    values: Float[Tensor, "batch heads total k"],
) -> Float[Tensor, "batch heads time k"]:
    """The formula, a position at a time: the reference of `causal_attention`."""
    time, total = queries.shape[2], keys.shape[2]
    outputs = []
    for t in range(time):
        seen = total - time + t + 1
        scores = torch.einsum("bhk,bhik->bhi", queries[:, :, t], keys[:, :, :seen])
        weights = torch.softmax(scores / math.sqrt(keys.shape[-1]), dim=-1)
        outputs.append(torch.einsum("bhi,bhik->bhk", weights, values[:, :, :seen]))
    return torch.stack(outputs, dim=2)

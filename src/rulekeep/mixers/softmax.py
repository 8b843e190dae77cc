"""What softmax attention over all of a text shares: projections, a short convolution, the cache.

    q, k, v = W x,  or  sum_{j < n} w_j · (W x)_{t−j}      a filter a channel, at first the identity

A mixer of this kind is what it does with queries and the cache: `attention.py`,
`forgetting_attention.py`. Parameters, and the draws that initialise them, are those of
`torch.nn.MultiheadAttention`, in its order.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rulekeep.mixers.base import Count, Mixer, Vectors, check_batch, extended


class KVCache(NamedTuple):
    """Keys and values of every token so far; keys are rotated if positions are rotary.

    Not if angles are scaled: a later token has another factor.
    """

    keys: Float[Tensor, "batch heads past head_width"]
    values: Float[Tensor, "batch heads past head_width"]


class SoftmaxMixer(Mixer):
    """Heads that each ask all keys so far."""

    def __init__(
        self, width: int, *, heads: Count = 4, conv_size: Annotated[int, Field(ge=2)] | None = None
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads {heads}: must divide the width {width}")
        self.heads, self.head_width = heads, width // heads
        self.out_projection = nn.Linear(width, width)
        self.in_projection = torch.nn.utils.skip_init(
            nn.Linear, width, 3 * width, device=self.out_projection.weight.device
        )
        nn.init.xavier_uniform_(self.in_projection.weight)
        nn.init.zeros_(self.in_projection.bias)
        nn.init.zeros_(self.out_projection.bias)
        self.filters = None
        if conv_size is not None:
            filters = torch.zeros(conv_size, 3 * width)
            filters[-1] = 1
            self.filters = nn.Parameter(filters)

    def init_state(self, batch_size: int) -> Any:
        """An empty cache; zeros before the first token of a convolution."""
        empty = self.out_projection.weight.new_zeros(batch_size, self.heads, 0, self.head_width)
        if self.filters is None:
            return KVCache(empty, empty)
        recent = self.filters.new_zeros(batch_size, len(self.filters) - 1, self.filters.shape[1])
        return extended(KVCache(empty, empty), recent=recent)

    def _asked(self, x: Vectors, state: Any) -> tuple[Float[Tensor, "batch heads time k"], Any]:
        """The queries, and the state with these tokens in its cache."""
        check_batch(x, state.keys)
        parts = self.in_projection(x)
        if self.filters is not None:
            seen = torch.cat([state.recent, parts], dim=1)
            parts = _convolved(seen, self.filters)
            state = state._replace(recent=seen[:, x.shape[1] :])
        queries, keys, values = (self._split(part) for part in parts.chunk(3, -1))
        past = state.keys.shape[2]
        queries, keys = self._at(past, queries, keys)
        if past:
            keys = torch.cat([state.keys, keys], dim=2)
            values = torch.cat([state.values, values], dim=2)
        return queries, state._replace(keys=keys, values=values)

    def _at(self, past: int, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys at their places, after `past` tokens."""
        return queries, keys

    @property
    def memory_half_life_tokens(self) -> float:
        """Nothing is forgotten."""
        return math.inf

    def _split(self, x: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch heads time k"]:
        return x.view(*x.shape[:2], self.heads, self.head_width).transpose(1, 2)

    def _merge(self, x: Float[Tensor, "batch heads time k"]) -> Float[Tensor, "batch time width"]:
        out: Tensor = self.out_projection(x.transpose(1, 2).flatten(-2))
        return out


def _convolved(
    x: Float[Tensor, "batch conv_size-1+time channels"],
    filters: Float[Tensor, "conv_size channels"],
) -> Float[Tensor, "batch time channels"]:
    time = x.shape[1] - len(filters) + 1
    # Products and sums apart: the fused ones of `matrix` round otherwise than our records did.
    return sum((x[:, tap : tap + time] * one for tap, one in enumerate(filters)), x.new_zeros(()))


# Numbers of a block of biases: 16 MB in float32.
_BIASES_AT_ONCE = 2**22


def in_blocks(
    attend: Callable[..., Tensor],
    rows: Sequence[Float[Tensor, "batch heads time *k"]],
    columns: Sequence[Float[Tensor, "batch heads total *k"]],
    *,
    biases: int,
) -> Float[Tensor, "batch heads time k"]:
    """`attend` of a block of the rows, and of the columns up to the last of these, at a time.

    `biases` are those of a query and a key. Those of a block are freed before the next block, and
    made again in the backward pass.
    """
    time, total = rows[0].shape[2], columns[0].shape[2]
    block = max(16, _BIASES_AT_ONCE // (biases * max(1, total)))
    outputs = []
    for start in range(0, time, block):
        end = total - time + min(start + block, time)
        seen = [one[:, :, start : start + block] for one in rows]
        seen += [one[:, :, :end] for one in columns]
        if time <= block:
            return attend(*seen)
        outputs.append(checkpoint(attend, *seen, use_reentrant=False, preserve_rng_state=False))
    return torch.cat(outputs, dim=2) if outputs else rows[0]

"""Forgetting attention, FoX (Lin et al. 2025, arXiv 2503.02130): softmax attention with a gate.

    f_t = sigmoid(w · x_t + b)                                                   per head
    o_t = sum_{i <= t} softmax_i(q_t · k_i / sqrt(head width) + sum_{i < l <= t} log f_l) v_i

It cannot let one key fade and keep another, and its state grows as that of attention does.

The gate takes the place of positions: of ALiBi it differs in that the text decides. b starts where
f has the half-life asked for; with `half_life_tokens=None` at 0, as published, which leaves half
after a token. `conv_size` is that of `attention`; the published layer at its best ("Pro") mixes
keys and values with those of the token before, norms queries and keys, and gates the output.

The state is the KV cache, and of each key the logarithm of what is left of it.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.mixers.base import Vectors, extended
from rulekeep.mixers.published import HalfLife, bias_of_half_life
from rulekeep.mixers.softmax import SoftmaxMixer, in_blocks


class ForgettingAttention(SoftmaxMixer):
    """Causal attention in which every head lets all keys fade, as much as the token says."""

    def __init__(
        self, width: int, *, half_life_tokens: HalfLife | None = 1024.0, **options: Any
    ) -> None:
        super().__init__(width, **options)
        self.forget = nn.Linear(width, self.heads)
        nn.init.zeros_(self.forget.bias)
        if half_life_tokens is not None:
            nn.init.constant_(self.forget.bias, bias_of_half_life(half_life_tokens))

    @property
    def memory_half_life_tokens(self) -> float:
        """Of the head that fades slowest, for inputs of zero."""
        return (-math.log(2) / F.logsigmoid(self.forget.bias).max()).item()

    def init_state(self, batch_size: int) -> Any:
        """An empty cache; `left` is the logarithm of what is left of each key."""
        empty = super().init_state(batch_size)
        return extended(empty, left=empty.keys.new_zeros(batch_size, self.heads, 0))

    def forward(self, x: Vectors, state: Any | None = None) -> tuple[Vectors, Any]:
        """Outputs at every position, and the cache with these tokens in it."""
        queries, after = self._asked(x, self.init_state(len(x)) if state is None else state)
        # Sums of many logarithms, whose differences count.
        gates = F.logsigmoid(self.forget(x)).double().transpose(1, 2)
        since = gates.cumsum(-1)
        start = torch.cat([-after.left.double(), since], dim=-1)
        rows, columns = (queries, since), (after.keys, after.values, start)
        y = self._merge(in_blocks(_attended, rows, columns, biases=len(x) * self.heads))
        if x.shape[1]:
            after = after._replace(left=(since[..., -1:] - start).to(x.dtype))
        return y, after


def _attended(
    queries: Tensor, since: Tensor, keys: Tensor, values: Tensor, start: Tensor
) -> Tensor:
    """Attention of the last queries, each score with what is left of its key."""
    time, total = queries.shape[2], keys.shape[2]
    later = torch.ones(time, total, dtype=torch.bool, device=keys.device).triu(total - time + 1)
    bias = (since[..., None] - start[..., None, :]).masked_fill(later, -math.inf)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias.to(queries.dtype))

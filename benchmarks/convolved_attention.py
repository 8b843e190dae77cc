"""A control for the exam: attention that sees its neighbours, as a gate of eight tokens does.

    rulekeep run --mixer benchmarks/convolved_attention.py:ConvolvedAttention --out RUNS …

Attention without positions hardly knows what stands beside a token, a cue before a rule for one;
`sparse_delta` has a gate that sees eight tokens. Here queries, keys and values go through a causal
filter a channel of eight taps, which starts as none (its own token 1, the seven before 0). All else
is `attention[positions=none]`.
"""

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rulekeep.mixers.attention import Attention


class ConvolvedCache(NamedTuple):
    """Keys and values of every token so far, and the filter's last inputs."""

    keys: Float[Tensor, "batch heads past head_width"]
    values: Float[Tensor, "batch heads past head_width"]
    recent: Float[Tensor, "batch taps-1 3*width"]


class ConvolvedAttention(Attention):
    """`attention[positions=none]` whose queries, keys and values see the tokens before."""

    version: ClassVar[int] = 1

    def __init__(self, width: int, *, heads: int = 4, taps: int = 8) -> None:
        super().__init__(width, heads=heads)
        filters = torch.zeros(taps, 3 * width)
        filters[-1] = 1
        self.filters = nn.Parameter(filters)

    def init_state(self, batch_size: int) -> ConvolvedCache:  # type: ignore[override]
        """An empty cache; zeros before the first token."""
        recent = self.filters.new_zeros(batch_size, len(self.filters) - 1, self.filters.shape[1])
        return ConvolvedCache(*super().init_state(batch_size), recent)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "batch time width"], state: ConvolvedCache | None = None
    ) -> tuple[Float[Tensor, "batch time width"], ConvolvedCache]:
        """Outputs at every position, and the cache with these tokens in it."""
        cache = self.init_state(x.shape[0]) if state is None else state
        seen = torch.cat([cache.recent, self.in_projection(x)], dim=1)
        parts = sum(
            seen[:, tap : tap + x.shape[1]] * filters for tap, filters in enumerate(self.filters)
        )
        queries, keys, values = (self._split(part) for part in parts.chunk(3, -1))
        if cache.keys.shape[2]:
            keys = torch.cat([cache.keys, keys], dim=2)
            values = torch.cat([cache.values, values], dim=2)
        recent = seen[:, seen.shape[1] - len(self.filters) + 1 :]
        return self._attend(queries, keys, values), ConvolvedCache(keys, values, recent)

    def tail(
        self, x: Float[Tensor, "batch time width"], last: int
    ) -> Float[Tensor, "batch last width"]:
        """All positions, of which the last are kept: the filter needs those before them."""
        return self.forward(x)[0][:, -last:]

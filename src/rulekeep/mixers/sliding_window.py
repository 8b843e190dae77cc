"""Sliding-window attention with sinks, StreamingLLM (Xiao et al. 2023, arXiv 2309.17453).

    cache of token t: the first S tokens, and the last W up to t
    o_t = sum_i softmax_i(q_t · k_i / sqrt(head width)) v_i        over the cache, per head

Whatever leaves the window is gone, except the sinks. With `positions="rotary"` queries and keys are
rotated by their places in the cache, not in the text, as published. So distances within the window
are true, and a sink is never further away than the cache is long. The cache holds unrotated keys of
at most S + W tokens.

It cannot read what has left the window, except the sinks.

In parallel a block of queries meets its own keys, the W before it and the sinks: time and memory
are linear in the text.
"""

import math
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.kernels.autocast import uncast
from rulekeep.kernels.pieces import in_pieces
from rulekeep.kernels.positions import Base, check_rotary, rotate
from rulekeep.mixers.base import Count, Ends, Mixer, Vectors, check_batch
from rulekeep.mixers.softmax import KVCache


class SlidingWindow(Mixer):
    """Attention to the last `window` tokens, the current one included, and to the first `sinks`.

    The default keeps 64 tokens.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: Count = 4,
        window: Count = 60,
        sinks: Annotated[int, Field(ge=0)] = 4,
        positions: Literal["none", "rotary"] = "none",
        rotary_base: Base = 10_000.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads {heads}: must divide the width {width}")
        self.heads, self.head_width = heads, width // heads
        if positions == "rotary":
            check_rotary(self.head_width)
        self.window, self.sinks = window, sinks
        self.rotary_base = rotary_base if positions == "rotary" else None
        self.in_projection = nn.Linear(width, 3 * width)
        self.out_projection = nn.Linear(width, width)
        for part in self.in_projection.weight.chunk(3):
            nn.init.xavier_uniform_(part)
        nn.init.zeros_(self.in_projection.bias)
        nn.init.zeros_(self.out_projection.bias)

    @property
    def memory_half_life_tokens(self) -> float:
        """The window: a token in it is kept whole, and afterwards it is gone."""
        return float(self.window)

    def init_state(self, batch_size: int) -> KVCache:
        """An empty cache."""
        empty = self.out_projection.weight.new_zeros(batch_size, self.heads, 0, self.head_width)
        return KVCache(empty, empty)

    def forward(self, x: Vectors, state: KVCache | None = None) -> tuple[Vectors, KVCache]:
        """Outputs at every position, and the cache after the last token."""
        if state is None:
            state = self.init_state(x.shape[0])
        check_batch(x, state.keys)
        if not x.numel():
            return x, state
        y, *after = in_pieces(self, self._advance, x, state, multiple=_BLOCK)
        return y, KVCache(*after)

    def tail(self, x: Vectors, last: int) -> Ends:
        """Outputs at the last positions, computed from the cache before them and from them."""
        start = x.shape[1] - last
        if start <= self.sinks + self.window:
            return super().tail(x, last)
        _, cache = self.forward(
            torch.cat([x[:, : self.sinks], x[:, start - self.window : start]], 1)
        )
        return self.forward(x[:, start:], cache)[0]

    def _advance(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        queries, keys, values = (
            F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for weight, bias in zip(
                self.in_projection.weight.chunk(3), self.in_projection.bias.chunk(3), strict=True
            )
        )
        # What is kept stays in the state's precision, and so do the scores.
        kind = state[0].dtype
        with uncast(x.device.type):
            read, cache = window_blocks(
                queries.to(kind),
                keys.to(kind),
                values.to(kind),
                KVCache(*state),
                window=self.window,
                sinks=self.sinks,
                rotary_base=self.rotary_base,
            )
        return self.out_projection(read.transpose(1, 2).flatten(-2)).to(x.dtype), *cache


# Queries of a block: more meet more keys in vain, fewer make smaller products.
_BLOCK = 32


def window_blocks(
    queries: Float[Tensor, "batch heads time k"],
    keys: Float[Tensor, "batch heads time k"],
    values: Float[Tensor, "batch heads time k"],
    cache: KVCache,
    *,
    window: int,
    sinks: int,
    rotary_base: float | None,
) -> tuple[Float[Tensor, "batch heads time k"], KVCache]:
    """Blocks of queries against a band of keys and the sinks, all blocks at once."""
    time, past = queries.shape[2], cache.keys.shape[2]
    keys, values = torch.cat([cache.keys, keys], 2), torch.cat([cache.values, values], 2)
    total = keys.shape[2]
    after = KVCache(*(_cached(x, window=window, sinks=sinks) for x in (keys, values)))

    block, sinks = min(_BLOCK, time), min(sinks, total)
    blocks = -(-time // block)
    # The band of the first block starts `window` tokens before it, or would.
    before = min(window, past)
    room = (0, 0, window - before, blocks * block - time)
    bands = [
        F.pad(x[:, :, past - before :], room).unfold(2, window + block, block).mT
        for x in (keys, values)
    ]
    queries = F.pad(queries, (0, 0, 0, blocks * block - time)).unflatten(2, (blocks, block))
    sink_queries, sink_keys = queries, keys[:, :, :sinks]

    # Places in a cache that is not full yet are places in the text; a full one moves along.
    device = queries.device
    place = past + torch.arange(blocks * block, device=device).view(blocks, block, 1)
    sink = torch.arange(sinks, device=device)
    back = torch.arange(window + block, device=device)
    distance = window + torch.arange(block, device=device)[:, None] - back
    in_text = torch.arange(blocks, device=device)[:, None] * block + back >= window - before
    seen = torch.cat(
        [
            ((distance >= 0) & (distance < window)) & in_text[:, None],
            place - sink >= window,
        ],
        dim=-1,
    )
    if rotary_base is not None:
        last = place.flatten().clamp(max=sinks + window - 1)
        sink_queries = rotate(queries.flatten(2, 3), last, rotary_base).view_as(queries)
        sink_keys = rotate(sink_keys, sink, rotary_base)
        queries = rotate(queries, back[window:], rotary_base)
        bands[0] = rotate(bands[0], back, rotary_base)
    scores = torch.cat(
        [queries @ bands[0].mT, sink_queries @ sink_keys.unsqueeze(2).mT], dim=-1
    ) / math.sqrt(queries.shape[-1])
    weights = scores.masked_fill(~seen, -math.inf).softmax(-1)
    of_band, of_sinks = weights.split([window + block, sinks], dim=-1)
    read = of_band @ bands[1] + of_sinks @ values[:, :, :sinks].unsqueeze(2)
    return read.flatten(2, 3)[:, :, :time], after


def _cached(x: Tensor, *, window: int, sinks: int) -> Tensor:
    if x.shape[2] <= sinks + window:
        return x
    return torch.cat([x[:, :, :sinks], x[:, :, -window:]], dim=2)

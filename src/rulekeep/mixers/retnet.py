"""Retention (Sun et al. 2023, arXiv 2307.08621): a fixed decay per head.

    S ← γ_h S + k vᵀ
    o = norm(Sᵀ q)                             per head, RMS norm

It cannot choose what to keep: a head fades at its pace, whatever the token says.

The paper's γ_h = 1 − 2^(−5−h) has half-lives that double from head to head: 22, 44, 88 and
177 tokens for 4 heads. Here the longest is given, and each head before it has half the next.
Deviations: no rotation of queries and keys by position (xPos), and the swish gate on the
output is an option, off by default.
"""

import torch
from torch import Tensor

from rulekeep.kernels.chunks import linear_chunks, linear_loop
from rulekeep.mixers.matrix import MatrixMixer, rate_of_half_life


class RetNet(MatrixMixer):
    """Sums of keys times values; each head has a fixed decay.

    `half_life_tokens=None` keeps everything: linear attention with φ(x) = x and a norm.
    """

    _log_decays: Tensor | None

    def __init__(
        self,
        width: int,
        *,
        heads: int = 4,
        key_width: int | None = None,
        half_life_tokens: float | None = 1024.0,
        output_gate: bool = False,
        short_convolution: bool = False,
        serial: bool = False,
    ) -> None:
        super().__init__(
            width,
            heads=heads,
            key_width=key_width,
            output_gate=output_gate,
            short_convolution=short_convolution,
            serial=serial,
        )
        decays = None
        if half_life_tokens is not None:
            pace = 2.0 ** torch.arange(heads - 1, -1, -1)
            decays = -rate_of_half_life(half_life_tokens) * pace
        self.register_buffer("_log_decays", decays)

    def _log_decay(self, x: Tensor) -> Tensor | None:
        return None if self._log_decays is None else self._log_decays.view(1, 1, self.heads, 1)

    def _read(
        self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor
    ) -> tuple[Tensor, *tuple[Tensor, ...]]:
        queries, keys = queries_keys.chunk(2, dim=-2)
        decay = self._log_decay(x)
        if self.serial:
            return linear_loop(queries, keys, values, state[0], log_decay=decay)
        return linear_chunks(queries, keys, values, state[0], log_decay=decay, chunk=self.chunk)

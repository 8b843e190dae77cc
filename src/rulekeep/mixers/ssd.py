"""State-space duality, Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): a scalar decay per head.

    Δ = softplus(w · x + b)                    per head
    S ← exp(−e^A Δ) S + Δ B xᵀ
    y = norm(Sᵀ C + D x)                       per head, RMS norm

It cannot replace what a key holds, nor keep one key longer than another: a head fades as a whole.

B and C (the keys and queries) are shared by all heads, as published; x are the values. Steps
start log-spaced from 0.001 to 0.1 over the heads; A starts so that every head has the half-life
asked for (published: A from 1 to 16, half-lives of 0.4 to 700 tokens).

`published=true`: values of twice the width, a convolution with bias, y = norm(silu(W x) · y) over
all channels, and the published start. Deviations: four heads, and 64 channels of keys at a width
of 64 where the published layer has 128 at every width: the same two for a channel of a head's
values. `gate_penalty` counts Δ.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.mixers.fading import Fading
from rulekeep.mixers.matrix import Found, GatedMixer
from rulekeep.mixers.published import OURS, PUBLISHED, rate_of_half_life, start_decays


class SSD(Fading, GatedMixer):
    """Mamba-2's core; `half_life_tokens=None` keeps everything and still scales writes by Δ."""

    forms = OURS._replace(shared_keys=True), PUBLISHED["ssd"]

    def _start(self, width: int, half_life_tokens: float | None, as_published: bool) -> None:
        steps = torch.logspace(-3, -1, self.heads)
        self.step = nn.Linear(width, self.heads)
        with torch.no_grad():
            # The inverse of softplus.
            self.step.bias.copy_(steps.expm1().log())
        self.skip = nn.Parameter(torch.ones(self.heads, 1))
        self.log_rate = None
        if as_published:
            self.log_rate = nn.Parameter(torch.empty(self.heads))
            start_decays(self.step.bias, self.log_rate, slowest=1.0)
        elif half_life_tokens is not None:
            rate = math.log(rate_of_half_life(half_life_tokens))
            self.log_rate = nn.Parameter(rate - steps.log())

    def _log_decay(self, x: Tensor) -> Tensor | None:
        return self._decay_of(F.softplus(self.step(x)))

    def _decay_of(self, step: Tensor) -> Tensor | None:
        return None if self.log_rate is None else -(self.log_rate.exp() * step).unsqueeze(-1)

    def _read(self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor) -> Found:
        memory, *due = state
        queries, keys = queries_keys.chunk(2, dim=-2)
        step = F.softplus(self.step(x))
        decay, writes = self._decay_of(step), step.unsqueeze(-1) * values
        read, memory = self._summed(queries, keys, writes, memory, decay)
        read = torch.addcmul(read, self.skip, values)
        return read, *(memory, *self._penalised(due, step))

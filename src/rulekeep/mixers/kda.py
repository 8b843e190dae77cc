"""Kimi delta attention (Kimi Team 2025, arXiv 2510.26692): the delta rule, a decay per channel.

    q, k = silu(W x) / |silu(W x)|,   β = sigmoid(w · x)      per head
    g = −e^A softplus(W₂ W₁ x + b)                            A per head, b per key channel
    S ← Diag(e^g) S
    S ← S + β k (v − Sᵀ k)ᵀ
    o = norm(Sᵀ q)                                            per head, RMS norm

It cannot hold more keys than a key has channels, however slowly they fade.

W₁ goes to as many channels as a head has. b starts at 0, and A where g gives the half-life
asked for. The gate on the output is an option.

`published=true`: the short convolution, the low-rank sigmoid gate on the output, and the published
start: e^A from 1 to 16, steps as in Mamba-2. `gate_penalty` counts β.

With `gate_kernel` β sees so many tokens, its own and those before (`matrix.DeltaMixer`).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.mixers.matrix import DeltaMixer, Heads, Penalty, rate_of_half_life
from rulekeep.mixers.published import OURS, PUBLISHED, DecayStart, start_decays, starts_as_published


class KDA(DeltaMixer):
    """The delta rule in a memory whose key channels each have a decay that depends on the token."""

    def __init__(
        self,
        width: int,
        *,
        heads: int = 4,
        key_width: int | None = None,
        half_life_tokens: float = 1024.0,
        gate_kernel: int = 1,
        gate_penalty: float = 0.0,
        penalty_start: int = 500,
        output_gate: bool = False,
        short_convolution: bool = False,
        published: bool = False,
        decay_start: DecayStart = None,
        serial: bool = False,
    ) -> None:
        parts = PUBLISHED["kda"] if published else OURS
        made = Heads(heads, key_width, output_gate, short_convolution, serial, parts)
        super().__init__(width, made, Penalty(gate_penalty, penalty_start), gate_kernel)
        up = nn.Linear(self.value_width, heads * self.key_width)
        nn.init.zeros_(up.bias)
        self.step = nn.Sequential(nn.Linear(width, self.value_width, bias=False), up)
        rate = rate_of_half_life(half_life_tokens) / math.log(2)
        self.log_rate = nn.Parameter(torch.full((heads, 1), math.log(rate)))
        if starts_as_published(published, decay_start):
            start_decays(up.bias, self.log_rate, slowest=1.0)

    def _log_decay(self, x: Tensor) -> Tensor:
        step: Tensor = F.softplus(self.step(x)).unflatten(-1, (self.heads, self.key_width))
        return -self.log_rate.exp() * step

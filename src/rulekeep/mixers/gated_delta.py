"""Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464): the delta rule with a scalar decay.

    q, k = silu(W x) / |silu(W x)|,   β = sigmoid(w · x)      per head
    g = −e^A softplus(w' · x + b)                             per head
    S ← e^g S
    S ← S + β k (v − Sᵀ k)ᵀ
    o = norm(Sᵀ q)                                            per head, RMS norm

It cannot let one key fade and keep another: a head fades as a whole.

b starts at 0, and A where g gives the requested half-life. (In the published code e^A is uniform in
0 to 16, with steps as in Mamba-2.)

`published=true`: keys of 0.75 and values of 1.5 times the width, the short convolution, the silu
gate on the output, and the published start. Deviation: e^A is uniform from 0.0001. `gate_penalty`
counts β. With `gate_kernel` β sees so many tokens, its own and those before
(`matrix.DeltaMixer`).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.mixers.fading import Fading
from rulekeep.mixers.matrix import DeltaMixer
from rulekeep.mixers.published import OURS, PUBLISHED, rate_of_half_life, start_decays


class GatedDelta(Fading, DeltaMixer):
    """The delta rule in a memory with a decay that depends on the token."""

    forms = OURS, PUBLISHED["gated_delta"]

    def _start(self, width: int, half_life_tokens: float | None, as_published: bool) -> None:
        self.step = nn.Linear(width, self.heads)
        nn.init.zeros_(self.step.bias)
        rate = rate_of_half_life(half_life_tokens) / math.log(2)
        self.log_rate = nn.Parameter(torch.full((self.heads,), math.log(rate)))
        if as_published:
            start_decays(self.step.bias, self.log_rate, slowest=1e-4)

    def _log_decay(self, x: Tensor) -> Tensor:
        return -(self.log_rate.exp() * F.softplus(self.step(x))).unsqueeze(-1)

"""Gated linear attention, GLA (Yang et al. 2024, arXiv 2312.06635): a decay per key channel.

    α = sigmoid(W₂ W₁ x + b)^(1/16)            W₁ to 16 channels
    S ← Diag(α) S + k vᵀ
    o = norm(Sᵀ q)                             per head, RMS norm

It cannot replace what a key holds: it can only let channels of it fade, and write on top.

b starts where α has the half-life asked for (published: b = 0 gives 16 tokens).

`published=true`: keys of half the width, the silu gate on the output, and b = 0. The published
layer has no short convolution; its later comparisons add one (`short_convolution=true`).

`gate_penalty` counts 1 − α of every key channel: there is no other gate, as every token writes at
full strength.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.mixers.fading import Fading
from rulekeep.mixers.matrix import Found, GatedMixer
from rulekeep.mixers.published import OURS, PUBLISHED, bias_of_half_life

_ROOT = 16
_RANK = 16


class GatedLinear(Fading, GatedMixer):
    """Sums of keys times values; each key channel has a decay that depends on the token.

    `half_life_tokens=None` keeps everything.
    """

    chunk = 16
    forms = OURS, PUBLISHED["gated_linear"]

    def _start(self, width: int, half_life_tokens: float | None, as_published: bool) -> None:
        self.decay = None
        if not as_published and half_life_tokens is None and self.gate_penalty:
            raise ValueError(
                f"gate_penalty {self.gate_penalty}: half_life_tokens=None has no gate; "
                "give one of them"
            )
        if as_published or half_life_tokens is not None:
            up = nn.Linear(_RANK, self.heads * self.key_width)
            bias = 0.0 if as_published else bias_of_half_life(half_life_tokens, _ROOT)
            nn.init.constant_(up.bias, bias)
            self.decay = nn.Sequential(nn.Linear(width, _RANK, bias=False), up)

    def _log_decay(self, x: Tensor) -> Tensor | None:
        if self.decay is None:
            return None
        decay: Tensor = F.logsigmoid(self.decay(x)) / _ROOT
        return decay.view(*decay.shape[:2], self.heads, self.key_width)

    def _read(self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor) -> Found:
        memory, *due = state
        queries, keys = queries_keys.chunk(2, dim=-2)
        decay = self._log_decay(x)
        read, memory = self._summed(queries, keys, values, memory, decay)
        if decay is not None:
            due = self._penalised(due, -torch.expm1(decay))
        return read, *(memory, *due)

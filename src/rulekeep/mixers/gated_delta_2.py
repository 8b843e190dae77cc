"""Gated DeltaNet-2 (Hatamizadeh et al. 2026, arXiv 2605.22791): one gate erases, another writes.

    q, k = silu(W x) / |silu(W x)|                            per head
    b = sigmoid(W_b x),   w = sigmoid(W_w x)                  per key channel, per value channel
    g = −e^A softplus(W₂ W₁ x + c)                            A per head, c per key channel
    S ← Diag(e^g) S
    S ← S + k (w ⊙ v − Sᵀ (b ⊙ k))ᵀ
    o = norm(Sᵀ q)                                            per head, RMS norm

With b and w the same number in all channels it is `kda`. It cannot hold more keys than a
key has channels, however slowly they fade.

W₁ goes to as many channels as a head has. c starts at 0, and A where g gives the half-life asked
for. The gate on the output is an option.

`published=true`: the short convolution, the low-rank silu gate on the output, and the published
start: e^A from 1 to 16, steps as in Mamba-2; with `decay_start=half_life` the start of above.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.kernels.chunks import delta_chunks, token_loop, unit
from rulekeep.mixers.fading import ChannelDecay
from rulekeep.mixers.matrix import Found
from rulekeep.mixers.published import OURS, PUBLISHED


class GatedDelta2(ChannelDecay):
    """The delta rule with a gate for each channel that is erased, and for each that is written."""

    chunk = 16
    activates = True
    forms = OURS, PUBLISHED["gated_delta_2"]

    def _start(self, width: int, half_life_tokens: float | None, as_published: bool) -> None:
        biases = self.parts.biases
        self.erase = nn.Linear(width, self.heads * self.key_width, bias=biases)
        self.write = nn.Linear(width, self.heads * self.value_width, bias=biases)
        super()._start(width, half_life_tokens, as_published)

    def _read(self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor) -> Found:
        decay = self._log_decay(x)
        queries, keys = unit(F.silu(queries_keys)).chunk(2, dim=2)
        erasers = keys * self.erase(x).sigmoid().unflatten(-1, (self.heads, self.key_width))
        values = values * self.write(x).sigmoid().unflatten(-1, (self.heads, self.value_width))
        whole = torch.ones_like(values[..., :1])
        if self.in_turn:
            return token_loop(
                queries, keys, values, *state, log_decay=decay, write=whole, erasers=erasers
            )
        return delta_chunks(
            queries, erasers, keys, values, whole, *state, log_decay=decay, chunk=self.chunk
        )

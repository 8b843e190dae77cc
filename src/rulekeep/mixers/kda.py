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

from rulekeep.mixers.fading import ChannelDecay
from rulekeep.mixers.matrix import DeltaMixer
from rulekeep.mixers.published import OURS, PUBLISHED


class KDA(ChannelDecay, DeltaMixer):
    """The delta rule in a memory whose key channels each have a decay that depends on the token."""

    forms = OURS, PUBLISHED["kda"]

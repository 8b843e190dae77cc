"""The delta rule, DeltaNet (Yang et al. 2024, arXiv 2406.06484): a write replaces.

    q, k = silu(W x) / |silu(W x)|,   β = sigmoid(w · x)      per head
    S ← S + β k (v − Sᵀ k)ᵀ
    o = norm(Sᵀ q)                                            per head, RMS norm

It cannot hold more keys than a key has channels: writes under further keys go over earlier ones.

What is held under a key is replaced by β of the way to the new value; nothing else fades.
Deviations: values pass as they are (published: silu); the short convolution is an option.
`gate_penalty` counts β. With `gate_kernel` β sees so many tokens, its own and those before
(`matrix.DeltaMixer`); published: its own.
"""

from rulekeep.mixers.matrix import DeltaMixer


class Delta(DeltaMixer):
    """Writes the difference between the value and what the key already reads."""

"""Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236): nothing is forgotten.

    φ(x) = elu(x) + 1
    S ← S + φ(k) vᵀ,   z ← z + φ(k)
    o = Sᵀ φ(q) / (z · φ(q) + 1e-6)            per head

It cannot take a write back: what was written under a key stays, and later reads blur.

The state is S and the normaliser z, which is one more column of S during the computation. We added
`output_gate`, off by default. elu(x) + 1 is computed as published: in float32 it has no digits
below −17, where exp(x) would have some. Such a channel weighs almost nothing, unless all channels
of a token are there.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rulekeep.mixers.base import extended
from rulekeep.mixers.matrix import Found, MatrixMixer


class LinearAttention(MatrixMixer):
    """Sums of keys times values, read with a query and divided by the sum of weights."""

    normalised = False

    def _empty(self, batch_size: int) -> Any:
        # The sums of φ(k) vᵀ and of φ(k).
        empty = super()._empty(batch_size)
        return extended(empty, normaliser=empty.memory[..., 0].clone())

    def _read(self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor) -> Found:
        memory, normaliser = state
        queries, keys = (F.elu(queries_keys) + 1).chunk(2, dim=-2)
        counted = F.pad(values, (0, 1), value=1.0)
        sums = torch.cat([memory, normaliser.unsqueeze(-1)], dim=-1)
        read, sums = self._summed(queries, keys, counted, sums)
        total, weight = read.split([self.value_width, 1], dim=-1)
        return total / (weight + 1e-6), sums[..., :-1], sums[..., -1]

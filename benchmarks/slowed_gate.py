"""A control for the ladder: a gate that sees eight tokens and moves no faster than with one.

    rulekeep run --mixer benchmarks/slowed_gate.py:SlowedGate --out RUNS …

The other half of `scaled_gate.py`: rung 7 of the preset `ladder`, but that the weights of its gate
are eight times as large at the start and count for an eighth, so that what eight tokens have in
common moves z as far a step of training as it moves that of a gate that sees its own token.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from rulekeep.mixers.sparse_delta import SparseDelta


class SlowedGate(SparseDelta):
    """`sparse_delta` with a slow gate of eight tokens, without a penalty, that writes first."""

    version: ClassVar[int] = 1

    def __init__(self, width: int, *, slowness: float = 8.0) -> None:
        super().__init__(width, gate_kernel=8, read_first=False, gate_penalty=0.0)
        self.slowness = slowness
        with torch.no_grad():
            # Those of the tokens before start at zero.
            self.write.weight *= slowness

    def _gate_sums(self, x: Tensor, pending: Any) -> tuple[Tensor, Tensor]:
        return super()._gate_sums(x / self.slowness, pending)

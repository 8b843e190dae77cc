"""A control for the ladder: does a gate that sees eight tokens keep rules by what it sees?

    rulekeep run --mixer benchmarks/scaled_gate.py:ScaledGate --out RUNS …

The z of a gate that sees eight tokens is a sum over them. What they have in common, how early they
are for one, moves it eight times as far a step of training as it moves the z of a gate that sees
its own token. This gate sees its own alone, and z moves as far: its weights are a `scale`-th at the
start and count `scale` times. All else is rung 6 of the preset `ladder`.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from rulekeep.mixers.sparse_delta import SparseDelta


class ScaledGate(SparseDelta):
    """`sparse_delta` with a gate of one token, without a penalty, that writes first."""

    version: ClassVar[int] = 1

    def __init__(self, width: int, *, scale: float = 8.0) -> None:
        super().__init__(width, gate_kernel=1, read_first=False, gate_penalty=0.0)
        self.scale = scale
        with torch.no_grad():
            self.write.weight /= scale

    def _gate_sums(self, x: Tensor, pending: Any) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - one token in sight leaves nothing pending
        z = functional.linear(x, self.scale * self.write.weight, self.write.bias)
        return z, z[:, :0]

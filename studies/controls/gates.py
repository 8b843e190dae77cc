"""Controls for the study of gates: one sees a token and moves fast, one sees eight and is slow.

    rulekeep run --mixer studies/controls/gates.py:ScaledGate --out RUNS …

The z of a gate that sees eight tokens is a sum over them. So a step of training moves it eight
times as far by what they have in common, such as how early they are. All else is as variants 6 and
7 of the ladder have it.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from rulekeep.mixers.sparse_delta import SparseDelta


class ScaledGate(SparseDelta):
    """A gate of one token that moves as far as one of eight, without convolution.

    Its weights are a `scale`-th at the start and count `scale` times. There is no penalty, and a
    token writes first.
    """

    version: ClassVar[int] = 1

    def __init__(self, width: int, *, scale: float = 8.0) -> None:
        super().__init__(
            width, gate_kernel=1, read_first=False, gate_penalty=0.0, short_convolution=False
        )
        self.scale = scale
        with torch.no_grad():
            self.write.weight /= scale

    def _gate_sums(self, x: Tensor, pending: Any) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - one token in sight leaves nothing pending
        z = functional.linear(x, self.scale * self.write.weight, self.write.bias)
        return z, z[:, :0]


class SlowedGate(SparseDelta):
    """A gate of eight tokens that moves no farther than one of a token, without convolution.

    Its weights are `slowness` times as large at the start and count for as little. There is no
    penalty, and a token writes first.
    """

    version: ClassVar[int] = 1

    def __init__(self, width: int, *, slowness: float = 8.0) -> None:
        super().__init__(
            width, gate_kernel=8, read_first=False, gate_penalty=0.0, short_convolution=False
        )
        self.slowness = slowness
        with torch.no_grad():
            # Those of the tokens before start at zero.
            self.write.weight *= slowness

    def _gate_sums(self, x: Tensor, pending: Any) -> tuple[Tensor, Tensor]:
        return super()._gate_sums(x / self.slowness, pending)

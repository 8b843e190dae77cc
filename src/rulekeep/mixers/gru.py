"""The GRU (Cho et al. 2014, arXiv 1406.1078), torch's own.

    r, z = σ of two parts of W x + b + U h + d
    n = tanh(W_n x + b_n + r ⊙ (U_n h + d_n))
    h ← (1 − z) ⊙ n + z ⊙ h

It cannot run in parallel over tokens: the gates need the previous h. torch starts with z of about a
half, which keeps half of h for one token. `half_life_tokens` starts it higher.
Deviation, torch's: r multiplies U_n h + d_n (published: r multiplies h before U_n).
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from rulekeep.mixers.published import HalfLife
from rulekeep.mixers.recurrent import RecurrentMixer


class GRUState(NamedTuple):
    """The layer's last output."""

    hidden: Float[Tensor, "batch width"]


class GRU(RecurrentMixer):
    """`torch.nn.GRU`, one layer as wide as the input."""

    state_type = GRUState

    def __init__(self, width: int, *, half_life_tokens: HalfLife | None = None) -> None:
        super().__init__(nn.GRU(width, width, batch_first=True), half_life_tokens)

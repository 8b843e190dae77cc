"""The LSTM (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000), torch's own.

    i, f, g, o = σ, σ, tanh, σ of four parts of W x + U h + b
    c ← f ⊙ c + i ⊙ g
    h ← o ⊙ tanh(c)

It cannot run in parallel over tokens: the gates need the previous h. torch starts with a forget
gate of about a half, which keeps half of a cell for one token. A forget bias starts it higher
(`half_life_tokens`; Jozefowicz et al. 2015).
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from rulekeep.mixers.published import HalfLife
from rulekeep.mixers.recurrent import RecurrentMixer


class LSTMState(NamedTuple):
    """The layer's last output, and its cells."""

    hidden: Float[Tensor, "batch width"]
    cell: Float[Tensor, "batch width"]


class LSTM(RecurrentMixer):
    """`torch.nn.LSTM`, one layer as wide as the input."""

    state_type = LSTMState

    def __init__(self, width: int, *, half_life_tokens: HalfLife | None = None) -> None:
        super().__init__(nn.LSTM(width, width, batch_first=True), half_life_tokens)

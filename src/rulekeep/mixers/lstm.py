"""The LSTM (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000), torch's own.

    i, f, g, o = σ, σ, tanh, σ of four parts of W x + U h + b
    c ← f ⊙ c + i ⊙ g
    h ← o ⊙ tanh(c)

It cannot run in parallel over tokens: the gates need the previous h. torch starts with a forget
gate of about a half, which keeps half of a cell for one token. A forget bias starts it higher
(`half_life_tokens`; Jozefowicz et al. 2015).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.kernels.transforms import uncast
from rulekeep.mixers.base import Mixer, check_batch


class LSTMState(NamedTuple):
    """The layer's last output, and its cells."""

    hidden: Float[Tensor, "batch width"]
    cell: Float[Tensor, "batch width"]


class LSTM(Mixer):
    """`torch.nn.LSTM`, one layer as wide as the input; `serial=True` runs the formula."""

    def __init__(
        self, width: int, *, half_life_tokens: float | None = None, serial: bool = False
    ) -> None:
        super().__init__()
        self.width, self.serial = width, serial
        self.layer = nn.LSTM(width, width, batch_first=True)
        if half_life_tokens is not None:
            if not half_life_tokens > 0:
                raise ValueError(
                    f"half_life_tokens {half_life_tokens}: must be above 0, or None for torch's own"
                )
            # sigmoid(bias) = exp(−rate)
            rate = math.log(2) / half_life_tokens
            bias_x, bias_hidden = self._forget_biases()
            nn.init.constant_(bias_x, -rate - math.log(-math.expm1(-rate)))
            nn.init.zeros_(bias_hidden)

    def _forget_biases(self) -> tuple[Tensor, Tensor]:
        weights = [one.detach() for one in self.layer._flat_weights if one is not None]
        bias_x, bias_hidden = weights[2:]
        gate = slice(self.width, 2 * self.width)
        return bias_x[gate], bias_hidden[gate]

    @property
    def memory_half_life_tokens(self) -> float:
        """The half-life of the cell with the highest forget gate, while x and h are 0."""
        bias_x, bias_hidden = self._forget_biases()
        return (-math.log(2) / F.logsigmoid(bias_x + bias_hidden).max()).item()

    def init_state(self, batch_size: int) -> LSTMState:
        """Zeros."""
        bias, _ = self._forget_biases()
        return LSTMState(*(bias.new_zeros(batch_size, self.width) for _ in range(2)))

    def forward(
        self, x: Float[Tensor, "batch time width"], state: LSTMState | None = None
    ) -> tuple[Float[Tensor, "batch time width"], LSTMState]:
        """Outputs at every position, and the state after the last token."""
        if state is None:
            state = self.init_state(x.shape[0])
        check_batch(x, state.hidden)
        if not x.numel():
            return x, state
        # A recurrence adds up what rounding does: it stays in the state's precision.
        with uncast(x.device.type):
            inputs = x.to(state.hidden.dtype)
            if self.serial:
                y, state = lstm_loop(inputs, state, *self.layer.parameters())
            else:
                hidden, cell = (part.unsqueeze(0).contiguous() for part in state)
                y, (hidden, cell) = self.layer(inputs, (hidden, cell))
                state = LSTMState(hidden[0], cell[0])
        return y.to(x.dtype), state


def lstm_loop(
    x: Float[Tensor, "batch time width"],
    state: LSTMState,
    of_x: Float[Tensor, "4*width width"],
    of_hidden: Float[Tensor, "4*width width"],
    bias_x: Float[Tensor, " 4*width"],
    bias_hidden: Float[Tensor, " 4*width"],
) -> tuple[Float[Tensor, "batch time width"], LSTMState]:
    """The formula, a token at a time: the reference of torch's layer."""
    hidden, cell = state
    outputs = []
    for t in range(x.shape[1]):
        parts = x[:, t] @ of_x.T + hidden @ of_hidden.T + bias_x + bias_hidden
        write, forget, candidate, read = parts.chunk(4, dim=-1)
        cell = forget.sigmoid() * cell + write.sigmoid() * candidate.tanh()
        hidden = read.sigmoid() * cell.tanh()
        outputs.append(hidden)
    return torch.stack(outputs, dim=1), LSTMState(hidden, cell)

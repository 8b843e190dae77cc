"""The GRU (Cho et al. 2014, arXiv 1406.1078), torch's own.

    r, z = σ of two parts of W x + b + U h + d
    n = tanh(W_n x + b_n + r ⊙ (U_n h + d_n))
    h ← (1 − z) ⊙ n + z ⊙ h

It cannot run in parallel over tokens: the gates need the previous h. torch starts with z of about a
half, which keeps half of h for one token. `half_life_tokens` starts it higher.
Deviation, torch's: r multiplies U_n h + d_n (published: r multiplies h before U_n).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.kernels.transforms import uncast
from rulekeep.mixers.base import Mixer, check_batch


class GRUState(NamedTuple):
    """The layer's last output."""

    hidden: Float[Tensor, "batch width"]


class GRU(Mixer):
    """`torch.nn.GRU`, one layer as wide as the input; `serial=True` runs the formula."""

    def __init__(
        self, width: int, *, half_life_tokens: float | None = None, serial: bool = False
    ) -> None:
        super().__init__()
        self.width, self.serial = width, serial
        self.layer = nn.GRU(width, width, batch_first=True)
        if half_life_tokens is not None:
            if not half_life_tokens > 0:
                raise ValueError(
                    f"half_life_tokens {half_life_tokens}: must be above 0, or None for torch's own"
                )
            # sigmoid(bias) = exp(−rate)
            rate = math.log(2) / half_life_tokens
            bias_x, bias_hidden = self._keep_biases()
            nn.init.constant_(bias_x, -rate - math.log(-math.expm1(-rate)))
            nn.init.zeros_(bias_hidden)

    def _keep_biases(self) -> tuple[Tensor, Tensor]:
        weights = [one.detach() for one in self.layer._flat_weights if one is not None]
        bias_x, bias_hidden = weights[2:]
        gate = slice(self.width, 2 * self.width)
        return bias_x[gate], bias_hidden[gate]

    @property
    def memory_half_life_tokens(self) -> float:
        """The half-life of the channel with the highest z, while x and h are 0."""
        bias_x, bias_hidden = self._keep_biases()
        return (-math.log(2) / F.logsigmoid(bias_x + bias_hidden).max()).item()

    def init_state(self, batch_size: int) -> GRUState:
        """Zeros."""
        bias, _ = self._keep_biases()
        return GRUState(bias.new_zeros(batch_size, self.width))

    def forward(
        self, x: Float[Tensor, "batch time width"], state: GRUState | None = None
    ) -> tuple[Float[Tensor, "batch time width"], GRUState]:
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
                y, state = gru_loop(inputs, state, *self.layer.parameters())
            else:
                y, hidden = self.layer(inputs, state.hidden.unsqueeze(0).contiguous())
                state = GRUState(hidden[0])
        return y.to(x.dtype), state


def gru_loop(
    x: Float[Tensor, "batch time width"],
    state: GRUState,
    of_x: Float[Tensor, "3*width width"],
    of_hidden: Float[Tensor, "3*width width"],
    bias_x: Float[Tensor, " 3*width"],
    bias_hidden: Float[Tensor, " 3*width"],
) -> tuple[Float[Tensor, "batch time width"], GRUState]:
    """The formula, a token at a time: the reference of torch's layer."""
    (hidden,) = state
    outputs = []
    for t in range(x.shape[1]):
        reset_x, keep_x, new_x = (x[:, t] @ of_x.T + bias_x).chunk(3, dim=-1)
        reset_h, keep_h, new_h = (hidden @ of_hidden.T + bias_hidden).chunk(3, dim=-1)
        candidate = (new_x + (reset_x + reset_h).sigmoid() * new_h).tanh()
        keep = (keep_x + keep_h).sigmoid()
        hidden = (1 - keep) * candidate + keep * hidden
        outputs.append(hidden)
    return torch.stack(outputs, dim=1), GRUState(hidden)

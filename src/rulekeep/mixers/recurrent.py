"""What torch's own recurrent layers share: how long they remember at the start, and their call.

    y, state = layer(x, state)                              one layer, as wide as the input
    σ(bias) = 2^(−1 / half_life_tokens)                     of the gate that keeps the state

That gate is the second of GRU and of LSTM: rows `width` to `2 * width` of weights and biases. torch
starts it at about a half.
"""

import math
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.kernels.autocast import uncast
from rulekeep.mixers.base import Mixer, Vectors, check_batch
from rulekeep.mixers.published import bias_of_half_life


class RecurrentMixer(Mixer):
    """A layer of torch; `state_type` is a NamedTuple of its states, `[batch, width]` each."""

    state_type: ClassVar[Any]

    def __init__(self, layer: nn.GRU | nn.LSTM, half_life_tokens: float | None) -> None:
        super().__init__()
        self.width, self.layer = layer.hidden_size, layer
        if half_life_tokens is not None:
            bias_x, bias_hidden = self._keep_biases()
            nn.init.constant_(bias_x, bias_of_half_life(half_life_tokens))
            nn.init.zeros_(bias_hidden)

    def _keep_biases(self) -> tuple[Tensor, Tensor]:
        weights = [one.detach() for one in self.layer._flat_weights if one is not None]
        bias_x, bias_hidden = weights[2:]
        gate = slice(self.width, 2 * self.width)
        return bias_x[gate], bias_hidden[gate]

    @property
    def memory_half_life_tokens(self) -> float:
        """The half-life of the channel whose gate keeps most, while x and h are 0."""
        bias_x, bias_hidden = self._keep_biases()
        return (-math.log(2) / F.logsigmoid(bias_x + bias_hidden).max()).item()

    def init_state(self, batch_size: int) -> Any:
        """Zeros."""
        bias, _ = self._keep_biases()
        return self.state_type(
            *(bias.new_zeros(batch_size, self.width) for _ in self.state_type._fields)
        )

    def forward(self, x: Vectors, state: Any | None = None) -> tuple[Vectors, Any]:
        """Outputs at every position, and the state after the last token."""
        if state is None:
            state = self.init_state(x.shape[0])
        check_batch(x, state.hidden)
        if not x.numel():
            return x, state
        parts = tuple(part.unsqueeze(0).contiguous() for part in state)
        # A GRU takes and gives its one tensor as it is.
        alone = len(parts) == 1
        # A recurrence adds up what rounding does: it stays in the state's precision.
        with uncast(x.device.type):
            y, after = self.layer(x.to(state.hidden.dtype), parts[0] if alone else parts)
        after = (after,) if alone else after
        return y.to(x.dtype), self.state_type(*(part[0] for part in after))

"""A layer that only maps `[batch, time, width]` to the same, behind the contract of a mixer.

    y_t = layer(x_1 … x_T)_t

Such a layer has no state to hand on. Here the state is the whole input so far, and every call runs
the layer over all of it. Decoding works, and costs that much. `state_bytes` counts the whole input,
so it grows with the text.

A state, a text in pieces and a decode step say nothing about the layer inside. `rulekeep check`
skips these properties and says so. The layer itself must be causal.

    class MyLayer(Stateless):
        def __init__(self, width: int, *, heads: int = 4) -> None:
            super().__init__(SomeLayer(width, heads))
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rulekeep.mixers.base import Mixer


class InputSoFar(NamedTuple):
    """All inputs of the layer so far; its width is 0 before the first token."""

    inputs: Float[Tensor, "batch past width"]


class Stateless(Mixer):
    """Runs `layer` over the whole input at each call; if it returns a tuple, the first element
    counts.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def init_state(self, batch_size: int) -> InputSoFar:
        """No input so far."""
        like = next(self.layer.parameters(), torch.empty(0))
        return InputSoFar(like.new_zeros(batch_size, 0, 0))

    def forward(
        self, x: Float[Tensor, "batch time width"], state: InputSoFar | None = None
    ) -> tuple[Float[Tensor, "batch time width"], InputSoFar]:
        """Outputs at the positions of `x`, and the input so far including `x`."""
        inputs = x
        if state is not None and state.inputs.shape[1]:
            inputs = torch.cat([state.inputs.to(x.dtype), x], dim=1)
        if not x.shape[1]:
            return x, InputSoFar(inputs)
        y = self.layer(inputs)
        y = y[0] if isinstance(y, tuple) else y
        return y[:, inputs.shape[1] - x.shape[1] :], InputSoFar(inputs)

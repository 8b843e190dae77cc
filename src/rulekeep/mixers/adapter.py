"""A layer that only maps `[batch, time, width]` to the same, behind the contract of a mixer.

    y_t = layer(x_1 … x_T)_t

Such a layer has no state to hand on. Here the state is the whole input so far, and every call runs
the layer over all of it: decoding works and costs what that costs, and `state_bytes` counts what is
really kept, which grows with the text. So a state, a split into pieces and a decode step measured
through this class say nothing about the mechanism inside: `rulekeep check` leaves them out and says
so, and in a record they are what they are of this class. The layer must be causal by itself.

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
    """Everything the layer was given; no token yet has a width of 0."""

    inputs: Float[Tensor, "batch past width"]


class Stateless(Mixer):
    """Runs `layer` over the whole input each time; of a tuple it takes the first element."""

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
        """Outputs at the positions of `x`, and the input so far with `x` in it."""
        inputs = x
        if state is not None and state.inputs.shape[1]:
            inputs = torch.cat([state.inputs.to(x.dtype), x], dim=1)
        if not x.shape[1]:
            return x, InputSoFar(inputs)
        y = self.layer(inputs)
        y = y[0] if isinstance(y, tuple) else y
        if y.shape != inputs.shape:
            raise ValueError(
                f"{type(self.layer).__name__} gave {list(y.shape)} for {list(inputs.shape)}: "
                "a mixer's output has the shape of its input"
            )
        return y[:, inputs.shape[1] - x.shape[1] :], InputSoFar(inputs)

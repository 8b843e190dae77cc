"""The contract of a mixer: the part of a layer that moves information between positions.

    y, state = mixer(x, state)

One call serves a whole sequence, a chunk of it or a single token: feeding the pieces one
after another, each with the state of the one before, gives what the whole gives.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn


class MixerError(RuntimeError):
    """A mixer breaks its contract: one line that says how."""


class Mixer(nn.Module, ABC):
    """Maps `[batch, time, width]` to the same shape, causally, carrying a state.

    A state is a NamedTuple of tensors whose first dimension is the batch. What it holds
    is what the mechanism remembers: its bytes are counted from these tensors.
    """

    # It goes up where the mixer gives other figures, or an option another default.
    version: ClassVar[int] = 1

    @property
    def memory_half_life_tokens(self) -> float | None:
        """Tokens after which half of what was written is left; None where that means nothing.

        Read at initialisation, for inputs of zero, of the part that keeps longest.
        """
        return None

    @abstractmethod
    def init_state(self, batch_size: int) -> Any:
        """The state before the first token, on the mixer's device and in its dtype."""

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "batch time width"], state: Any | None = None
    ) -> tuple[Float[Tensor, "batch time width"], Any]:
        """Outputs at every position of `x`, and the state after its last token.

        `state=None` means `init_state`.
        """

    def tail(
        self, x: Float[Tensor, "batch time width"], last: int
    ) -> Float[Tensor, "batch last width"]:
        """Outputs at the last positions of a whole sequence only.

        The same values as `forward(x)[0][:, -last:]`, for 1 <= last <= time. A mixer overrides
        it where that spares work: the last layer is needed only where the loss looks.
        """
        y, _ = self.forward(x)
        check_shape(self, y, x.shape)
        return y[:, -last:]


@final
class Outside(Mixer):
    """A module from elsewhere that meets the contract without deriving from `Mixer`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def init_state(self, batch_size: int) -> Any:
        """The module's own."""
        return self.module.init_state(batch_size)  # type: ignore[operator]

    def forward(
        self, x: Float[Tensor, "batch time width"], state: Any | None = None
    ) -> tuple[Float[Tensor, "batch time width"], Any]:
        """The module's own."""
        y, after = self.module(x, state)
        return y, after


def name_of(mixer: Mixer) -> str:
    """What to call it to a user: the class that was asked for."""
    return type(mixer.module if isinstance(mixer, Outside) else mixer).__name__


def check_shape(mixer: Mixer, y: Any, shape: torch.Size) -> None:
    """Whether what a mixer returned is a tensor of this shape.

    Raises:
        MixerError: it is not.
    """
    if not isinstance(y, Tensor) or y.shape != shape:
        got = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise MixerError(
            f"{name_of(mixer)} returned {got}, expected a tensor of shape {list(shape)}"
        )

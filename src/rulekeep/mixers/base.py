"""The contract of a mixer: the part of a layer that moves information between positions.

    y, state = mixer(x, state)

One call serves a whole sequence, a chunk of it or a single token. Feeding the pieces one after
another, each with the state of the previous one, gives the same as the whole.
"""

from abc import ABC, abstractmethod
from collections import namedtuple
from functools import cache
from typing import Annotated, Any, ClassVar, TypeAlias, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

# What a mixer reads and gives; at the last positions alone.
Vectors: TypeAlias = Float[Tensor, "batch time width"]
Ends: TypeAlias = Float[Tensor, "batch last width"]
# Of an option: `registry.options_of` holds it to the range in the signature of a constructor.
Count: TypeAlias = Annotated[int, Field(ge=1)]
# How many tokens a gate sees, its own included, and what an open one costs.
GateKernel: TypeAlias = Annotated[int, Field(ge=1, le=64)]
Penalty: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class MixerError(RuntimeError):
    """A mixer breaks its contract; the message says how in one line."""


class Mixer(nn.Module, ABC):
    """Maps `[batch, time, width]` to the same shape, causally, carrying a state.

    A state is a NamedTuple of tensors whose first dimension is the batch. It holds everything that
    the mixer remembers: its bytes are counted from these tensors.
    """

    # It goes up where the mixer gives other figures with the same options.
    version: ClassVar[int] = 1

    @property
    def memory_half_life_tokens(self) -> float | None:
        """Tokens after which half of what was written is left; None if that has no meaning.

        Read at initialisation with inputs of zero, for the part that keeps longest.
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

        The same values as `forward(x)[0][:, -last:]`, for 1 <= last <= time. A mixer overrides this
        if it saves work: the loss needs only these outputs of the last layer.
        """
        y, _ = self.forward(x)
        check_shape(self, y, x.shape)
        return y[:, -last:]

    def auxiliary_loss(self, step: int) -> Float[Tensor, ""] | None:
        """A penalty of its own that training adds to the loss; None if there is none.

        It belongs to the last forward pass in training mode with gradients, and is a mean over the
        batch like the loss. A pass that goes on from the state of the previous one includes its
        penalty. `step` is the next update of the weights, counted from 1. Mixers inside this one
        are asked separately.
        """
        return None

    def start_step(self, step: int) -> None:
        """Training begins this step, counted from 1: for what it draws anew at each.

        A draw must follow from the step alone, so that a resumed training has the same.
        """


@final
class Outside(Mixer):
    """A module from elsewhere that meets the contract without deriving from `Mixer`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def init_state(self, batch_size: int) -> Any:
        """The module's own state."""
        return self.module.init_state(batch_size)  # type: ignore[operator]

    def forward(
        self, x: Float[Tensor, "batch time width"], state: Any | None = None
    ) -> tuple[Float[Tensor, "batch time width"], Any]:
        """The module's own output."""
        y, after = self.module(x, state)
        return y, after

    def auxiliary_loss(self, step: int) -> Float[Tensor, ""] | None:
        """The module's own penalty, if it has one."""
        own = getattr(self.module, "auxiliary_loss", None)
        return None if own is None else own(step)

    def start_step(self, step: int) -> None:
        """Tells the module, if it asks."""
        own = getattr(self.module, "start_step", None)
        if own is not None:
            own(step)


def auxiliary_loss(model: nn.Module, step: int) -> Float[Tensor, ""] | None:
    """The penalties of all mixers of a model, summed. The training loop adds them to its loss.

    They are those of the last forward pass. A mixer that stands in two layers counts its last call
    alone, and checkpointing must be without `use_reentrant`.

    Examples:
        >>> penalty = auxiliary_loss(model, step)                           # doctest: +SKIP
        >>> (loss if penalty is None else loss + penalty).backward()        # doctest: +SKIP
    """
    terms = [m.auxiliary_loss(step) for m in model.modules() if isinstance(m, Mixer)]
    due = [term for term in terms if term is not None]
    # Layers may stand on several devices.
    return torch.stack([one.to(due[0].device) for one in due]).sum() if due else None


def start_step(model: nn.Module, step: int) -> None:
    """Tells all mixers of a model that training begins a step, counted from 1.

    Attention with `randomised_positions` and `routed_slots` with `published` draw anew at each. A
    loop that never calls it trains them without. Call it before the forward pass.
    """
    for module in model.modules():
        if isinstance(module, Mixer):
            module.start_step(step)


def extended(state: Any, **parts: Tensor) -> Any:
    """A state with more tensors after its own, by their names."""
    kind: Any = type(state)
    return _extended(kind, tuple(parts))(*state, *parts.values())


@cache
def _extended(kind: type[Any], names: tuple[str, ...]) -> Any:
    return namedtuple(kind.__name__, (*kind._fields, *names))


def check_batch(x: Tensor, part: Tensor) -> None:
    """Raise if a part of a state is of other sequences than the input.

    Raises:
        ValueError: there are more or fewer.
    """
    if len(part) != len(x):
        raise ValueError(f"state of {len(part)} sequences: x has {len(x)}")


def check_shape(mixer: Mixer, y: Any, shape: torch.Size) -> None:
    """Raise if a mixer returned anything but a tensor of this shape.

    Raises:
        MixerError: the shape is another one.
    """
    if not isinstance(y, Tensor) or y.shape != shape:
        got = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
        name = type(part_of(mixer)).__name__
        raise MixerError(f"{name} returned {got}, expected a tensor of shape {list(shape)}")


def real(part: Tensor) -> Tensor:
    """The same numbers; a complex one as two real ones."""
    return torch.view_as_real(part.resolve_conj()) if part.is_complex() else part


def flattened(part: Tensor) -> Float[Tensor, "batch floats"]:
    """The real numbers of a tensor of a state, which may have no dimension but the batch."""
    return real(part)[:, None].flatten(1)


def part_of(mixer: Mixer) -> nn.Module:
    """The user's own module inside our wrapper."""
    return mixer.module if isinstance(mixer, Outside) else mixer

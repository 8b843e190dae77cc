"""A mixer to check: what makes it, the sizes to check it at, and how far it may differ.

    Subject(make, None, 64, [Size(1, 17), Size(3, 65)], [Size(1, 1100)])

`rulekeep check` compares in float64, at lengths on and off the grids of chunked forms. The screen
before a run compares in float32, at the lengths of the run.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from rulekeep.checks.differences import Differences
from rulekeep.checks.probes import drawn, in_precision
from rulekeep.mixers import Mixer
from rulekeep.running.evaluation import in_eval_mode

# Whether a property holds (None: not compared), and what was compared.
Verdict: TypeAlias = tuple[bool | None, str]


class Size(NamedTuple):
    """Sequences, their tokens, and how many tokens an earlier call has read."""

    batch: int
    length: int
    past: int = 9


class Subject(NamedTuple):
    """A mixer to check against the contract, and the sizes to check it at.

    `allowed` is the largest difference, as a share of the largest value of the same tensor;
    `allowed_again` is that of the same call once more.
    """

    make: Callable[[], Mixer]
    # The same as a loop over tokens, if it has one.
    make_loop: Callable[[], Mixer] | None
    width: int
    # Short texts, for states and gradients; longer ones too, for what comes later.
    sizes: Sequence[Size]
    texts: Sequence[Size]
    device: str = "cpu"
    dtype: torch.dtype = torch.float64
    allowed: float = 1e-8
    allowed_again: float = 0.0
    # In eval mode, in which answers are scored.
    scored: bool = False
    # Outputs that end at some length are no fault of it: the evaluation says where they end.
    may_end: bool = False

    def made(self, *, loop: bool = False) -> Mixer:
        """The mixer, always with the same weights; complex ones with parts of this precision.

        A gate or projection that starts at 0 hides what it lets through after training. So trained
        weights that start at 0 are small random numbers. One that is 0 only in places may be a
        mask, and stays.
        """
        mixer, stream = self.as_it_starts(loop=loop), torch.Generator().manual_seed(3)
        with torch.no_grad():
            for part in mixer.parameters():
                if part.requires_grad and not is_lazy(part) and not part.any():
                    part.copy_(0.1 * torch.randn(part.shape, generator=stream, dtype=torch.float64))
        return mixer

    def as_it_starts(self, *, loop: bool = False) -> Mixer:
        """The same with the zeros that it starts with."""
        make = self.make_loop if loop else self.make
        assert make is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            mixer = in_precision(make().to(self.device), self.dtype)
        return in_eval_mode(mixer) if self.scored else mixer

    def drawn(self, batch: int, time: int, seed: int = 0) -> Tensor:
        """A text of standard normal vectors, in the precision and on the device."""
        return drawn(batch, time, self.width, seed).to(self.device, self.dtype)

    def state(self, mixer: Mixer, size: Size) -> Any:
        """The state that another text has left; without one, the initial state."""
        if not size.past:
            return mixer.init_state(size.batch)
        with torch.no_grad():
            return mixer(self.drawn(size.batch, size.past, seed=7))[1]

    def differences(self, *, again: bool = False) -> Differences:
        """Collects differences; of the same call `again` hardly any is allowed."""
        return Differences(self.allowed_again if again else self.allowed, may_end=self.may_end)

    def longer(self, than: int) -> Iterator[Size]:
        """The sizes of more tokens."""
        return (size for size in self.sizes if size.length > than)

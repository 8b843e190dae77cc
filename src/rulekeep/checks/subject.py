"""A mixer to check: what makes it, the sizes to check it at, and how far it may differ.

    Subject(make, None, 64, [Size(1, 17), Size(3, 65)], [Size(1, 1100)])

`rulekeep check` compares in float64, at lengths on and off the grids of chunked forms. The screen
before a run compares in float32, at the lengths of the run.

A mixer runs for comparison from fixed inputs: outputs, state and every gradient by name. Gradients
are of the sum of outputs and states, weighted by fixed random numbers.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from rulekeep.mixers import Mixer
from rulekeep.mixers.base import real
from rulekeep.running.causality import LEAST_SCALE, in_pieces, largest_of
from rulekeep.running.evaluation import in_eval_mode

# Whether a property holds (None: not compared), and what was compared.
Verdict: TypeAlias = tuple[bool | None, str]


def drawn(batch: int, time: int, width: int, seed: int = 0) -> Tensor:
    """Standard normal inputs in float64, from their own stream."""
    stream = torch.Generator().manual_seed(1000 * batch + time + 100_000 * seed)
    return torch.randn(batch, time, width, generator=stream, dtype=torch.float64)


def is_number(part: Tensor) -> bool:
    """Whether a tensor has a gradient and a precision: it holds real or complex numbers."""
    return part.is_floating_point() or part.is_complex()


def dtype_of(part: Tensor, precision: torch.dtype) -> torch.dtype:
    """The dtype of numbers in this precision: a complex one has two parts of it."""
    return precision.to_complex() if part.is_complex() else precision


def in_precision(mixer: Mixer, dtype: torch.dtype) -> Mixer:
    """The mixer in this precision; `Module.to` would drop imaginary parts."""

    def converted(part: Tensor) -> Tensor:
        return part.to(dtype_of(part, dtype)) if is_number(part) else part

    with torch.no_grad():
        mixer._apply(converted)  # type: ignore[no-untyped-call]
    return mixer


def like(state: Any, parts: Sequence[Tensor]) -> Any:
    """A state of the same kind with these tensors; None stays None."""
    return None if state is None else getattr(state, "_make", tuple)(parts)


def of_state(state: Any) -> dict[str, Tensor]:
    """The tensors of a state by name; none for None."""
    state = () if state is None else state
    names = getattr(state, "_fields", range(len(state)))
    return {f"state {name}": part for name, part in zip(names, state, strict=True)}


def named(y: Tensor, state: Any) -> dict[str, Tensor]:
    """An output and the tensors of a state, by names."""
    return {"output": y, **of_state(state)}


def run(mixer: Mixer, x: Tensor, state: Any, split: Sequence[int]) -> dict[str, Tensor]:
    """Run `x` in successive pieces: outputs, the last state, and every gradient."""
    leaves = _leaves(mixer, x, state)
    state = like(state, [leaves[name] for name in of_state(state)])
    return _with_gradients(named(*in_pieces(mixer, leaves["x"], split, state)), leaves)


def gradients(mixer: Mixer, x: Tensor, function: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The value of a function of `x`, and its gradients."""
    leaves = _leaves(mixer, x, ())
    return _with_gradients({"output": function(leaves["x"])}, leaves)


def as_function(
    mixer: Mixer, x: Tensor, state: Any
) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
    """The outputs of a call as a function of every number that gets a gradient; and these."""
    leaves = {n: leaf for n, leaf in _leaves(mixer, x, state).items() if leaf.requires_grad}
    weights = {name for name, _ in mixer.named_parameters()}

    def outputs(*numbers: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(leaves, numbers, strict=True))
        before = {name: given.get(name, part) for name, part in of_state(state).items()}
        called = given["x"], like(state, [*before.values()])
        own = {name: part for name, part in given.items() if name in weights}
        made = named(*torch.func.functional_call(mixer, own, called))
        return tuple(part for part in made.values() if part.requires_grad)

    return outputs, [leaf.detach().clone().requires_grad_() for leaf in leaves.values()]


def _leaves(mixer: Mixer, x: Tensor, state: Any) -> dict[str, Tensor]:
    """The tensors that get gradients: the input, the state before, the parameters."""
    inputs = {"x": x, **of_state(state)}
    fresh = {
        name: part.detach().clone().requires_grad_(is_number(part)) for name, part in inputs.items()
    }
    trained = {name: part for name, part in mixer.named_parameters() if part.requires_grad}
    return {**fresh, **trained}


def _with_gradients(outputs: dict[str, Tensor], leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not torch.is_grad_enabled():
        return outputs
    weighted = [pair for pair in _weighted(outputs) if pair[0].requires_grad]
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    found = torch.autograd.grad(
        [out for out, _ in weighted],
        list(wanted.values()),
        [weight for _, weight in weighted],
        allow_unused=True,
        materialize_grads=True,
    )
    return outputs | {f"gradient of {n}": g for n, g in zip(wanted, found, strict=True)}


def _weighted(outputs: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    stream = torch.Generator().manual_seed(5)
    for out in outputs.values():
        if is_number(out):
            numbers = real(out)
            weight = torch.randn(numbers.shape, generator=stream, dtype=torch.float64)
            yield numbers, weight.to(numbers)


@contextmanager
def other_defaults(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Inside the block, torch has this default device and precision."""
    kept = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(kept)


class Differences:
    """Collects differences between tensors that should be equal; the largest is kept.

    One of outputs or states that is not allowed comes before any of gradients. A difference is a
    fraction of the largest value of its tensor, or of 1e-3 if all are smaller. The reason:
    gradients of weights are sums over all tokens, outputs are not. `allowed` is the largest
    fraction that passes.

    With `may_end`, what is expected to be no number is not compared: an evaluation says so.
    """

    def __init__(self, allowed: float, *, may_end: bool = False) -> None:
        self.allowed, self.may_end = allowed, may_end
        self._tensors, self._rank, self._said = 0, (False, -1.0), "nothing was compared"

    def add(
        self,
        found: Mapping[str, Tensor],
        expected: Mapping[str, Tensor],
        where: str,
        largest: float = 0.0,
    ) -> None:
        """Add tensors by name, such as `output` or `gradient of x`, and where they come from.

        `largest` is the largest value of what they are a part of.
        """
        for name, tensor in expected.items():
            if name in found:
                self._add(name, found[name].detach(), tensor.detach(), where, largest)
            else:
                self._keep(name, math.inf, f"{name} is missing ({where})")

    def _add(self, name: str, found: Tensor, expected: Tensor, where: str, largest: float) -> None:
        self._tensors += 1
        if found.shape != expected.shape:
            shapes = f"{list(found.shape)}, expected {list(expected.shape)}"
            return self._keep(name, math.inf, f"{name} has shape {shapes} ({where})")
        if not expected.numel():
            return self._keep(name, 0.0, "")
        if not is_number(expected):
            # Flags have no difference, and that of two bytes is none that a byte holds.
            found, expected = found.double(), expected.double()
        off = (found.to(expected) - expected).abs()
        if self.may_end and not expected.isfinite().all():
            return None
        # What is not a number equals nothing.
        if odd := int((~off.isfinite()).sum()):
            return self._keep(
                name, math.inf, f"{name} differs in {odd} values not finite ({where})"
            )
        most = off.max().item()
        share = most / max(largest_of(expected), largest, LEAST_SCALE)
        place = ""
        if name in ("output", "gradient of x"):
            place = f" at token {int(off.flatten(2).amax((0, 2)).argmax())}"
        said = f"{name}{place} differs by {most:.1e} ({where}): {share:.1e} of the largest value"
        return self._keep(name, share, said)

    def _keep(self, name: str, share: float, said: str) -> None:
        # What differs itself is why its gradient does.
        rank = share > self.allowed and not name.startswith("gradient of "), share
        if rank > self._rank:
            self._rank, self._said = rank, said

    @property
    def verdict(self) -> tuple[bool, str]:
        """Whether every difference is allowed, and the largest one in words."""
        _, share = self._rank
        if not share:
            return True, f"no difference in {self._tensors:,} tensors"
        allowed = f"allowed: {self.allowed:.0e}" if self.allowed else "no difference is allowed"
        return 0 <= share <= self.allowed, f"{self._said}; {allowed}"


class Size(NamedTuple):
    """Sequences, their tokens, and how many tokens an earlier call has read."""

    batch: int
    length: int
    past: int = 9

    def __str__(self) -> str:
        return f"{self.length} tokens, batch {self.batch}"


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

    def made(self) -> Mixer:
        """The mixer, always with the same weights; complex ones with parts of this precision.

        A gate or projection that starts at 0 hides what it lets through after training. So trained
        weights that start at 0 are small random numbers. One that is 0 only in places may be a
        mask, and stays.
        """
        mixer, stream = self.as_it_starts(), torch.Generator().manual_seed(3)
        with torch.no_grad():
            for part in mixer.parameters():
                if part.requires_grad and not is_lazy(part) and not part.any():
                    part.copy_(0.1 * torch.randn(part.shape, generator=stream, dtype=torch.float64))
        return mixer

    def as_it_starts(self) -> Mixer:
        """The same with the zeros that it starts with."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            mixer = in_precision(self.make().to(self.device), self.dtype)
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

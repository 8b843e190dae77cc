"""Runs a mixer for comparison: outputs, state and every gradient by name, from fixed inputs.

Outputs and states are weighted by fixed random numbers and summed; gradients are of that sum.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rulekeep.mixers import Mixer
from rulekeep.mixers.base import real
from rulekeep.running.causality import in_pieces


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
    return _with_gradients(_joined(mixer, leaves, state, split), leaves)


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


def _joined(
    mixer: Mixer, leaves: Mapping[str, Tensor], state: Any, split: Sequence[int]
) -> dict[str, Tensor]:
    state = like(state, [leaves[name] for name in of_state(state)])
    return named(*in_pieces(mixer, leaves["x"], split, state))


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

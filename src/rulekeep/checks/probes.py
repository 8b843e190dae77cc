"""Runs a mixer for comparison: outputs, state and every gradient by name, from fixed inputs.

Outputs and states are weighted by fixed random numbers and summed; gradients are of that sum.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rulekeep.mixers import Mixer
from rulekeep.mixers.base import real
from rulekeep.running.causality import LEAST_SCALE, in_pieces

_STEP, _STEPS = 1e-6, (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
# As a share of the slope: so near the gradient, no better step is looked for.
_AGREES = 1e-6
_DIRECTIONS = 4


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


def slopes(mixer: Mixer, x: Tensor, state: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Along random directions of each input: the gradient's slope, and central differences."""
    leaves = _leaves(mixer, x, state)
    found = _with_gradients(_joined(mixer, leaves, state, [x.shape[1]]), leaves)
    said, measured = {}, {}
    stream = torch.Generator().manual_seed(3)
    for name, leaf in leaves.items():
        if not leaf.requires_grad:
            continue
        shape = _DIRECTIONS, *leaf.shape
        directions = torch.randn(shape, generator=stream, dtype=leaf.dtype).to(leaf.device)
        along = real(directions) * real(found[f"gradient of {name}"])
        own = said[f"slope along {name}"] = along.flatten(1).sum(1)
        moved = partial(_moved, mixer, leaves, state, name)
        each = [_slope(moved, *pair) for pair in zip(directions, own, strict=True)]
        measured[f"slope along {name}"] = torch.stack(each)
    return said, measured


def _slope(moved: Callable[[Tensor], Tensor], along: Tensor, said: Tensor) -> Tensor:
    """The slope along a direction of what moves by it, by central differences.

    A step may be too long where the function bends sharply, as the norm of next to nothing does,
    and too short for the precision. So where the usual one does not give what the gradient says,
    others are tried: of two steps in turn that agree best, the shorter one counts. Which they are
    does not depend on the gradient.
    """

    def at(step: float) -> Tensor:
        return (moved(step * along) - moved(-step * along)) / (2 * step)

    usual = at(_STEP)
    if (usual - said).abs() <= _AGREES * max(usual.abs().item(), LEAST_SCALE):
        return usual
    found = torch.stack([at(step) for step in _STEPS])
    # No number is far from any.
    return found[found.diff().abs().nan_to_num(math.inf).argmin() + 1]


def _moved(mixer: Mixer, leaves: Mapping[str, Tensor], state: Any, name: str, by: Tensor) -> Tensor:
    with torch.no_grad():
        kept = leaves[name].clone()
        leaves[name].add_(by)
        outputs = _joined(mixer, leaves, state, [leaves["x"].shape[1]])
        weighted = [(out * weight).sum() for out, weight in _weighted(outputs)]
        leaves[name].copy_(kept)
    return torch.stack(weighted).sum()


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

"""What is wrong with the form of a mixer: its call, its outputs, its state, its parameters.

Each function gives a line, or None if nothing is wrong.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from rulekeep.mixers.base import Mixer, auxiliary_loss, part_of, start_step


def said_of_result(result: object, x: Tensor) -> str | None:
    """What is wrong with the form of the result of `forward` for `x`."""
    if not isinstance(result, tuple) or len(result) != 2:
        return f"forward returned a {type(result).__name__}: must return y, state"
    y, state = result
    if said := said_of_state(state, len(x)):
        return said
    if not isinstance(y, Tensor) or (y.shape, y.dtype) != (x.shape, x.dtype):
        got = f"{list(y.shape)}, {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        return f"the output is {got} for {list(x.shape)}, {x.dtype}: must be the same"
    return said_of_numbers(y)


def said_of_state(state: object, batch: int) -> str | None:
    """What is wrong with the form of a state."""
    if not isinstance(state, tuple) or not all(isinstance(part, Tensor) for part in state):
        return f"the state is a {type(state).__name__}: must be a tuple of tensors, as in (memory,)"
    if any(not part.ndim or len(part) != batch for part in state):
        shapes = [list(part.shape) for part in state]
        return f"the state has {shapes} for {batch} sequences: the batch comes first"
    return None


def said_of_numbers(y: Tensor) -> str | None:
    """How many outputs of a new mixer are not finite."""
    odd = int((~y.isfinite()).sum())
    return f"{odd} of {y.numel()} outputs are not finite as it starts" if odd else None


def said_of_parts(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """What a call has added to a state dictionary, or lengthened there."""
    if made := ", ".join(sorted(after.keys() - before.keys())):
        return f"its first call makes {made}: make it in the constructor, or no checkpoint fits"
    for name, part in after.items():
        old = before[name]
        # Extra state may be anything, and the shape of a lazy parameter is its first call's.
        if isinstance(part, Tensor) and not is_lazy(old) and part.shape != old.shape:
            shapes = f"from {list(old.shape)} to {list(part.shape)}"
            return f"a call turns {name} {shapes}: make it persistent=False, or no checkpoint fits"
    return None


def said_of_training(mixer: Mixer, x: Tensor) -> str | None:
    """What a training step would leave out or stumble over."""
    start_step(mixer, 1)
    result = part_of(mixer)(x, None)
    if said := said_of_result(result, x):
        return said
    auxiliary_loss(mixer, 1)
    held = {id(part) for part in mixer.parameters()}
    nodes: list[Any] = [result[0].grad_fn]
    seen: set[Any] = {None}
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        # What a function of a user's own keeps may have any name.
        if type(node).__name__ == "AccumulateGrad" and id(node.variable) not in held:
            return (
                f"a weight of shape {list(node.variable.shape)} is in no parameter of the module, "
                "so nothing trains it: keep layers in nn.ModuleList, weights in nn.ParameterList"
            )
        nodes += [after for after, _ in node.next_functions]
    return None

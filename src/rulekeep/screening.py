"""A mixer from outside, tried before anything is trained: one that sees what follows would win.

Two texts that differ from their middle on, at the training length and at the longest tested; the
first half of the outputs has to be the same, with the weights that it starts with and with others,
so that a gate that starts shut hides nothing. A mixer that passes may still break the contract:
`rulekeep check` holds it against all of it.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from rulekeep.registry import plugin_file
from rulekeep.resolving import resolve
from rulekeep.specs import RunSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from rulekeep.mixers.base import Mixer

# A longer text costs more than it tells: what changes its form with the length has done so.
LONGEST = 2048
_SHORT = 256
# Of the largest output: in float32 sums over other lengths may round otherwise.
_ALLOWED = {"torch.float64": 1e-8, "torch.float32": 1e-3}
_LEAST_SCALE = 1e-3
_NOISE = 0.1


def screen(spec: RunSpec) -> None:
    """Tries each mixer of a run that is not of the catalogue, on the run's device.

    Raises:
        MixerError: it has another form than the contract's, or sees later tokens.
    """
    outside = {name for name in spec.mixers if plugin_file(name) is not None}
    if not outside:
        return
    makers = dict(zip(spec.mixers, resolve(spec).mixers, strict=True))
    lengths = {min(LONGEST, length) for length in (spec.context, max(spec.tested))}
    for name in sorted(outside):
        for length in sorted(lengths):
            _try(name, makers[name], spec.width, length, spec.device)


def part_of(mixer: "Mixer") -> "nn.Module":
    """The module that a user wrote, in what we put around it."""
    from rulekeep.mixers.base import Outside

    return mixer.module if isinstance(mixer, Outside) else mixer


def said_of_call(mixer: "Mixer") -> str | None:
    """How `forward` cannot be called as the contract calls it; None where it can."""
    forward = part_of(mixer).forward
    try:
        signature = inspect.signature(forward)
        signature.bind(None, None)
    except TypeError:
        return f"forward takes {signature}: must take (x, state=None)"
    return None


def said_of_result(result: object) -> str | None:
    """What is wrong with the form of what `forward` returned; None where nothing is."""
    if isinstance(result, tuple) and len(result) == 2:
        return None
    of = f" of {len(result)}" if isinstance(result, tuple) else ""
    return f"forward returned a {type(result).__name__}{of}: must return y, state"


def said_of_state(state: object, batch: int) -> str | None:
    """What is wrong with the form of a state; None where nothing is."""
    from torch import Tensor

    if not isinstance(state, tuple) or not all(isinstance(part, Tensor) for part in state):
        kind = type(state).__name__
        if isinstance(state, tuple):
            kind = f"({', '.join(type(part).__name__ for part in state)})"
        return f"the state is a {kind}: must be a tuple of tensors, as in (memory,)"
    if any(not part.ndim or len(part) != batch for part in state):
        shapes = [list(part.shape) for part in state]
        return f"the state has {shapes} for {batch} sequences: the batch comes first"
    return None


def said_of_output(y: object, x: "Tensor") -> str | None:
    """What is wrong with the form of the outputs; None where nothing is."""
    from torch import Tensor

    if isinstance(y, Tensor) and y.shape == x.shape:
        return None
    got = list(y.shape) if isinstance(y, Tensor) else f"a {type(y).__name__}"
    return f"the output is {got} for {list(x.shape)}: must be a tensor of the same shape"


def _try(name: str, make: Callable[[], "Mixer"], width: int, length: int, device: str) -> None:
    import torch

    from rulekeep.mixers.base import MixerError

    # A mixer may have no float64, as Triton's kernels: it is tried in what it is trained in then.
    precisions = (torch.float64, torch.float32) if device == "cpu" else (torch.float32,)
    said: str | None = None
    with torch.random.fork_rng(), torch.no_grad():
        for dtype in precisions:
            try:
                said = _fault(make, width, length, dtype, device)
                break
            except Exception:
                # What fails is the run's to record, with its traceback.
                continue
    if said is not None:
        raise MixerError(f"mixer {name!r}: {said}; all of the contract: rulekeep check {name}")


def _fault(
    make: Callable[[], "Mixer"], width: int, length: int, dtype: "torch.dtype", device: str
) -> str | None:
    import torch

    torch.manual_seed(1)
    mixer = make().to(device, dtype).eval()
    # A second sequence tells whether the batch comes first; of a long text it would cost too much.
    batch = 2 if length <= _SHORT else 1
    if said := said_of_call(mixer) or said_of_state(mixer.init_state(batch), batch):
        return said
    x = torch.randn(batch, length, width, dtype=dtype, device=device)
    later, cut = x.clone(), length // 2
    later[:, cut:] = 3 * torch.randn_like(later[:, cut:])
    for noise in (0.0, _NOISE):
        for weight in mixer.parameters():
            weight.add_(noise * torch.randn_like(weight))
        outputs = []
        for text in (x, later):
            # Who draws at random draws the same twice: that is another row of the check.
            torch.manual_seed(2)
            result = part_of(mixer)(text, None)
            said = said_of_result(result) or said_of_state(result[1], batch)
            said = said or said_of_output(result[0], x)
            if said is not None:
                return said
            outputs.append(result[0][:, :cut])
        if said := _change(*outputs):
            return said
    return None


def _change(before: "Tensor", after: "Tensor") -> str | None:
    """Where outputs of the same tokens differ, as they may only if they see what follows."""
    import torch

    cut = before.shape[1]
    if not cut:
        return None
    # What is the same and not a number is the divergence of a run, and no leak.
    same = (before == after) | (before.isnan() & after.isnan())
    off = torch.where(same, 0.0, (before - after).abs().nan_to_num(nan=torch.inf))
    most, finite = off.max().item(), before[before.isfinite()]
    largest = finite.abs().max().item() if finite.numel() else 0.0
    if most <= _ALLOWED[str(before.dtype)] * max(largest, _LEAST_SCALE):
        return None
    place = int(off.amax((0, 2)).argmax())
    return (
        f"its output at token {place} changes by {most:.2g} when tokens from {cut} on are others: "
        "it sees what follows, and would be scored for that"
    )

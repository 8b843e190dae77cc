"""A mixer that sees what follows would win: it is tried before its run.

    screen(resolved)

It is quick and saves the training: texts that differ from a place on, whose outputs have to be the
same before it, and a text in pieces, which has to give what it gives at once. Lengths are those of
the run, of its answers, and some drawn from its seed. What counts is looked at later, in every
evaluation of the trained model: see `rulekeep.running.causality`.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rulekeep.checks.sample_form import said_of_sample
from rulekeep.plugins import is_outside
from rulekeep.running.resolving import Resolved, ResolvedCell, ResolvedPredictor
from rulekeep.seeds import named_seed
from rulekeep.specs import PUBLISHED_WIDTH, PredictorSpec, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from rulekeep.mixers.base import Mixer
    from rulekeep.tasks.sampled import SampledTask

# A block of a task's draws is no cheaper to draw in part.
_LOOKED_AT = 64
# A longer text costs more than it tells: what changes its form with the length has done so.
LONGEST = 2048
# No length that a chunk divides, and one of a few tokens.
_ODD, _PIECE = 67, 12
# Lengths that are drawn from the seed, so that no mixer can know what it is tried at.
_DRAWN = 3
# Of the largest output: sums in another order, as those of an FFT, round otherwise.
_ALLOWED = 1e-4


def screen(resolved: object) -> None:
    """Tries what of a run is not of the catalogue: its mixers, on the run's device, and its task.

    Raises:
        MixerError: it has another form than the contract's, or sees later tokens.
        UsageError: the task's tables have another form.
    """
    if isinstance(resolved, ResolvedCell):
        cell = resolved.spec
        if cell.joining_mixer is not None and resolved.make is not None:
            makers = {cell.joining_mixer.mixer: resolved.make}
            _try_all(makers, PUBLISHED_WIDTH, sizes_of([cell.context], _PIECE, cell.seed), "cpu")
        return
    if not isinstance(resolved, Resolved | ResolvedPredictor):
        return
    task, spec = resolved.task, resolved.spec
    if is_outside(spec.task):
        shortest = min(spec.test_contexts) if isinstance(spec, PredictorSpec) else spec.context
        _try_task(spec.task, task, shortest, spec.seed)
    if isinstance(resolved, Resolved):
        run = resolved.spec
        answer = task.sample("train", run.context, 1).answers.shape[1]
        sizes = sizes_of((run.context, max(run.tested)), answer, run.seed)
        makers = dict(zip(run.mixers, resolved.mixers, strict=True))
        _try_all(makers, run.width, sizes, run.device)


def _try_all(
    makers: "Mapping[str, Callable[[], Mixer]]", width: int, sizes: "list[Size]", device: str
) -> None:
    for name, make in makers.items():
        if is_outside(name):
            _try(name, make, width, sizes, device)


class Size(NamedTuple):
    """Sequences, their tokens, and how many tokens were read in a call before."""

    batch: int
    length: int
    past: int = 0


def sizes_of(longest: Iterable[int], answer: int, seed: int) -> list[Size]:
    """What a mixer is tried at: texts and answers of the run's lengths, and some that are drawn."""
    longest = sorted({_ODD, *(min(LONGEST, length) for length in longest)})
    stream = np.random.default_rng(named_seed("screen", seed))
    drawn = np.exp(stream.uniform(np.log(2), np.log(longest[-1]), (_DRAWN, 2))).astype(int)
    return [
        Size(3, _PIECE),
        Size(3, _PIECE, _PIECE),
        # An answer goes on from the state of a text.
        Size(3, answer, _ODD),
        *(Size(1, length) for length in longest),
        *(Size(2, *pair) for pair in drawn.tolist()),
    ]


def randomize_zero_parameters(mixer: "Mixer") -> "Mixer":
    """The mixer with small numbers drawn for the trained parameters that are 0 as it starts.

    What a gate or a projection that starts at 0 lets through after training is compared so too. A
    parameter that is 0 in places alone may be a mask, and stays.
    """
    import torch
    from torch.nn.parameter import is_lazy

    stream = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for part in mixer.parameters():
            if part.requires_grad and not is_lazy(part) and not part.any():
                part.copy_(0.1 * torch.randn(part.shape, generator=stream, dtype=torch.float64))
    return mixer


def said_of_call(mixer: "Mixer") -> str | None:
    """How `forward` cannot be called as the contract calls it; None where it can."""
    from rulekeep.mixers.base import part_of

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


def said_of_names(before: Collection[str], after: Collection[str]) -> str | None:
    """What a call has added to the names of a model's parts; None where it has added none."""
    made = ", ".join(sorted(set(after) - set(before)))
    fix = "make it in the constructor (a buffer with persistent=False), or no checkpoint fits"
    return f"its first call makes {made}: {fix} and no weight is trained" if made else None


def said_of_numbers(y: "Tensor") -> str | None:
    """How many outputs of a mixer as it starts are no numbers; None where all are."""
    odd = int((~y.isfinite()).sum())
    return f"{odd} of {y.numel()} outputs are not finite as it starts" if odd else None


def _try_task(name: str, task: "SampledTask", context: int, seed: int) -> None:
    """A look at a few examples: a task that fails at it fails its run with its own traceback."""
    sample = task.sample("train", context, _LOOKED_AT, seed=seed)
    said = said_of_sample(task, sample, _LOOKED_AT, context)
    if said is not None:
        raise UsageError(f"task {name!r}: {said}; all of the contract: rulekeep check-task {name}")


class _UnableError(Exception):
    """A mixer's own exception: the run's to record, with its traceback."""


def _try(
    name: str, make: "Callable[[], Mixer]", width: int, sizes: Sequence[Size], device: str
) -> None:
    import torch

    from rulekeep.mixers.base import MixerError

    with torch.random.fork_rng(), torch.no_grad():
        try:
            said = _fault(make, width, sizes, device)
        except _UnableError:
            return
    if said is not None:
        raise MixerError(f"mixer {name!r}: {said}; all of the contract: rulekeep check {name}")


def _fault(
    make: "Callable[[], Mixer]", width: int, sizes: Sequence[Size], device: str
) -> str | None:
    import torch

    from rulekeep.running.causality import later_texts

    def made() -> "Mixer":
        # Anew for each call, so that what counts its calls or draws by itself does the same.
        torch.manual_seed(1)
        mixer: Mixer = _own(lambda: make().to(device))
        return mixer

    mixer = made()
    names = set(mixer.state_dict())
    if said := said_of_call(mixer) or said_of_state(_own(lambda: mixer.init_state(3)), 3):
        return said
    draws = torch.Generator().manual_seed(2)
    for batch, length, past in sizes:
        x = torch.randn(batch, past + length, width, generator=draws).to(device)
        cuts = [past + cut for cut in (length, *sorted({1, length // 2, length - 1} - {0}))]
        before: Tensor | None = None
        for cut, text in later_texts(x, cuts, partial(torch.randn, generator=draws)):
            y, said = _outputs(randomize_zero_parameters(made()), text, past)
            if y is None:
                return said
            before = y if before is None else before
            if said := _change(before, y, cut - past):
                return said
    x = torch.randn(3, 2 * _PIECE, width, generator=draws).to(device)
    started, said = _outputs(mixer, x, 0)
    if started is None:
        return said
    said = said_of_names(names, mixer.state_dict()) or said_of_numbers(started)
    said = said or _otherwise(randomize_zero_parameters(made()), x)
    continued = {size.length: size for size in sizes if size.past}
    for batch, length, past in continued.values():
        x = torch.randn(batch, past + min(length, _ODD), width, generator=draws).to(device)
        said = said or _by_token(randomize_zero_parameters(made()), x, past)
    return said


def _outputs(mixer: "Mixer", x: "Tensor", past: int) -> "tuple[Tensor | None, str | None]":
    """Outputs of what stands after `past` tokens; or what is wrong with their form."""
    from rulekeep.mixers.base import part_of

    state: Any = None
    y: Tensor | None = None
    for piece in (x[:, :past], x[:, past:]) if past else (x,):
        result = _own(partial(part_of(mixer), piece, state))
        said = said_of_result(result) or said_of_state(result[1], len(x))
        if said := said or said_of_output(result[0], piece):
            return None, said
        y, state = result
        if y.dtype != piece.dtype:
            return None, f"the output is {y.dtype} for an input of {x.dtype}: return y.to(x.dtype)"
    assert y is not None
    return y, None


def _own(call: Callable[[], Any]) -> Any:
    """What a user's code gives."""
    try:
        return call()
    except Exception as error:
        raise _UnableError from error


def _change(before: "Tensor", after: "Tensor", cut: int) -> str | None:
    """Where outputs before a cut differ, as they may only if they see what follows."""
    from rulekeep.running.causality import largest_of

    # What rounds by the largest of a whole text, as an FFT, is let be.
    largest = max(largest_of(before), largest_of(after))
    off, most = _gaps(before[:, :cut], after[:, :cut], largest)
    if not most:
        return None
    place = int(off.amax((0, 2)).argmax())
    return (
        f"its output at token {place} changes by {most:.2g} when tokens from {cut} on are others: "
        "it sees what follows, and would be scored for that"
    )


def _otherwise(mixer: "Mixer", x: "Tensor") -> str | None:
    """How outputs differ after a state, after it once more, and without the rows beside."""
    from rulekeep.mixers.base import part_of

    def read(text: "Tensor", state: Any = None) -> Any:
        return _own(partial(part_of(mixer), text, state))

    first, later = x[:, :_PIECE], x[:, _PIECE:]
    (whole, _), (again, _) = read(x), read(x)
    # What is other each time anyway can be compared with nothing.
    if _gaps(whole, again)[1]:
        return None
    _, state = read(first)
    # An answer that is told and the model's own go on from one state.
    after, _ = read(later, state)
    # Another text between them: a memory beside the state holds that.
    read(-x)
    once_more, _ = read(later, state)
    if most := _gaps(whole[:, _PIECE:], after)[1]:
        return (
            f"its output after a state differs by {most:.2g} from that of the whole at once: "
            f"the state of {_PIECE} tokens must hold all that the next {_PIECE} need"
        )
    if most := _gaps(after, once_more)[1]:
        return (
            f"its output after a state differs by {most:.2g} when it goes on from that state once "
            "more: forward may not write to the state it is given, nor remember anything beside it"
        )
    alone, _ = read(x[:1])
    if most := _gaps(whole[:1], alone)[1]:
        return (
            f"its output differs by {most:.2g} without the other sequences of the batch: each "
            "must be apart from the others"
        )
    return None


def _by_token(mixer: "Mixer", x: "Tensor", past: int) -> str | None:
    """How an answer at once differs from the same one token by token, from one state."""
    from rulekeep.mixers.base import part_of
    from rulekeep.running.causality import in_pieces

    def read(text: "Tensor", state: Any) -> Any:
        return _own(partial(part_of(mixer), text, state))

    length = x.shape[1] - past
    (whole, _), (again, _) = (in_pieces(read, x, [past, length]) for _ in range(2))
    # As in `_otherwise`.
    if _gaps(whole, again)[1]:
        return None
    steps, _ = in_pieces(read, x, [past, *[1] * length])
    if most := _gaps(whole, steps)[1]:
        return (
            f"its output of {length} tokens differs by {most:.2g} from that of the same tokens one "
            f"by one, after {past} others: it sees what follows, or its state does not hold all"
        )
    return None


def _gaps(one: "Tensor", other: "Tensor", largest: float | None = None) -> "tuple[Tensor, float]":
    """How far outputs are apart, and the most of it; 0 where no more than rounding."""
    import torch

    from rulekeep.running.causality import LEAST_SCALE, largest_of

    # What is the same and not a number is the divergence of a run, and nothing to be found here.
    same = (one == other) | (one.isnan() & other.isnan())
    off = torch.where(same, 0.0, (one - other).abs().nan_to_num(nan=torch.inf))
    most, largest = off.max().item(), largest_of(one) if largest is None else largest
    return off, most if most > _ALLOWED * max(largest, LEAST_SCALE) else 0.0

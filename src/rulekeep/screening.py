"""A mixer that sees what follows would win: it is tried before its run, and watched in it.

    screen(spec)                      # before anything is trained: what comes from outside
    with watched(spec): ...           # the run: what its trained model answers

The screen is quick and saves the training: texts that differ from a place on, whose outputs have
to be the same before it, and a text in two pieces, which has to give what it gives at once. The
watch is what counts, for it looks at the trained model. Told the true answer so far, a model that
sees earlier tokens alone says what it says by itself, up to and with its first mistake; one that
sees the next token does not, for by itself there is none yet.
"""

import inspect
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rulekeep.registry import plugin_file
from rulekeep.resolving import article_mixer, resolve, resolve_predictor
from rulekeep.sample_form import said_of_sample
from rulekeep.specs import (
    PUBLISHED_WIDTH,
    AnySpec,
    ArticleCell,
    PredictorSpec,
    RunSpec,
    UsageError,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rulekeep.evaluation import Reading
    from rulekeep.mixers.base import Mixer
    from rulekeep.tasks.sampled import Sample, SampledTask

# A block of a task's draws is no cheaper to draw in part.
_LOOKED_AT = 64
# A longer text costs more than it tells: what changes its form with the length has done so.
LONGEST = 2048
# No length that a chunk divides, and about as much as an answer is long.
_ODD, _PIECE = 67, 12
# Of the largest output: sums in another order, as those of an FFT, round otherwise.
_ALLOWED, _LEAST_SCALE = 1e-4, 1e-3
# Of the last answers at each length this many may differ, for scores that are all but equal.
ANSWERS, _MOST_OTHER = 1000, 0.02


def screen(spec: AnySpec) -> None:
    """Tries what of a run is not of the catalogue: its mixers, on the run's device, and its task.

    Raises:
        MixerError: it has another form than the contract's, or sees later tokens.
        UsageError: the task's tables have another form.
    """
    if isinstance(spec, PredictorSpec):
        if plugin_file(spec.task) is not None:
            _try_task(spec.task, resolve_predictor(spec).task, min(spec.test_contexts), spec.seed)
        return
    if isinstance(spec, RunSpec):
        if plugin_file(spec.task) is not None:
            _try_task(spec.task, resolve(spec).task, spec.context, spec.seed)
        names, width, device = spec.mixers, spec.width, spec.device
        longest: tuple[int, ...] = (spec.context, max(spec.tested))
    elif isinstance(spec, ArticleCell) and spec.challenger is not None:
        names, width, device = (spec.challenger.mixer,), PUBLISHED_WIDTH, "cpu"
        longest = (spec.context,)
    else:
        return
    outside = {name for name in names if plugin_file(name) is not None}
    if not outside:
        return
    makers = resolve(spec).mixers if isinstance(spec, RunSpec) else (article_mixer(spec),)
    lengths = sorted({_ODD, *(min(LONGEST, length) for length in longest)})
    for name, make in dict(zip(names, makers, strict=True)).items():
        if name in outside:
            _try(name, make, width, lengths, device)


def part_of(mixer: "Mixer") -> "nn.Module":
    """The module that a user wrote, in what we put around it."""
    from rulekeep.mixers.base import Outside

    return mixer.module if isinstance(mixer, Outside) else mixer


def woken(mixer: "Mixer") -> "Mixer":
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


class Watch:
    """Which of a run's last answers, at each length of text, were other by themselves."""

    def __init__(self) -> None:
        self._other: dict[int, deque[bool]] = {}

    def add(self, sample: "Sample", reading: "Reading") -> None:
        """Answers told and answers by itself; what only has one of the two says nothing."""
        told, own = reading.predictions, reading.generated
        if told is None or own is None:
            return
        missed = (own != sample.answers) & sample.supervised
        # Up to and with the first mistake: after it the tokens before are others.
        same_before = np.cumsum(missed, axis=1) - missed == 0
        other = ((told != own) & same_before & sample.supervised).any(axis=1)
        kept = self._other.setdefault(sample.tokens.shape[1], deque(maxlen=ANSWERS))
        kept.extend(other.tolist())

    def check(self) -> None:
        """Whether the answers are those of a model that sees earlier tokens alone.

        Raises:
            MixerError: too many are other when the true answer is told.
        """
        from rulekeep.mixers.base import MixerError

        for length, other in self._other.items():
            if sum(other) > max(1.0, _MOST_OTHER * len(other)):
                raise MixerError(
                    f"{sum(other)} of {len(other)} answers at {length} tokens are others when the "
                    "true answer stands after them: its mixer sees what follows, goes on from a "
                    "state otherwise than the whole, or draws at random; rulekeep check says which"
                )


@contextmanager
def watched(spec: AnySpec) -> Iterator[None]:
    """Watches every answer that the model of a run gives meanwhile, and checks them at its end.

    From outside, and not where answers are scored: no figure comes out of it, so that the code
    that figures come out of, and with it every run's id, is the same as without. Answers are
    given in float32, whatever a run trains in.

    Raises:
        MixerError: as `Watch.check`.
    """
    if not isinstance(spec, RunSpec):
        yield
        return
    from rulekeep.evaluation import ModelPredictor

    watch, read = Watch(), ModelPredictor.read

    def and_watch(self: ModelPredictor, sample: "Sample") -> "Reading":
        reading = read(self, sample)
        watch.add(sample, reading)
        return reading

    ModelPredictor.read = and_watch  # type: ignore[method-assign]
    try:
        yield
    finally:
        ModelPredictor.read = read  # type: ignore[method-assign]
    watch.check()


def _try_task(name: str, task: "SampledTask", context: int, seed: int) -> None:
    """A look at a few examples: a task that fails at it fails its run with its own traceback."""
    sample = task.sample("train", context, _LOOKED_AT, seed=seed)
    said = said_of_sample(task, sample, _LOOKED_AT, context)
    if said is not None:
        raise UsageError(f"task {name!r}: {said}; all of the contract: rulekeep check-task {name}")


class _UnableError(Exception):
    """A mixer's own exception: the run's to record, with its traceback."""


def _try(
    name: str, make: "Callable[[], Mixer]", width: int, lengths: list[int], device: str
) -> None:
    import torch

    from rulekeep.mixers.base import MixerError

    with torch.random.fork_rng(), torch.no_grad():
        try:
            said = _fault(make, width, lengths, device)
        except _UnableError:
            return
    if said is not None:
        raise MixerError(f"mixer {name!r}: {said}; all of the contract: rulekeep check {name}")


def _fault(make: "Callable[[], Mixer]", width: int, lengths: list[int], device: str) -> str | None:
    import torch

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
    for batch, length, past in ((3, _PIECE, 0), (3, _PIECE, _PIECE), *((1, n, 0) for n in lengths)):
        x = torch.randn(batch, past + length, width, generator=draws).to(device)
        before: Tensor | None = None
        for cut in (length, *sorted({1, length // 2, length - 1} - {0})):
            text = x.clone()
            text[:, past + cut :] = 3 * torch.randn(text[:, past + cut :].shape, generator=draws)
            y, said = _outputs(woken(made()), text, past)
            if y is None:
                return said
            before = y if before is None else before
            if said := _change(before, y, cut):
                return said
    x = torch.randn(3, 2 * _PIECE, width, generator=draws).to(device)
    started, said = _outputs(mixer, x, 0)
    if started is None:
        return said
    said = said_of_names(names, mixer.state_dict()) or said_of_numbers(started)
    return said or _otherwise(woken(made()), x)


def _outputs(mixer: "Mixer", x: "Tensor", past: int) -> "tuple[Tensor | None, str | None]":
    """Outputs of what stands after `past` tokens; or what is wrong with their form."""
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
    # What rounds by the largest of a whole text, as an FFT, is let be.
    largest = max(_largest(before), _largest(after))
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


def _largest(y: "Tensor") -> float:
    finite = y[y.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0


def _gaps(one: "Tensor", other: "Tensor", largest: float | None = None) -> "tuple[Tensor, float]":
    """How far outputs are apart, and the most of it; 0 where no more than rounding."""
    import torch

    # What is the same and not a number is the divergence of a run, and nothing to be found here.
    same = (one == other) | (one.isnan() & other.isnan())
    off = torch.where(same, 0.0, (one - other).abs().nan_to_num(nan=torch.inf))
    most, largest = off.max().item(), _largest(one) if largest is None else largest
    return off, most if most > _ALLOWED * max(largest, _LEAST_SCALE) else 0.0

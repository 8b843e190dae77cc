"""The causality screen of a run, before it trains.

    screen(resolved)

A mixer that sees later tokens would win unfairly. The screen is quick and saves the training. Texts
that differ from one place on must have the same outputs before it. A text in pieces must give the
same outputs as the whole. A mixer that answers otherwise in eval mode is tried there too. Lengths
are those of the run, of its answers, and some drawn from its seed. Every evaluation of the trained
model checks causality again (`rulekeep.running.causality`).
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from rulekeep.checks.sample_form import said_of_sample
from rulekeep.mixers.base import Mixer, MixerError, auxiliary_loss, part_of, start_step
from rulekeep.plugins import failure_line, is_outside
from rulekeep.running.causality import LEAST_SCALE, changes, in_pieces, largest_of
from rulekeep.running.evaluation import first_place, in_eval_mode
from rulekeep.running.resolving import Resolved, ResolvedCell, ResolvedPredictor
from rulekeep.seeds import named_seed
from rulekeep.specs import PUBLISHED_WIDTH, PredictorSpec, UsageError
from rulekeep.tasks.sampled import SampledTask

# A block of a task's draws is no cheaper to draw in part.
_LOOKED_AT = 64
# A longer text costs more than it tells: what changes its form with the length has done so.
LONGEST = 2048
# No length that a chunk divides, and one of a few tokens.
_ODD, _PIECE = 67, 12
# As many sequences as are scored at once, and one more; of a few tokens each.
_MANY, _FEW = 257, 5
# Lengths that are drawn from the seed, so that no mixer can know what it is tried at.
_DRAWN = 3
# Of the largest output: sums in another order, as those of an FFT, round otherwise.
_ALLOWED = 1e-4


def screen(resolved: object) -> None:
    """Try the mixers and the task of a run that come from outside, on the run's device.

    Raises:
        MixerError: a mixer breaks the contract, or sees later tokens.
        UsageError: the tables of the task have a wrong form.
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
    makers: Mapping[str, Callable[[], Mixer]], width: int, sizes: "list[Size]", device: str
) -> None:
    for name, make in makers.items():
        if is_outside(name):
            _try(name, make, width, sizes, device)


class Size(NamedTuple):
    """Sequences, their tokens, and how many tokens an earlier call has read."""

    batch: int
    length: int
    past: int = 0


def sizes_of(longest: Iterable[int], answer: int, seed: int) -> list[Size]:
    """The sizes to try: texts and answers of the lengths of the run, and some that are drawn."""
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


def randomize_zero_parameters(mixer: Mixer) -> Mixer:
    """The mixer with small random numbers in trained parameters that start at 0.

    A gate or projection that starts at 0 hides what it lets through after training. A parameter
    that is 0 only in places may be a mask, and stays.
    """
    stream = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for part in mixer.parameters():
            if part.requires_grad and not is_lazy(part) and not part.any():
                part.copy_(0.1 * torch.randn(part.shape, generator=stream, dtype=torch.float64))
    return mixer


def said_of_call(mixer: Mixer) -> str | None:
    """Why `forward` cannot be called as the contract says; None if it can."""
    forward = part_of(mixer).forward
    try:
        signature = inspect.signature(forward)
        signature.bind(None, None)
    except TypeError:
        return f"forward takes {signature}: must take (x, state=None)"
    return None


def said_of_result(result: object) -> str | None:
    """What is wrong with the form of the result of `forward`; None if nothing is."""
    if isinstance(result, tuple) and len(result) == 2:
        return None
    of = f" of {len(result)}" if isinstance(result, tuple) else ""
    return f"forward returned a {type(result).__name__}{of}: must return y, state"


def said_of_state(state: object, batch: int) -> str | None:
    """What is wrong with the form of a state; None if nothing is."""
    if not isinstance(state, tuple) or not all(isinstance(part, Tensor) for part in state):
        kind = type(state).__name__
        if isinstance(state, tuple):
            kind = f"({', '.join(type(part).__name__ for part in state)})"
        return f"the state is a {kind}: must be a tuple of tensors, as in (memory,)"
    if any(not part.ndim or len(part) != batch for part in state):
        shapes = [list(part.shape) for part in state]
        return f"the state has {shapes} for {batch} sequences: the batch comes first"
    return None


def said_of_output(y: object, x: Tensor) -> str | None:
    """What is wrong with the form of the outputs; None if nothing is."""
    if isinstance(y, Tensor) and y.shape == x.shape:
        return None
    got = list(y.shape) if isinstance(y, Tensor) else f"a {type(y).__name__}"
    return f"the output is {got} for {list(x.shape)}: must be a tensor of the same shape"


def said_of_parts(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """What a call has added to a state dictionary, or lengthened there; None if nothing."""
    if made := ", ".join(sorted(after.keys() - before.keys())):
        fix = "make it in the constructor (a buffer with persistent=False), or no checkpoint fits"
        return f"its first call makes {made}: {fix} and no weight is trained"
    for name, part in after.items():
        old = before[name]
        # Extra state may be anything, and the shape of a lazy parameter is its first call's.
        if isinstance(part, Tensor) and not is_lazy(old) and part.shape != old.shape:
            return (
                f"a call turns {name} from {list(old.shape)} to {list(part.shape)}: make it "
                "persistent=False, or neither a checkpoint nor kept weights fit"
            )
    return None


def said_of_training(mixer: Mixer, x: Tensor) -> str | None:
    """What a training step would leave out or stumble over; None if nothing."""
    start_step(mixer, 1)
    with torch.enable_grad():
        result = part_of(mixer)(x, None)
        if said := said_of_result(result):
            return said
        try:
            auxiliary_loss(mixer, 1)
        except MixerError as error:
            return str(error)
    held = {id(part) for part in mixer.parameters()}
    nodes: list[Any] = [getattr(result[0], "grad_fn", None)]
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


def said_of_numbers(y: Tensor) -> str | None:
    """How many outputs of a new mixer are not finite; None if all are."""
    odd = int((~y.isfinite()).sum())
    return f"{odd} of {y.numel()} outputs are not finite as it starts" if odd else None


def _try_task(name: str, task: SampledTask, context: int, seed: int) -> None:
    """Draw a few examples; a failing task fails its run with its own traceback."""
    sample = task.sample("train", context, _LOOKED_AT, seed=seed)
    said = said_of_sample(task, sample, _LOOKED_AT, context)
    if said is not None:
        raise UsageError(f"task {name!r}: {said}; all of the contract: rulekeep check-task {name}")


class _UnableError(Exception):
    """An exception of the mixer itself, which the run records with its traceback."""


class _BrokenError(Exception):
    """What a mixer does that the contract has otherwise, in one line."""


def _try(
    name: str, make: Callable[[], Mixer], width: int, sizes: Sequence[Size], device: str
) -> None:
    try:
        # What fails by itself does so in its run.
        with torch.random.fork_rng(), torch.no_grad(), suppress(_UnableError):
            _hold(make, width, sizes, device)
    except _BrokenError as error:
        raise MixerError(
            f"mixer {name!r}: {error}; all of the contract: rulekeep check {name}"
        ) from None


def _hold(make: Callable[[], Mixer], width: int, sizes: Sequence[Size], device: str) -> None:
    draws = torch.Generator().manual_seed(2)

    def text(batch: int, length: int) -> Tensor:
        return torch.randn(batch, length, width, generator=draws).to(device)

    def started(scored: bool = False) -> Mixer:
        # Anew for each call, so that what counts its calls or draws by itself does the same.
        torch.manual_seed(1)
        mixer: Mixer = _own(lambda: make().to(device))
        return in_eval_mode(mixer) if scored else mixer

    def made(scored: bool) -> Mixer:
        return randomize_zero_parameters(started(scored))

    def read(make: Callable[[bool], Mixer], scored: bool, past: int, x: Tensor) -> Tensor:
        mixer = make(scored)
        before = mixer.state_dict()
        y = _outputs(mixer, x, past)
        _refuse(said_of_parts(before, mixer.state_dict()))
        return y

    def changed(scored: bool, past: int, x: Tensor) -> list[tuple[int, Tensor, Tensor]]:
        def pairs(make: Callable[[bool], Mixer], x: Tensor) -> list[tuple[int, Tensor, Tensor]]:
            length = x.shape[1] - past
            cuts = [past + cut for cut in sorted({1, length // 2, length - 1} - {0})]
            other = partial(torch.randn, generator=draws)
            return [*changes(partial(read, make, scored, past), x, cuts, other)]

        for make in (made, started):
            result = pairs(make, x)
            # Weights that are drawn may grow out of all numbers on a long text.
            if (known := _finite_tokens(result[0][1])) == x.shape[1]:
                return result
        # The rest has nothing to compare: an evaluation of such a text says so.
        return pairs(started, x[:, :known]) if known > past + 1 else []

    mixer = started()
    _refuse(said_of_call(mixer) or said_of_state(_own(lambda: mixer.init_state(3)), 3))
    modes, trained = {False}, torch.empty(0)
    for batch, length, past in sizes:
        whole = text(batch, past + length)
        for scored in (False, True):
            with _told_of(scored):
                if scored and torch.equal(read(made, scored, past, whole), trained):
                    continue
                modes.add(scored)
                for cut, before, found in changed(scored, past, whole):
                    _unchanged(before[:, past:], found[:, past:], cut - past)
                    trained = before
    x = text(3, 2 * _PIECE)
    for scored in sorted(modes):
        with _told_of(scored):
            _refuse(said_of_numbers(_outputs(started(scored), x, 0)))
            sound = made if _outputs(made(scored), x, 0).isfinite().all() else started
            _same_from_a_state(sound(scored), x)
            for batch, length, past in {size.length: size for size in sizes if size.past}.values():
                _same_by_token(sound(scored), text(batch, past + min(length, _ODD)), past)
    _refuse(_own(lambda: said_of_training(mixer, x)))
    _same_from_a_checkpoint(sound(False), x)


@contextmanager
def _told_of(scored: bool) -> Iterator[None]:
    try:
        yield
    except _BrokenError as error:
        if not scored:
            raise
        raise _BrokenError(f"in eval mode {error}") from None


def _refuse(said: str | None) -> None:
    if said is not None:
        raise _BrokenError(said)


def _outputs(mixer: Mixer, x: Tensor, past: int) -> Tensor:
    """Outputs of the tokens after the first `past`; or what is wrong with their form."""

    def read(piece: Tensor, state: Any) -> Any:
        before = piece.clone()
        result = _own(partial(part_of(mixer), piece, state))
        if not torch.equal(piece, before):
            _refuse("it changed its input in place: work on a copy")
        said = said_of_result(result) or said_of_state(result[1], len(x))
        _refuse(said or said_of_output(result[0], piece))
        if result[0].dtype != piece.dtype:
            _refuse(
                f"the output is {result[0].dtype} for an input of {x.dtype}: return y.to(x.dtype)"
            )
        return result

    return in_pieces(read, x, [past, x.shape[1] - past] if past else [x.shape[1]])[0]


def _own(call: Callable[[], Any]) -> Any:
    """The result of a user's code."""
    try:
        return call()
    except Exception as error:
        raise _UnableError from error


def _unchanged(before: Tensor, after: Tensor, cut: int) -> None:
    """Outputs before a cut differ only if they see what follows."""
    # What rounds by the largest of a whole text, as an FFT, is let be.
    largest = max(largest_of(before), largest_of(after))
    off, most = _gaps(before[:, :cut], after[:, :cut], largest)
    if most:
        place = int(off.amax((0, 2)).argmax())
        _refuse(
            f"it sees later tokens: its output at token {place} changes by {most:.2g} when tokens "
            f"from {cut} on are replaced"
        )


def _same_from_a_checkpoint(mixer: Mixer, x: Tensor) -> None:
    """A step of training, and the same from what a checkpoint holds."""

    def step() -> Tensor:
        start_step(mixer, 1)
        y: Tensor = part_of(mixer)(x, None)[0]
        return y

    # What its first call makes is there from now on.
    _own(step)
    kept = _own(lambda: deepcopy(mixer.state_dict()))
    first = _own(step)
    try:
        mixer.load_state_dict(kept)
    except Exception as error:
        _refuse(
            f"its own state_dict cannot be loaded, so no checkpoint could: {failure_line(error)}; "
            "get_extra_state needs set_extra_state"
        )
    again = _own(step)
    if most := _gaps(first, again)[1]:
        _refuse(
            f"its output differs by {most:.2g} when a training step is done again from the same "
            "weights and buffers, so a resumed run would be another: seed a generator of its own "
            "in start_step(step)"
        )


def _reader(mixer: Mixer) -> Callable[[Tensor, Any], Any]:
    def read(x: Tensor, state: Any) -> Any:
        return _own(partial(part_of(mixer), x, state))

    return read


def _same_from_a_state(mixer: Mixer, x: Tensor) -> None:
    """Outputs after a state, after it once more, and without the rows beside."""
    read = _reader(mixer)
    first, later = x[:, :_PIECE], x[:, _PIECE:]
    whole, again = read(x, None)[0], read(x, None)[0]
    # What is other each time anyway can be compared with nothing.
    if most := _gaps(whole, again)[1]:
        if not part_of(mixer).training:
            _refuse(f"its output differs by {most:.2g} when it reads the same text once more")
        return
    state = read(first, None)[1]
    # An answer that is told and the model's own go on from one state.
    after = read(later, state)[0]
    # Another text between them: a memory beside the state holds that.
    read(-x, None)
    once_more, alone = read(later, state)[0], read(x[:1], None)[0]
    many = x[:1, :_FEW].repeat(_MANY, 1, 1) * torch.linspace(1, 2, _MANY)[:, None, None].to(x)
    among, without = read(many, None)[0][-1:], read(many[-1:], None)[0]
    for expected, found, when, fix in (
        (whole[:, _PIECE:], after, "after a state differs by {} from that of the whole at once",
         f"the state of {_PIECE} tokens must hold all that the next {_PIECE} need"),
        (after, once_more, "after a state differs by {} when it goes on from that state once more",
         "forward may not write to the state it is given, nor remember anything beside it"),
        (whole[:1], alone, "differs by {} without the other sequences of the batch",
         "each must be apart from the others"),
        (among, without, f"differs by {{}} without the other sequences of a batch of {_MANY}",
         "each must be apart from the others"),
    ):  # fmt: skip
        if most := _gaps(expected, found)[1]:
            _refuse(f"its output {when.format(f'{most:.2g}')}: {fix}")


def _same_by_token(mixer: Mixer, x: Tensor, past: int) -> None:
    """An answer at once, and the same one token by token, from one state."""
    length = x.shape[1] - past
    whole, again, steps = (
        in_pieces(_reader(mixer), x, [past, *split])[0]
        for split in ([length], [length], [1] * length)
    )
    # As in `_same_from_a_state`.
    known = _finite_tokens(whole)
    whole, again, steps = whole[:, :known], again[:, :known], steps[:, :known]
    if known and not _gaps(whole, again)[1] and (most := _gaps(whole, steps)[1]):
        _refuse(
            f"its output of {length} tokens after {past} others differs by {most:.2g} from that of "
            "the same tokens one by one: it sees later tokens, or its state does not hold all"
        )


def _finite_tokens(y: Tensor) -> int:
    """How many tokens stand before the first with an output that is not finite."""
    return first_place(~y.isfinite().all(2), y.shape[1])


def _gaps(one: Tensor, other: Tensor, largest: float | None = None) -> tuple[Tensor, float]:
    """The differences of outputs, and the largest; 0 within rounding."""
    off = (one - other).abs().nan_to_num(nan=torch.inf)
    most, largest = off.max().item(), largest_of(one) if largest is None else largest
    return off, most if most > _ALLOWED * max(largest, LEAST_SCALE) else 0.0

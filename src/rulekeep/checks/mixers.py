"""Checks a mixer against the contract: each property, and by how much it differs.

    for row in check_mixer(MyMixer, {"heads": 2}):
        print(row.passed, row.property, row.compared)

`rulekeep check my_mixer.py:MyMixer --mixer-options.heads 2` gives the same rows. Values are
compared in float64, at lengths on and off the grids of chunked forms, for one sequence and for
three, and from a state that another text has left. A mixer that answers otherwise in eval mode must
hold there too. A layer without a state (`rulekeep.mixers.Stateless`) skips the properties of
states. A mixer without the option `serial` skips the comparison with its loop. The rows say so.

`screen(resolved)` is the same with a budget, before a run trains. A mixer that sees later tokens
would win unfairly. It looks at the properties that a run rests on, in float32, at the lengths of
the run, of its answers, and some drawn from its seed. After 30 seconds it starts no other. Every
evaluation of the trained model checks causality again (`rulekeep.running.causality`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from rulekeep.checks import properties
from rulekeep.checks.properties import CAUSES, LONG, OF_SCORING, OF_STATES, PROPERTIES, ROUND
from rulekeep.checks.rows import SEE_ABOVE, Row
from rulekeep.checks.sample_form import said_of_sample
from rulekeep.checks.subject import Size, Subject, Verdict
from rulekeep.mixers import Stateless
from rulekeep.mixers.base import Mixer, MixerError
from rulekeep.registry import failure_line, is_outside, parameters_of
from rulekeep.running.building import (
    Resolved,
    ResolvedCell,
    ResolvedPredictor,
    mixer_maker,
    mixer_options,
)
from rulekeep.seeds import named_seed
from rulekeep.specs import PUBLISHED_WIDTH, PredictorSpec, UsageError

# Around the edges of chunks of 16 and 64.
LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 130, 257)
# As long as answers are: a run reads them in one call from a state, and scores what it is told.
ANSWERS = range(3, 15)
# Further than a run looks itself, in one call without a gradient.
FURTHEST = 4096
# Of a screen: its time; a block of a task's draws, which is no cheaper to draw in part.
SECONDS, _LOOKED_AT = 30.0, 64
# A longer text costs more than it tells: what changes its form with the length has done so.
LONGEST = 2048
# No length that a chunk divides, and one of a few tokens.
_ODD, _PIECE = 67, 12
# Lengths that are drawn from the seed.
_DRAWN = 3
# Of the largest output: sums in another order, as those of an FFT, round otherwise.
_ALLOWED = 1e-4


def check_mixer(
    cls: type[Any],
    options: Mapping[str, Any] | None = None,
    *,
    width: int = 64,
    lengths: Sequence[int] = LENGTHS,
    device: str = "cpu",
) -> Iterator[Row]:
    """The properties of a mixer with these options, each as soon as it is known.

    If the mixer raises an exception, the row fails; nothing is raised here.

    Raises:
        UsageError: an option is impossible, or the constructor fails.
    """
    name = cls.__name__
    filled = mixer_options(name, cls, options or {})
    make, make_loop = mixer_maker(name, cls, width, filled), None
    if "serial" in parameters_of(cls):
        make_loop = mixer_maker(name, cls, width, {**filled, "serial": True})
    sizes = [Size(batch, length) for batch in (1, 3) for length in lengths]
    long = [Size(1, length) for length in (300, 511, ROUND, LONG, FURTHEST)]
    texts = [*long, *(Size(3, length) for length in ANSWERS)]
    subject = Subject(make, make_loop, width, sizes, texts, device)
    wrong, otherwise = False, cache(partial(properties.answers_otherwise, subject))
    for what, holds in PROPERTIES.items():
        with _one_thread():
            held = (None, SEE_ABOVE) if wrong else _held(holds, subject)
            if held[0] and holds in OF_SCORING and otherwise():
                # As it is scored: without gradients.
                with torch.no_grad():
                    scored = _held(holds, subject._replace(scored=True))
                held = (False, f"in eval mode: {scored[1]}") if scored[0] is False else held
        wrong = wrong or (holds in CAUSES and held[0] is False)
        yield Row(what, *held)


@contextmanager
def _one_thread() -> Iterator[None]:
    # Tensors here are small: threads that wait for each other take 30 times as long when cores
    # are busy.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _held(holds: Callable[[Subject], Verdict], subject: Subject) -> Verdict:
    if holds in OF_STATES and isinstance(subject.made(), Stateless):
        return None, "skipped: the layer has no state; the adapter keeps and reads its whole input"
    try:
        return holds(subject)
    # An early exit of its own included.
    except (Exception, SystemExit) as error:
        return False, failure_line(error)


def screen(resolved: object) -> None:
    """Try the mixers and the task of a run that come from outside, on the run's device.

    Raises:
        MixerError: a mixer breaks the contract, or sees later tokens.
        UsageError: the tables of the task have a wrong form.
    """
    if isinstance(resolved, ResolvedCell):
        cell = resolved.spec
        if cell.joining_mixer is not None and resolved.make is not None:
            subject = subject_of(resolved.make, PUBLISHED_WIDTH, [cell.context], _PIECE, cell.seed)
            hold(cell.joining_mixer.mixer, subject)
    if not isinstance(resolved, Resolved | ResolvedPredictor):
        return
    task, spec = resolved.task, resolved.spec
    if is_outside(spec.task):
        # A task that fails fails its run, with its own traceback.
        shortest = min(spec.test_contexts) if isinstance(spec, PredictorSpec) else spec.context
        sample = task.sample("train", shortest, _LOOKED_AT, seed=spec.seed)
        if said := said_of_sample(task, sample, _LOOKED_AT, shortest):
            all_of_it = f"all of the contract: rulekeep check-task {spec.task}"
            raise UsageError(f"task {spec.task!r}: {said}; {all_of_it}")
    if isinstance(resolved, Resolved):
        run = resolved.spec
        answer = task.sample("train", run.context, 1).answers.shape[1]
        lengths = (run.context, max(run.tested))
        for name, make in dict(zip(run.mixers, resolved.mixers, strict=True)).items():
            hold(name, subject_of(make, run.width, lengths, answer, run.seed, run.device))


def subject_of(
    make: Callable[[], Mixer], width: int, lengths: Iterable[int], answer: int, seed: int,
    device: str = "cpu",
) -> Subject:  # fmt: skip
    """A mixer to check at the lengths of a run and of its answers, and at some that are drawn."""
    longest = sorted({_ODD, *(min(LONGEST, length) for length in lengths)})
    stream = np.random.default_rng(named_seed("screen", seed))
    drawn = np.exp(stream.uniform(np.log(2), np.log(longest[-1]), (_DRAWN, 2))).astype(int)
    # An answer goes on from the state of a text.
    sizes = [Size(1, _PIECE, _PIECE), Size(3, _PIECE, _PIECE), Size(3, answer, _ODD)]
    texts = [
        *(Size(1, length, 0) for length in longest),
        *(Size(2, max(2, length), past) for length, past in drawn.tolist()),
    ]
    return Subject(
        make, None, width, sizes, texts, device, torch.float32, _ALLOWED, _ALLOWED, may_end=True
    )


def hold(name: str, subject: Subject) -> None:
    """Raise if a mixer from outside violates a property that a run rests on."""
    if not is_outside(name):
        return
    end = time.monotonic() + SECONDS
    with torch.random.fork_rng(), torch.no_grad():
        for holds, part in _looked_at(subject):
            # What fails by itself does so in its run, with its traceback.
            with suppress(Exception):
                held, said = holds(part)
                if held is False:
                    what = next(what for what, known in PROPERTIES.items() if known is holds)
                    where = f"{'in eval mode, ' if part.scored else ''}{what}"
                    break
            if time.monotonic() > end:
                return
        else:
            return
    raise MixerError(f"mixer {name!r}: {where}: {said}; all of the contract: rulekeep check {name}")


def _looked_at(subject: Subject) -> Iterator[tuple[Callable[[Subject], Verdict], Subject]]:
    """What is looked at, the cheapest and the most important first."""
    yield properties.form, subject
    scored = subject._replace(scored=True)
    modes = [subject, scored] if properties.answers_otherwise(subject) else [subject]
    for mode in modes:
        yield properties.form, mode
        yield properties.untouched, mode
        yield properties.no_draw, mode
        yield properties.causal, mode._replace(texts=())
    # States are of answers, so they are looked at as answers are scored.
    yield properties.deterministic, modes[-1]
    yield properties.initial_state, modes[-1]
    yield properties.splits, modes[-1]
    yield properties.tokens, modes[-1]
    yield properties.rows, modes[-1]
    yield properties.resumes, subject
    yield properties.initialisation, subject
    for size in subject.texts:
        for mode in modes:
            yield properties.causal, mode._replace(sizes=(), texts=[size])

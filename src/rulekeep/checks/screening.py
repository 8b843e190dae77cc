"""The screen of a run, before it trains: `rulekeep check` at the lengths of the run, with a budget.

    screen(resolved)

A mixer that sees later tokens would win unfairly, and the screen saves its training. It looks at
the properties that a run rests on, in float32, at the lengths of the run, of its answers, and some
drawn from its seed. After 30 seconds it starts no other. Every evaluation of the trained model
checks causality again (`rulekeep.running.causality`).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import numpy as np
import torch

from rulekeep.checks.properties import (
    PROPERTIES,
    answers_otherwise,
    causal,
    deterministic,
    form,
    initial_state,
    initialisation,
    no_draw,
    resumes,
    rows,
    splits,
    tokens,
    untouched,
)
from rulekeep.checks.sample_form import said_of_sample
from rulekeep.checks.subject import Size, Subject, Verdict
from rulekeep.mixers.base import Mixer, MixerError
from rulekeep.registry import is_outside
from rulekeep.running.building import Resolved, ResolvedCell, ResolvedPredictor
from rulekeep.seeds import named_seed
from rulekeep.specs import PUBLISHED_WIDTH, PredictorSpec, UsageError
from rulekeep.tasks.sampled import SampledTask

SECONDS = 30.0
# A block of a task's draws is no cheaper to draw in part.
_LOOKED_AT = 64
# A longer text costs more than it tells: what changes its form with the length has done so.
LONGEST = 2048
# No length that a chunk divides, and one of a few tokens.
_ODD, _PIECE = 67, 12
# Lengths that are drawn from the seed.
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
            mixer, length = cell.joining_mixer.mixer, cell.context
            hold(mixer, subject_of(resolved.make, PUBLISHED_WIDTH, [length], _PIECE, cell.seed))
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
    names = {holds: name for name, holds in PROPERTIES.items()}
    with torch.random.fork_rng(), torch.no_grad():
        for holds, part in _looked_at(subject):
            # What fails by itself does so in its run, with its traceback.
            with suppress(Exception):
                held, said = holds(part)
                if held is False:
                    break
            if time.monotonic() > end:
                return
        else:
            return
    where = f"{'in eval mode, ' if part.scored else ''}{names[holds]}"
    raise MixerError(f"mixer {name!r}: {where}: {said}; all of the contract: rulekeep check {name}")


def _looked_at(subject: Subject) -> Iterator[tuple[Callable[[Subject], Verdict], Subject]]:
    """What is looked at, the cheapest and the most important first."""
    yield form, subject
    scored = subject._replace(scored=True)
    modes = [subject, scored] if answers_otherwise(subject) else [subject]
    for mode in modes:
        yield form, mode
        yield untouched, mode
        yield no_draw, mode
        yield causal, mode._replace(texts=())
    # States are of answers, so they are looked at as answers are scored.
    for holds in (deterministic, initial_state, splits, tokens, rows):
        yield holds, modes[-1]
    yield resumes, subject
    yield initialisation, subject
    for size in subject.texts:
        for mode in modes:
            yield causal, mode._replace(sizes=(), texts=[size])


def _try_task(name: str, task: SampledTask, context: int, seed: int) -> None:
    """Draw a few examples; a failing task fails its run with its own traceback."""
    sample = task.sample("train", context, _LOOKED_AT, seed=seed)
    said = said_of_sample(task, sample, _LOOKED_AT, context)
    if said is not None:
        raise UsageError(f"task {name!r}: {said}; all of the contract: rulekeep check-task {name}")

"""Checks a mixer against the contract: each property, and by how much it differs.

    for row in check_mixer(MyMixer, {"heads": 2}):
        print(row.passed, row.property, row.compared)

`rulekeep check my_mixer.py:MyMixer --mixer-options.heads 2` gives the same rows. Values are
compared in float64, at lengths on and off the grids of chunked forms, for one sequence and for
three, and from a state that another text has left. A mixer that answers otherwise in eval mode must
hold there too. A layer without a state (`rulekeep.mixers.Stateless`) skips the properties of
states. A mixer without the option `serial` skips the comparison with its loop. The rows say so.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch

from rulekeep.checks.properties import (
    CAUSES,
    LONG,
    OF_SCORING,
    OF_STATES,
    PROPERTIES,
    ROUND,
    answers_otherwise,
)
from rulekeep.checks.rows import SEE_ABOVE, Row
from rulekeep.checks.subject import Size, Subject, Verdict
from rulekeep.mixers import Stateless
from rulekeep.registry import failure_line, parameters_of
from rulekeep.running.building import mixer_maker, mixer_options

# Around the edges of chunks of 16 and 64.
LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 130, 257)
# As long as answers are: a run reads them in one call from a state, and scores what it is told.
ANSWERS = range(3, 15)
# Further than a run looks itself, in one call without a gradient.
FURTHEST = 4096


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
    wrong, otherwise = False, cache(partial(answers_otherwise, subject))
    for what, holds in PROPERTIES.items():
        with _one_thread():
            held = (None, SEE_ABOVE) if wrong else _held(holds, subject)
            if held[0] and holds in OF_SCORING and otherwise():
                held = _held_in_eval_mode(holds, subject) or held
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


def _held_in_eval_mode(holds: Callable[[Subject], Verdict], subject: Subject) -> Verdict | None:
    """What fails in eval mode; None if nothing does."""
    # As it is scored: without gradients.
    with torch.no_grad():
        held, said = _held(holds, subject._replace(scored=True))
    return (False, f"in eval mode: {said}") if held is False else None


def _held(holds: Callable[[Subject], Verdict], subject: Subject) -> Verdict:
    if holds in OF_STATES and isinstance(subject.made(), Stateless):
        return None, "skipped: the layer has no state; the adapter keeps and reads its whole input"
    try:
        return holds(subject)
    # An early exit of its own included.
    except (Exception, SystemExit) as error:
        return False, failure_line(error)

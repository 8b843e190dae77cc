"""A task that a user names, with its options; and its examples, in pieces.

The options of a task are the fields of its `options_type`: `--decoy-rate 0.5` is `decoy_rate`.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rulekeep.checks.sample_form import AnyTask, whole_sample, whole_samples
from rulekeep.console import say
from rulekeep.registry import make
from rulekeep.specs import Spec, UsageError, choose, option_name, scalar
from rulekeep.tasks import (
    TASKS,
    FewCombinationsWarning,
    Sample,
    Split,
    Task,
)


class Asked(NamedTuple):
    """A task with the name that the user gave."""

    name: str
    task: AnyTask


def make_task(name: str, options: Mapping[str, str], own: Sequence[str]) -> Asked:
    """The task of a name, with options as strings; `own` are the other options of the command.

    Raises:
        UsageError: there is no such task or option, or a value is out of its range.
    """
    cls: Any = TASKS.find(name)
    given = task_options(name, cls, options, own)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewCombinationsWarning)
        task: AnyTask = make(f"task {name!r}", cls, given)
    for warning in caught:
        say(str(warning.message))
    return Asked(name, task)


def task_options(
    name: str, cls: type[Task], options: Mapping[str, str], own: Sequence[str]
) -> Spec:
    """Strings as the options of a task, read as those of a mixer are."""
    fields = cls.options_type.model_fields
    if hidden := sorted(fields.keys() & set(own)):
        raise UsageError(
            f"task {name!r}: its option {hidden[0]!r} is named as one of the command; rename it"
        )
    known = {key.replace("_", "-"): None for key in (*fields, *own)}
    for key in options:
        if option_name(key) not in fields:
            raise UsageError(f"--{key}: there is no such option; {choose(key, known)}")
    try:
        return cls.options_type.parse(
            **{option_name(key): scalar(text) for key, text in options.items()}
        )
    except UsageError as error:
        raise UsageError(f"task {name!r}: {error}") from None


def first_look(asked: Asked, split: Split, context: int, seed: int, number: int = 0) -> None:
    """Draw one example, so that a failing task is reported before anything is written."""
    whole_sample(f"task {asked.name!r}", asked.task, split, context, 1, seed=seed, start=number)


def draw_pieces(
    asked: Asked, split: Split, context: int, n: int, seed: int, piece_tokens: int
) -> Iterator[Sample]:
    """Examples 0 to n - 1, in pieces of roughly this many tokens.

    Raises:
        UsageError: a value is out of its range, or the code of the task fails.
    """
    step = max(1, piece_tokens // context) if context > 0 else 1
    named = f"task {asked.name!r}"
    yield from whole_samples(named, asked.task, split, context, n, seed=seed, step=step)

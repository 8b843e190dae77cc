"""A task that a user names, with its options; and its examples, in pieces.

The options of a task are the fields of its `options_type`: `--decoy-rate 0.5` is `decoy_rate`.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from rulekeep.checks.sample_form import whole_samples
from rulekeep.commands.console import say
from rulekeep.plugins import nearest
from rulekeep.running.tasks import build_task, load_task
from rulekeep.specs import UsageError, scalar
from rulekeep.tasks import (
    Article,
    FewCombinationsWarning,
    Sample,
    SampledTask,
    Split,
    Task,
    TaskOptions,
)

_FINITE = ConfigDict(allow_inf_nan=False)
AnyTask: TypeAlias = SampledTask | Article


class Asked(NamedTuple):
    """A task with the name that the user gave."""

    name: str
    task: AnyTask


def make_task(name: str, options: Mapping[str, str], own: Sequence[str]) -> Asked:
    """The task of a name, with options as strings; `own` are the other options of the command.

    Raises:
        UsageError: there is no such task or option, or a value is out of its range.
    """
    cls = load_task(name)
    values = task_values(name, cls, options, own)
    if issubclass(cls, Article):
        return Asked(name, cls())
    return Asked(name, build(name, cls, values))


def build(name: str, cls: Any, values: Mapping[str, Any]) -> SampledTask:
    """An instance; an exception of its code becomes one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewCombinationsWarning)
        task: SampledTask = build_task(name, cls, cls.options_type.parse(**values))
    for warning in caught:
        say(str(warning.message))
    return task


def task_values(
    name: str, cls: type[Task], options: Mapping[str, str], own: Sequence[str]
) -> dict[str, Any]:
    """Strings as the values that the options of a task take."""
    kind: type[TaskOptions] | None = getattr(cls, "options_type", None)
    fields = {} if kind is None else kind.model_fields
    if hidden := sorted(fields.keys() & set(own)):
        raise UsageError(
            f"task {name!r}: its option {hidden[0]!r} is named as one of the command; rename it"
        )
    values: dict[str, Any] = {}
    for written, text in options.items():
        field = written.replace("-", "_")
        if field not in fields:
            known = [*(known.replace("_", "-") for known in fields), *own]
            near = nearest(written, known)
            hint = f"did you mean --{near}? " if near else ""
            raise UsageError(
                f"--{written} {text[:80]!a}: {hint}{name} takes "
                f"{', '.join(f'--{option}' for option in known)}"
            )
        try:
            kind_of_value: Any = fields[field].annotation
            if scalar(text) is None and type(None) in get_args(kind_of_value):
                # As in a run's spec.
                values[field] = None
                continue
            values[field] = TypeAdapter(kind_of_value, config=_FINITE).validate_strings(text)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"]
            raise UsageError(
                f"--{written} {text[:80]!a}: {message[0].lower()}{message[1:]}"
            ) from None
    return values


def first_look(asked: Asked, split: Split, context: int, seed: int) -> Sample:
    """One example, so that a failing task is reported before anything is written."""
    return next(draw_pieces(asked, split, context, 1, seed, 1))


def draw_pieces(
    asked: Asked, split: Split, context: int, n: int, seed: int, piece_tokens: int
) -> Iterator[Sample]:
    """Examples 0 to n - 1, in pieces of roughly this many tokens.

    Raises:
        UsageError: a value is out of its range, or the code of the task fails.
    """
    task = asked.task
    if isinstance(task, Article):
        from rulekeep.article.sample import article_sample

        try:
            every = article_sample(task.examples(split, context))
        except ValueError as error:
            raise UsageError(str(error)) from None
        if not 1 <= n <= Article.size:
            raise UsageError(f"n {n}: must be from 1 to {Article.size} for article, a table")
        yield every._replace(**{name: getattr(every, name)[:n] for name in every.tables})
        return
    step = max(1, piece_tokens // context) if context > 0 else 1
    named = f"task {asked.name!r}"
    yield from whole_samples(named, task, split, context, n, seed=seed, step=step)

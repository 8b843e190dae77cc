"""A task that a user names, with its options; and its examples, in pieces.

The options of a task are the fields of its `options_type`: `--decoy-rate 0.5` is `decoy_rate`.
"""

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from rulekeep.checks.sample_form import whole_samples
from rulekeep.commands.console import say
from rulekeep.plugins import choose
from rulekeep.running.tasks import build_task, load_task
from rulekeep.specs import UsageError, option_name, scalar
from rulekeep.tasks import (
    Article,
    FewCombinationsWarning,
    Sample,
    SampledTask,
    Split,
    TaskOptions,
)

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
    if issubclass(cls, Article):
        _refuse_unknown(options, [], own)
        return Asked(name, cls())
    return Asked(name, _build(name, cls, task_options(name, cls, options, own)))


def _build(name: str, cls: Any, options: TaskOptions) -> SampledTask:
    """An instance; an exception of its code becomes one line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewCombinationsWarning)
        task: SampledTask = build_task(name, cls, options)
    for warning in caught:
        say(str(warning.message))
    return task


def task_options(
    name: str, cls: type[SampledTask], options: Mapping[str, str], own: Sequence[str]
) -> TaskOptions:
    """Strings as the options of a task, read as those of a mixer are."""
    fields = cls.options_type.model_fields
    if hidden := sorted(fields.keys() & set(own)):
        raise UsageError(
            f"task {name!r}: its option {hidden[0]!r} is named as one of the command; rename it"
        )
    _refuse_unknown(options, fields, own)
    try:
        return cls.options_type.parse_json(
            {option_name(key): scalar(text) for key, text in options.items()}
        )
    except UsageError as error:
        raise UsageError(f"task {name!r}: {error}") from None


def _refuse_unknown(options: Iterable[str], fields: Collection[str], own: Sequence[str]) -> None:
    known = {key.replace("_", "-"): None for key in (*fields, *own)}
    for key in options:
        if option_name(key) not in fields:
            raise UsageError(f"--{key}: there is no such option; {choose(key, known)}")


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
            every = article_sample(split, context)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if not 1 <= n <= Article.size:
            raise UsageError(f"n {n}: must be from 1 to {Article.size} for article, a table")
        yield every._replace(**{name: getattr(every, name)[:n] for name in every.tables})
        return
    step = max(1, piece_tokens // context) if context > 0 else 1
    named = f"task {asked.name!r}"
    yield from whole_samples(named, task, split, context, n, seed=seed, step=step)

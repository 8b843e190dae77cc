"""Certificates beside the runs that rest on them: which task, options and context has one.

A certificate is of a task with its options at one context (`rulekeep certify`). A run that was
tested without one is shown with the command that makes it.
"""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from rulekeep.analysis.table import Run
from rulekeep.printable import name
from rulekeep.records.identity import code_of_file
from rulekeep.reporting.tables import Table, Value, number_cell, words
from rulekeep.specs import Option, UsageError
from rulekeep.tasks import TASKS, SampledTask

_COLUMNS = (
    "task", "context", "certificate", "worst reader", "excess", "bound", "examples", "seed",
    "data", "code",
)  # fmt: skip


class Asked(NamedTuple):
    """A task with its options, sorted by name."""

    task: str
    options: tuple[tuple[str, Option], ...]


class _Read(BaseModel):
    # What certificates say beside this is shown nowhere.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Reader(_Read):
    """How far one reader is above chance; one of the whole context need not pass."""

    reader: str
    local: bool
    excess: FiniteFloat
    bound: FiniteFloat


class _Context(_Read):
    """One context in tokens, with a local reader at least."""

    context: Annotated[int, Field(ge=1, le=2**24)]
    passed: bool
    readings: tuple[Reader, ...]
    examples: int | None = None
    data_hash: str = ""

    @model_validator(mode="before")
    @classmethod
    def _of_the_article(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The article's has no readers, but the best of all by enumeration: its bound is exact."""
        if "readings" in values:
            return values
        excess = values["retention"] - values["chance"]
        best = {"reader": "last 6, best of all readers", "local": True, "bound": excess}
        return {**values, "readings": [{**values, **best, "excess": excess}]}

    @property
    def worst(self) -> Reader:
        """The local reader of the highest bound."""
        return max((one for one in self.readings if one.local), key=lambda one: one.bound)


class _Certificate(_Read):
    named: str
    options: dict[str, Option] = {}
    seed: int | None = None
    source: str = ""
    file: str = ""
    file_code: str = ""
    contexts: tuple[_Context, ...]

    @property
    def is_fresh(self) -> bool:
        """Whether the task's own file, where it still stands, has the same code."""
        file = Path(self.file)
        return file.suffix != ".py" or not file.is_file() or code_of_file(file) == self.file_code


# A certificate at one context, and what the greatest of several has: one of the code as it is
# counts before a stale one, one that fails says more, then examples.
Certified: TypeAlias = tuple[tuple[bool, bool, int], _Certificate, _Context]


def certificates(
    runs: Sequence[Run], records: Iterable[Mapping[str, Any]], folder: str
) -> tuple[Table, list[str]]:
    """What each task of the runs is certified for, and what was left out.

    `folder` is what commands call the folder of runs. Records that are no certificates are skipped.
    """
    kept, notes = _read(records)
    tested: dict[Asked, set[int]] = defaultdict(set)
    for run in runs:
        contexts = {one.context for one in run.record.tests()} or {*run.test_contexts}
        spec = run.record.spec
        tested[filled(spec.task, spec.task_options)] |= contexts or {run.context}
    rows = list[dict[str, Value]]()
    certified = 0
    for asked, contexts in sorted(tested.items(), key=lambda one: _named(one[0])):
        missing = sorted(context for context in contexts if (asked, context) not in kept)
        for context in sorted(contexts):
            row: dict[str, Value] = dict.fromkeys(_COLUMNS)
            row |= {"task": _named(asked), "context": context}
            rows.append(row)
            if (found := kept.get((asked, context))) is None:
                row["certificate"] = f"no certificate: {_command(asked, missing, folder)}"
                continue
            _, made, at = found
            certified += at.passed and made.is_fresh
            said = "passes" if at.passed else "FAILS"
            if not made.is_fresh:
                command = _command(asked, [context], folder)
                said += f", but {asked.task} has changed since: {command}"
            row |= {
                "certificate": said, "worst reader": at.worst.reader,
                "excess": number_cell(at.worst.excess, 4), "bound": number_cell(at.worst.bound, 4),
                "examples": number_cell(at.examples, 0), "seed": number_cell(made.seed, 0),
                "data": at.data_hash[:12] or None, "code": made.source[:16] or None,
            }  # fmt: skip
    said_of_all = words("certificates", certified=certified, all=len(rows))
    return Table.of("certificates", *said_of_all, rows), notes


def _read(
    records: Iterable[Mapping[str, Any]],
) -> tuple[dict[tuple[Asked, int], Certified], list[str]]:
    """The certificates that count, by task and context, and a note for each that is not whole."""
    kept: dict[tuple[Asked, int], Certified] = {}
    notes = []
    for record in records:
        if record.get("kind") != "certificate":
            continue
        try:
            made = _Certificate.model_validate(record)
            # Each context has a local reader.
            assert all(at.worst for at in made.contexts)
        except (ValueError, LookupError, TypeError):
            named = name(record.get("named"), "(no task)")
            notes.append(f"certificate of {named}: not whole, left out")
            continue
        asked = filled(made.named, made.options)
        for at in made.contexts:
            rank = made.is_fresh, not at.passed, at.examples or 0
            if (asked, at.context) not in kept or rank > kept[asked, at.context][0]:
                kept[asked, at.context] = rank, made, at
    return kept, notes


def filled(task: str, options: Mapping[str, Option]) -> Asked:
    """With every option of a task of the catalogue; what cannot be is left as it is."""
    kind = TASKS.get(task)
    if kind is not None and issubclass(kind, SampledTask):
        with suppress(UsageError):
            options = kind.options_type.parse(**options).model_dump()
    return Asked(task, tuple(sorted(options.items())))


def _changed(asked: Asked) -> dict[str, Option]:
    """Its options that are not the task's defaults."""
    defaults = dict(filled(asked.task, {}).options)
    return {key: value for key, value in asked.options if (key, value) not in defaults.items()}


def _command(asked: Asked, contexts: Sequence[int], folder: str) -> str:
    words = ["rulekeep", "certify", asked.task, "--context", ",".join(map(str, contexts))]
    for key, value in _changed(asked).items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--out", folder])


def _named(asked: Asked) -> str:
    """A task with its options that are not defaults, and where rules stand in any case."""
    changed = _changed(asked)
    shown = [
        f"{key} {value}"
        for key, value in asked.options
        if key in ("placement", "layout") or key in changed
    ]
    return ", ".join([name(asked.task, "(no task)"), *shown])

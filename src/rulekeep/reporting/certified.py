"""Certificates beside the runs that rest on them: which task, options and context has one.

A certificate is of a task with its options at one context (`rulekeep certify`). A run that was
tested without one is shown with the command that makes it.
"""

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rulekeep.analysis.runs import Run
from rulekeep.printable import one_line
from rulekeep.records.provenance import code_of_file
from rulekeep.records.record import Asked, asked_of, name, number, whole
from rulekeep.reporting.tables import MISSING, Cell, Table, number_cell
from rulekeep.specs import Option, UsageError
from rulekeep.tasks import TASKS, SampledTask


class Reader(NamedTuple):
    """What one reader scored; `passed` is None for one of the whole context, which need not."""

    name: str
    retention: float
    chance: float
    excess: float
    bound: float
    passed: bool | None


class Certified(NamedTuple):
    """A certificate at one context."""

    asked: Asked
    context: int
    passed: bool
    readers: tuple[Reader, ...]
    examples: int | None
    seed: int | None
    data_hash: str
    source: str
    is_stale: bool

    @property
    def worst(self) -> Reader:
        """The local reader of the highest bound."""
        return max((one for one in self.readers if one.passed is not None), key=lambda r: r.bound)


def certificates(
    runs: Sequence[Run], records: Iterable[Mapping[str, Any]], folder: str
) -> tuple[Table, Table, list[str]]:
    """What each task of the runs is certified for, every reader of it, and what was left out.

    `folder` is what commands call the folder of runs.
    """
    notes: list[str] = []
    kept: dict[tuple[Asked, int], Certified] = {}
    for record in records:
        for one in _read(record, notes):
            before = kept.get((one.asked, one.context))
            # Of several, one of the code as it is; one that fails says more, then one of more
            # examples.
            if before is None or _weight(one) > _weight(before):
                kept[one.asked, one.context] = one
    tested: dict[Asked, set[int]] = {}
    for run in runs:
        contexts = {e.context for e in run.record.evaluations if e.split == "test"} or {
            *run.test_contexts
        }
        tested.setdefault(filled(run.record.spec.asked), set()).update(contexts or {run.context})
    rows, readings = [], list[dict[str, Cell]]()
    certified = 0
    for asked, contexts in sorted(tested.items(), key=lambda one: _named(one[0])):
        missing = sorted(context for context in contexts if (asked, context) not in kept)
        for context in sorted(contexts):
            made = kept.get((asked, context))
            place = {"task": Cell(_named(asked)), "context": Cell(str(context), context)}
            if made is None:
                said = f"no certificate: {_command(asked, missing, folder)}"
                rows.append((*place.values(), Cell(said), *[Cell(MISSING)] * 7))
                continue
            certified += made.passed and not made.is_stale
            said = "passes" if made.passed else "FAILS"
            if made.is_stale:
                said += (
                    f", but {asked.task} has changed since: {_command(asked, [context], folder)}"
                )
            worst = made.worst
            rows.append(
                (
                    *place.values(),
                    Cell(said),
                    Cell(worst.name),
                    *(_figure(value) for value in (worst.excess, worst.bound)),
                    *(number_cell(n, 0) for n in (made.examples, made.seed)),
                    Cell(made.data_hash[:12] or MISSING),
                    Cell(made.source or MISSING),
                )
            )  # fmt: skip
            readings += [
                {
                    **place,
                    "reader": Cell(reader.name),
                    "retention": _figure(reader.retention),
                    "chance": _figure(reader.chance),
                    "excess": _figure(reader.excess),
                    "bound": _figure(reader.bound),
                    "passes": Cell({True: "yes", False: "NO", None: "need not"}[reader.passed]),
                }
                for reader in made.readers
            ]
    table = Table(
        key="certificates",
        title="Certificates: can it be done without memory?",
        meaning=f"{certified} of {len(rows)} tasks and contexts are certified: readers that "
        "remember nothing stay at chance there. “Excess”: how far the worst of them is above "
        "chance. Its upper bound (95 % for all readers together) must be at most 0.02. Where a "
        "certificate is missing or fails, retention may not mean that anything was kept.",
        header=(
            "task", "context", "certificate", "worst reader", "excess", "bound", "examples", "seed",
            "data", "code",
        ),
        rows=tuple(rows),
    )  # fmt: skip
    every = Table.of(
        key="readings",
        title="Every reader of the certificates",
        meaning="Readers of the whole context carry everything and need not pass.",
        rows=readings,
    )
    return table, every, notes


def filled(asked: Asked) -> Asked:
    """With every option of a task of the catalogue; what cannot be is left as it is."""
    kind = TASKS.get(asked.task)
    if kind is None or not issubclass(kind, SampledTask):
        return asked
    try:
        options = kind.options_type.parse_json(dict(asked.options))
    except UsageError:
        return asked
    return Asked(asked.task, tuple(sorted(options.model_dump().items())))


def options_text(asked: Asked) -> str:
    """Options that are not the task's defaults, and where rules stand in any case."""
    changed = _changed(asked)
    shown = [
        f"{key} {value}"
        for key, value in asked.options
        if key in ("placement", "layout") or key in changed
    ]
    return one_line(", ".join(shown))


def _changed(asked: Asked) -> dict[str, Option]:
    """Its options that are not the task's defaults."""
    defaults = dict(filled(Asked(asked.task, ())).options)
    return {key: value for key, value in asked.options if (key, value) not in defaults.items()}


def _command(asked: Asked, contexts: Sequence[int], folder: str) -> str:
    words = ["rulekeep", "certify", asked.task, "--context", ",".join(map(str, contexts))]
    for key, value in _changed(asked).items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    return one_line(shlex.join([*words, "--out", folder]), 1000)


def _named(asked: Asked) -> str:
    parts = [name(asked.task, "(no task)"), options_text(asked)]
    return ", ".join(part for part in parts if part)


def _figure(value: float) -> Cell:
    return Cell(f"{value:.4f}", value)


def _weight(made: Certified) -> tuple[bool, bool, int]:
    return (not made.is_stale, not made.passed, made.examples or 0)


def _is_stale(record: Mapping[str, Any]) -> bool:
    """Whether the task's own file, where it still stands, has other code by now."""
    file = Path(str(record.get("file", "")))
    try:
        is_there = file.suffix == ".py" and file.is_file()
        return is_there and code_of_file(file) != record.get("file_code")
    except (OSError, ValueError, SyntaxError):
        return False


def _read(record: Mapping[str, Any], notes: list[str]) -> list[Certified]:
    asked = filled(asked_of(record.get("named"), record.get("options")))
    rows = record.get("contexts")
    found, stale = [], _is_stale(record)
    for row in rows if isinstance(rows, list) else ():
        row = row if isinstance(row, dict) else {}
        context = whole(row.get("context"))
        readers = tuple(_readers(row))
        if context is not None and any(reader.passed is not None for reader in readers):
            found.append(
                Certified(
                    asked, context, row.get("passed") is True, readers,
                    whole(row.get("examples")), whole(record.get("seed")),
                    one_line(row.get("data_hash"), 64), one_line(record.get("source"), 16),
                    stale,
                )
            )  # fmt: skip
    if not isinstance(rows, list) or len(found) < len(rows):
        notes.append(f"certificate of {name(asked.task, '(no task)')}: not whole, left out")
    return found


def _readers(row: Mapping[str, Any]) -> Iterator[Reader]:
    rows = row.get("readings")
    if isinstance(rows, list):
        for one in rows:
            one = one if isinstance(one, dict) else {}
            keys = ("retention", "chance", "excess", "bound")
            figures = {key: _finite(one.get(key)) for key in keys}
            known = {key: value for key, value in figures.items() if value is not None}
            if len(known) == len(keys):
                passed = one.get("passed") is True if one.get("local") is True else None
                yield Reader(name=name(one.get("reader"), "(no name)"), passed=passed, **known)
        return
    # The article's, by exact enumeration: what the best of all readers scores is its bound.
    retention, chance = _finite(row.get("retention")), _finite(row.get("chance"))
    if retention is not None and chance is not None:
        excess, passed = retention - chance, row.get("passed") is True
        yield Reader("last 6, best of all readers", retention, chance, excess, excess, passed)


def _finite(value: object) -> float | None:
    found = number(value)
    return found if found is not None and math.isfinite(found) else None

"""Certificates beside the runs that rest on them: which task, options and context has one.

A certificate is of a task with its options at one context (`rulekeep certify`). A run that was
tested without one is shown with the command that makes it.
"""

import math
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from rulekeep.analysis.table import Run
from rulekeep.printable import name
from rulekeep.records.identity import code_of_file
from rulekeep.reporting.tables import Table, Value, number_cell, words
from rulekeep.specs import Option, UsageError
from rulekeep.tasks import TASKS, SampledTask


class Asked(NamedTuple):
    """A task with its options, sorted by name."""

    task: str
    options: tuple[tuple[str, Option], ...]


class _Certified(NamedTuple):
    """A certificate at one context; the greatest of several counts.

    One of the code as it is comes before a stale one, one that fails says more, then examples.
    """

    is_fresh: bool
    fails: bool
    examples: int
    row: dict[str, Value]


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
    rows, certified = list[dict[str, Value]](), 0
    for asked, contexts in sorted(tested.items(), key=lambda one: _named(one[0])):
        missing = sorted(context for context in contexts if (asked, context) not in kept)
        for context in sorted(contexts):
            found = kept.get((asked, context))
            if found is None:
                said = f"no certificate: {_command(asked, missing, folder)}"
            else:
                certified += found.is_fresh and not found.fails
                said = "FAILS" if found.fails else "passes"
                if not found.is_fresh:
                    command = _command(asked, [context], folder)
                    said += f", but {asked.task} has changed since: {command}"
            row: dict[str, Value] = {"task": _named(asked), "context": context, "certificate": said}
            rows.append({**row, **(found.row if found else {})})
    said_of_all = words("certificates", certified=certified, all=len(rows))
    return Table.of("certificates", rows, said_of_all), notes


def _read(
    records: Iterable[Mapping[str, Any]],
) -> tuple[dict[tuple[Asked, int], _Certified], list[str]]:
    """The certificates that count, by task and context, and a note for each that is not whole."""
    kept, notes = dict[tuple[Asked, int], _Certified](), list[str]()
    for record in records:
        if record.get("kind") != "certificate":
            continue
        try:
            asked = filled(record["named"], record.get("options", {}))
            made = {(asked, at["context"]): _certified(record, at) for at in record["contexts"]}
        # It may say anything, as a file of another version does.
        except (ValueError, LookupError, TypeError, AttributeError):
            named = name(record.get("named"), "(no task)")
            notes.append(f"certificate of {named}: not whole, left out")
            continue
        for key, one in made.items():
            kept[key] = max(kept.get(key, one), one, key=lambda of: of[:3])
    return kept, notes


def _certified(record: Mapping[str, Any], at: Mapping[str, Any]) -> _Certified:
    """One context of a certificate, with its local reader of the highest bound."""
    if "readings" in at:
        worst = max((one for one in at["readings"] if one["local"]), key=lambda one: one["bound"])
    else:
        # The article's has no readers, but the best of all by enumeration: its bound is exact.
        excess = at["retention"] - at["chance"]
        worst = {"reader": "last 6, best of all readers", "excess": excess, "bound": excess}
    excess, bound = worst["excess"], worst["bound"]
    if not (math.isfinite(excess) and math.isfinite(bound)):
        raise ValueError("no number")
    # The task's own file, where it still stands, may have changed.
    file, examples = Path(record.get("file", "")), at.get("examples")
    is_file = file.suffix == ".py" and file.is_file()
    row: dict[str, Value] = {
        "worst reader": str(worst["reader"]), "excess": number_cell(excess, 4),
        "bound": number_cell(bound, 4), "examples": number_cell(examples, 0),
        "seed": number_cell(record.get("seed"), 0), "data": at.get("data_hash", "")[:12] or None,
        "code": record.get("source", "")[:16] or None,
    }  # fmt: skip
    is_fresh = not is_file or code_of_file(file) == record.get("file_code", "")
    return _Certified(is_fresh, not at["passed"], examples or 0, row)


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

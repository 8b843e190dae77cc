"""Certificates beside the runs that rest on them: which task, options and context has one.

A certificate is of a task with its options at one context (`rulekeep certify`). A run that was
tested without one is shown with the command that makes it.
"""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from rulekeep.analysis.runs import Run
from rulekeep.records.provenance import code_of_file
from rulekeep.records.record import Asked, asked_of, name
from rulekeep.reporting.tables import Cell, Table, Value, number_cell
from rulekeep.specs import Option, UsageError
from rulekeep.tasks import TASKS, SampledTask

_NEEDED = {True: "yes", False: "NO", None: "need not"}


class _Read(BaseModel):
    # What certificates say beside this is shown nowhere.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Reader(_Read):
    """What one reader scored; one of the whole context need not pass."""

    reader: str
    local: bool
    retention: FiniteFloat
    chance: FiniteFloat
    excess: FiniteFloat
    bound: FiniteFloat
    passed: bool | None


class _Context(_Read):
    """One context in tokens; the article's has no readers, but the best of all by enumeration."""

    context: Annotated[int, Field(ge=1, le=2**24)]
    passed: bool
    readings: tuple[Reader, ...] = ()
    retention: FiniteFloat | None = None
    chance: FiniteFloat | None = None
    examples: int | None = None
    data_hash: str = ""

    @property
    def readers(self) -> tuple[Reader, ...]:
        """Every reader."""
        if self.readings or self.retention is None or self.chance is None:
            return self.readings
        # What the best of all readers scores is its bound.
        excess = self.retention - self.chance
        return (
            Reader(
                reader="last 6, best of all readers", local=True, retention=self.retention,
                chance=self.chance, excess=excess, bound=excess, passed=self.passed,
            ),
        )  # fmt: skip


class _Certificate(_Read):
    named: str
    options: dict[str, Option] = {}
    seed: int | None = None
    source: str = ""
    file: str = ""
    file_code: str = ""
    contexts: tuple[_Context, ...]

    @property
    def is_stale(self) -> bool:
        """Whether the task's own file, where it still stands, has other code by now."""
        file = Path(self.file)
        if file.suffix != ".py" or not file.is_file():
            return False
        try:
            return code_of_file(file) != self.file_code
        except SyntaxError:
            return True


class Certified(NamedTuple):
    """A certificate at one context."""

    made: _Certificate
    at: _Context
    is_stale: bool

    @property
    def weight(self) -> tuple[bool, bool, int]:
        """Of several, one of the code as it is counts; one that fails says more; then examples."""
        return not self.is_stale, not self.at.passed, self.at.examples or 0


def certificates(
    runs: Sequence[Run], records: Iterable[Mapping[str, Any]], folder: str
) -> tuple[Table, Table, list[str]]:
    """What each task of the runs is certified for, every reader of it, and what was left out.

    `folder` is what commands call the folder of runs.
    """
    kept, notes = _read(records)
    tested: dict[Asked, set[int]] = defaultdict(set)
    for run in runs:
        contexts = {one.context for one in run.record.tests()} or {*run.test_contexts}
        tested[filled(run.record.spec.asked)] |= contexts or {run.context}
    rows, readings = list[dict[str, Value]](), list[dict[str, Value]]()
    certified = 0
    for asked, contexts in sorted(tested.items(), key=lambda one: _named(one[0])):
        missing = sorted(context for context in contexts if (asked, context) not in kept)
        for context in sorted(contexts):
            place: dict[str, Value] = {"task": _named(asked), "context": context}
            found = kept.get((asked, context))
            if found is None:
                command = _command(asked, missing, folder)
                rows.append({**place, "certificate": f"no certificate: {command}", **_shown(None)})
                continue
            certified += found.at.passed and not found.is_stale
            said = "passes" if found.at.passed else "FAILS"
            if found.is_stale:
                command = _command(asked, [context], folder)
                said += f", but {asked.task} has changed since: {command}"
            rows.append({**place, "certificate": said, **_shown(found)})
            readings += ({**place, **_reading(one)} for one in found.at.readers)
    table = Table.of(
        key="certificates",
        title="Certificates: can it be done without memory?",
        meaning=f"{certified} of {len(rows)} tasks and contexts are certified: readers that "
        "remember nothing stay at chance there. “Excess”: how far the worst of them is above "
        "chance. Its upper bound (95 % for all readers together) must be at most 0.02. Where a "
        "certificate is missing or fails, retention may not mean that anything was kept.",
        rows=rows,
    )
    every = Table.of(
        key="readings",
        title="Every reader of the certificates",
        meaning="Readers of the whole context carry everything and need not pass.",
        rows=readings,
    )
    return table, every, notes


def _read(
    records: Iterable[Mapping[str, Any]],
) -> tuple[dict[tuple[Asked, int], Certified], list[str]]:
    """The certificates that count, by task and context, and a note for each that is not whole."""
    kept: dict[tuple[Asked, int], Certified] = {}
    notes = []
    for record in records:
        try:
            made = _Certificate.model_validate(record)
            if not all(any(one.local for one in at.readers) for at in made.contexts):
                raise ValueError("a context without a local reader")
        except ValueError:
            named = name(record.get("named"), "(no task)")
            notes.append(f"certificate of {named}: not whole, left out")
            continue
        asked, is_stale = filled(asked_of(made.named, made.options)), made.is_stale
        for at in made.contexts:
            one, before = Certified(made, at, is_stale), kept.get((asked, at.context))
            if before is None or one.weight > before.weight:
                kept[asked, at.context] = one
    return kept, notes


def _shown(found: Certified | None) -> dict[str, Value]:
    """The local reader of the highest bound, and what the certificate rests on."""
    if found is None:
        columns = ("worst reader", "excess", "bound", "examples", "seed", "data", "code")
        return dict.fromkeys(columns)
    made, at = found.made, found.at
    worst = max((one for one in at.readers if one.local), key=lambda one: one.bound)
    return {
        "worst reader": worst.reader,
        "excess": number_cell(worst.excess, 4),
        "bound": number_cell(worst.bound, 4),
        "examples": number_cell(at.examples, 0),
        "seed": number_cell(made.seed, 0),
        "data": at.data_hash[:12] or None,
        "code": made.source[:16] or None,
    }


def _reading(one: Reader) -> dict[str, Value]:
    figures = {key: getattr(one, key) for key in ("retention", "chance", "excess", "bound")}
    shown = {key: Cell(f"{value:.4f}", value) for key, value in figures.items()}
    passes = _NEEDED[one.passed if one.local else None]
    return {"reader": one.reader, **shown, "passes": passes}


def filled(asked: Asked) -> Asked:
    """With every option of a task of the catalogue; what cannot be is left as it is."""
    kind = TASKS.get(asked.task)
    if kind is None or not issubclass(kind, SampledTask):
        return asked
    try:
        options = kind.options_type.parse(**dict(asked.options))
    except UsageError:
        return asked
    return Asked(asked.task, tuple(sorted(options.model_dump().items())))


def _changed(asked: Asked) -> dict[str, Option]:
    """Its options that are not the task's defaults."""
    defaults = dict(filled(Asked(asked.task, ())).options)
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

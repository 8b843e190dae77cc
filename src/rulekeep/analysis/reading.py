"""Runs as a report uses them: each with a name that distinguishes it.

Every text that a page shows is one printable line here. Escaping for markup is left to each output.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from rulekeep.analysis.naming import BASELINE, LEARNED, labelled, named
from rulekeep.printable import counted, one_line
from rulekeep.records import Record
from rulekeep.records.record import PARTS, name

# What places a run, or says how long and carefully it was looked at: no part of a mixer's name.
_PLACED = {
    "task", "task_options", "mixer", "context", "test_contexts", "seed", "learning_rate",
    "evaluate_every", "validation_examples", "test_examples", "long_test_examples", "threads",
}  # fmt: skip

__all__ = ["BASELINE", "LEARNED", "PARTS", "Reading", "Run", "arrange"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One record as a report shows it.

    `task` includes its difficulty if the task was run at several. `label` is the mixer and what
    distinguishes the variant. For an outside model `context` is where it stands beside trained
    ones.
    """

    record: Record
    task: str
    label: str
    context: int
    # Options that came after it was made, with their defaults.
    later: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Record) -> "Run":
        """A record on its own, not yet told from others."""
        spec = record.spec
        return cls(record=record, task=name(spec.task, "(no task)"), label="", context=spec.context)

    @property
    def id(self) -> str:
        """The run's id."""
        return name(self.record.id, "")

    @property
    def twins(self) -> tuple[str, ...]:
        """Ids of the same training, tested otherwise, that stand in this one."""
        return tuple(name(one, "") for one in self.record.twins)

    @property
    def status(self) -> str:
        """How it ended."""
        return name(self.record.status, "no status")

    @property
    def reason(self) -> str:
        """Why it has no result, if so."""
        return one_line(self.record.reason)

    @property
    def versions(self) -> str:
        """The versions that its id is made of; nothing of a failed run that does not say them."""
        named = self.record.versions.items()
        return ", ".join(f"{name(key, '?')} {str(version)[:8]}" for key, version in named)

    @property
    def source(self) -> str:
        """The first letters of the digest of its code."""
        return name(self.record.source, "")[:12]

    @property
    def mixer(self) -> str:
        """The mixer's name."""
        return name(self.record.spec.mixer, "(no mixer)")

    @property
    def seed(self) -> int:
        """The seed."""
        return self.record.spec.seed

    @property
    def rate(self) -> float | None:
        """The learning rate."""
        return self.record.spec.learning_rate

    @property
    def test_contexts(self) -> tuple[int, ...]:
        """Every length in tokens that was to be tested, from the shortest."""
        return tuple(sorted({*self.record.spec.test_contexts, *self.record.tested_later}))

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """What it ran on, in the order of names."""
        return dict(sorted(self.record.environment.items()))

    @cached_property
    def settings(self) -> Mapping[str, str]:
        """A mixer's own options beside what the spec says of the model; its names come first."""
        spec = self.record.spec
        own, found = named(spec.mixer_options), named(_unplaced(spec.rest))
        apart = {f"mixer {k}" if k in found else k: v for k, v in own.items()}
        return {**self.later, **found, **apart}

    @cached_property
    def difficulty(self) -> Mapping[str, str]:
        """The task's options."""
        return named(self.record.spec.task_options)

    @property
    def trained_at(self) -> int | None:
        """The training length in tokens; None for an outside model, which is not trained."""
        return self.context if self.record.spec.is_trained else None


class Reading(NamedTuple):
    """The runs that can be shown, and a note for everything left out."""

    runs: tuple[Run, ...]
    notes: tuple[str, ...]


def arrange(records: Sequence[Record]) -> Reading:
    """Runs by task, label (baseline first), context, rate, seed; of one id, the last result."""
    notes: list[str] = []
    found: dict[str, Run] = {}
    for run in map(Run.of, records):
        shown, before = run, found.get(run.id)
        if before is not None:
            # A copy that failed elsewhere takes no result away.
            stands = before.record.is_result and not run.record.is_result
            said = "the finished one" if stands else "the last"
            notes.append(f"run {run.id}: more than one record, {said} is shown")
            shown = before if stands else run
        found[run.id] = shown
    notes += [*_later(records), *_own_notes(found.values())]
    runs, apart = _by_code(_labelled(_with_later(list(found.values()))))
    order = sorted(
        runs,
        key=lambda r: (
            r.task, r.mixer != BASELINE, r.label, r.context, r.rate or 0.0, r.seed, r.id,
        ),
    )  # fmt: skip
    return Reading(tuple(order), (*notes, *_repeated(order), *_unequal(order), *apart))


def _later(records: Sequence[Record]) -> list[str]:
    """A note on lengths that were tested after training."""
    added = [set(one.tested_later) for one in records if one.tested_later]
    if not added:
        return []
    said = ", ".join(f"{at:,}" for at in sorted(set().union(*added)))
    count = counted(len(added), "run")
    return [f"{count}: tested at {said} tokens after training, by rulekeep test"]


def _own_notes(runs: Iterable[Run]) -> list[str]:
    """What runs noted of themselves, each line once."""
    said = Counter(note for run in runs for note in run.record.notes)
    return [f"{counted(count, 'run')}: {note}" for note, count in said.items()]


def _repeated(runs: Sequence[Run]) -> list[str]:
    # The same seed twice, tested otherwise: one cell holds a seed once.
    same: dict[tuple[object, ...], list[str]] = {}
    for run in runs:
        if run.record.is_result:
            key = (run.task, run.label, run.context, run.rate, run.seed)
            same.setdefault(key, []).append(run.id)
    return [
        f"{task}, {label}, trained at {context}, seed {seed}: {len(ids)} runs ({', '.join(ids)}), "
        "made with other settings; the last named is shown, so keep one of them"
        for (task, label, context, _, seed), ids in same.items()
        if len(ids) > 1
    ]


def _unequal(runs: Sequence[Run]) -> list[str]:
    """A note where tests of different sizes stand side by side."""
    sizes: dict[tuple[str, int], set[int]] = {}
    for run in runs:
        if run.record.is_result:
            for one in run.record.tests():
                if one.examples >= 1:
                    sizes.setdefault((run.task, one.context), set()).add(int(one.examples))
    lengths: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for (task, at), examples in sorted(sizes.items()):
        if len(examples) > 1:
            lengths.setdefault((task, tuple(sorted(examples))), []).append(at)
    return [
        f"{task} at {', '.join(f'{one:,}' for one in at)} tokens: tests of "
        f"{' and '.join(f'{one:,}' for one in examples)} examples stand side by side"
        for (task, examples), at in lengths.items()
    ]


def _by_code(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Runs of a mixer with different code, kept apart, and a note for each such cell.

    Figures from before and after a change of the code are no seeds of one variant.
    """
    made: dict[tuple[str, str], dict[str, set[int]]] = {}
    for run in runs:
        if run.record.is_result:
            by_code = made.setdefault((run.task, run.label), {})
            by_code.setdefault(run.record.code, set()).add(run.seed)
    several = {cell: by_code for cell, by_code in made.items() if len(by_code) > 1}
    apart = []
    for run in runs:
        by_code = several.get((run.task, run.label), {})
        code = _apart(run.record.code, by_code) if by_code else ""
        apart.append(replace(run, label=f"{run.label}, code {code}") if code else run)
    return apart, [
        f"{task}, {label}: runs of {len(by_code)} versions of its code stand apart ("
        + "; ".join(
            f"seed {', '.join(map(str, sorted(seeds)))} by {_apart(code, by_code)}"
            for code, seeds in by_code.items()
        )
        + "), each named by its code; delete the folders of those that are out of date"
        for (task, label), by_code in several.items()
    ]


def _apart(code: str, among: Mapping[str, object]) -> str:
    """What of a version is not the same for all, in few letters."""
    shared = set.intersection(*(set(one.split(", ")) for one in among))
    own = [part for part in code.split(", ") if part not in shared]
    # Eight digits of a digest are enough to tell two apart.
    cut = (part.rpartition(" ") for part in own)
    return name(" ".join(f"{named}{space}{version[:8]}" for named, space, version in cut), code)


def _unplaced(values: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if key not in _PLACED}


def _labelled(runs: list[Run]) -> list[Run]:
    # A difficulty is part of the task's name where a task was run at several.
    options: dict[str, dict[str, set[str]]] = {}
    for run in runs:
        for key in run.difficulty:
            options.setdefault(run.task, {}).setdefault(key, set())
    for run in runs:
        for key, values in options.get(run.task, {}).items():
            values.add(run.difficulty.get(key, "none"))
    runs = _beside_trained([_with_difficulty(run, options.get(run.task, {})) for run in runs])
    labels = labelled(runs)
    return [replace(run, label=label) for run, label in zip(runs, labels, strict=True)]


def _with_later(runs: list[Run]) -> list[Run]:
    """Runs with options that came after them: they were made with the defaults."""
    defaults: dict[str, dict[str, str]] = {}
    for run in runs:
        # A run that failed may not say what was asked for: its plan may be lost.
        if run.record.is_result:
            left = {k: v for k, v in run.settings.items() if k not in run.record.given}
            defaults.setdefault(run.mixer, {}).update(left)
    return [replace(run, later=defaults.get(run.mixer, {})) for run in runs]


def _beside_trained(runs: list[Run]) -> list[Run]:
    """Outside models stand at the longest training length of their task.

    If nothing was trained, they stand at the longest length that any was tested at.
    """
    longest: dict[tuple[str, bool], int] = {}
    for run in runs:
        if run.record.is_result:
            key = (run.task, run.record.spec.is_trained)
            longest[key] = max(run.context, longest.get(key, 0))

    # In order what was trained comes last, and stands.
    beside = {task: at for (task, _), at in sorted(longest.items())}
    return [
        run
        if run.record.spec.is_trained
        else replace(run, context=beside.get(run.task, run.context))
        for run in runs
    ]


def _with_difficulty(run: Run, options: Mapping[str, set[str]]) -> Run:
    several = [key for key, values in sorted(options.items()) if len(values) > 1]
    # Where rules stand is said by itself: early or marked.
    named = {key: "" if key == "placement" else f"{key} " for key in several}
    parts = [f"{named[key]}{run.difficulty.get(key, 'none')}" for key in several]
    return replace(run, task=", ".join([run.task, *parts]))

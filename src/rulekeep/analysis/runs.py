"""A row of the table: a run with every field that anything groups by, and its figures.

run = Run.of(record)
for row in figures(record):
    row.table, row.figure, row.split, row.tested, row.value
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from rulekeep.analysis.summary import chance_corrected
from rulekeep.records import Evaluation, Record
from rulekeep.records.record import PARTS, name

# What places a run, or says how long and carefully it was looked at: no part of a mixer's name.
_PLACED = {
    "task", "task_options", "mixer", "context", "test_contexts", "seed", "learning_rate",
    "evaluate_every", "validation_examples", "test_examples", "long_test_examples", "threads",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """A row of the table: one run.

    `task` includes its difficulty if the task was run at several. `context` is the training length
    in tokens; an outside model stands at the longest of the others. `settings` are the options of
    its mixer and of its training.
    """

    record: Record
    task: str
    label: str
    context: int
    settings: Mapping[str, str]

    @classmethod
    def of(cls, record: Record, task: str = "", label: str = "") -> "Run":
        """The row of a record, of this task and label."""
        task = task or name(record.spec.task, "(no task)")
        return cls(
            record=record, task=task, label=label, context=record.spec.context,
            settings=_settings(record),
        )  # fmt: skip

    @property
    def seed(self) -> int:
        """The seed."""
        return self.record.spec.seed

    @property
    def rate(self) -> float | None:
        """The learning rate."""
        return self.record.spec.learning_rate

    @cached_property
    def mixer(self) -> str:
        """The mixer's name."""
        return name(self.record.spec.mixer, "(no mixer)")

    @property
    def test_contexts(self) -> tuple[int, ...]:
        """Every length in tokens that was to be tested, from the shortest."""
        return tuple(sorted({*self.record.spec.test_contexts, *self.record.tested_later}))

    @property
    def trained_at(self) -> int | None:
        """The training length in tokens; None for an outside model, which is not trained."""
        return self.context if self.record.spec.is_trained else None


class Figure(NamedTuple):
    """A figure of a run: a cost, or what it scored on a split at a tested length in tokens.

    `table` is `scores`, `chance` (of a score), `corrected` (a score without it), `parts` (retention
    by step, position and kind) or `costs`. Costs have no split, and those of the whole run no
    length.
    """

    table: str
    figure: str
    split: str | None
    tested: int | None
    value: float


def figures(record: Record) -> Iterator[Figure]:
    """Every figure of a run that ended; of one that diverged what it was tested for before."""
    for one in record.evaluations:
        for table, figure, value in _scored(one):
            yield Figure(table, figure, one.split, one.context, value)
    if record.has_model:
        by_length = {"state_bytes": record.state_bytes, "decode_ms_per_token": record.decode_ms}
        for figure, costs in by_length.items():
            for at, value in costs.items():
                yield Figure("costs", figure, None, at, value)
        for figure, value in record.costs.items():
            if math.isfinite(value):
                yield Figure("costs", figure, None, None, value)


def _scored(one: Evaluation) -> Iterator[tuple[str, str, float]]:
    chance = dict(one.chance)
    for figure, value in one.figures.items():
        if figure == "intrusion_chance":
            yield "chance", "intrusion_rate", value
            continue
        yield "scores", figure, value
        if figure in chance:
            yield "corrected", figure, chance_corrected(value, chance[figure])
    for figure, level in chance.items():
        yield "chance", figure, level
    for part in PARTS:
        for label, (retention, level, _) in one.parts.get(part, {}).items():
            figure = f"retention, {part} {label}"
            yield "parts", figure, retention
            yield "chance", figure, level
            # A default is no retention: its chance is 1, and nothing is left to correct.
            if level < 1:
                yield "corrected", figure, chance_corrected(retention, level)


def _settings(record: Record) -> dict[str, str]:
    """A mixer's own options beside what the spec says of the model; its names come first."""
    own = named(record.spec.mixer_options)
    rest = named({k: v for k, v in record.spec.rest.items() if k not in _PLACED})
    return rest | {f"mixer {k}" if k in rest else k: value for k, value in own.items()}


def named(values: Mapping[str, object]) -> dict[str, str]:
    """Options and their values as short printable names."""
    return {name(key, "?"): name(value, "none") for key, value in values.items()}

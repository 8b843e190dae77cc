"""A row of the table: a run with every field that anything groups by, its figures, its label.

    run = Run.of(record)
    for row in figures(record):
        row.table, row.figure, row.split, row.tested, row.value
    labels(runs)        # "attention, rotary", "delta, heads 2, short convolution", "mine.py:Mine"

A label names the mixer, and the options that differ from its defaults. It stands for one variant:
two models never share one, and one model has the same everywhere.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

from rulekeep.analysis.summary import chance_corrected
from rulekeep.records import Evaluation, Record
from rulekeep.records.record import PARTS, name
from rulekeep.registry import is_outside
from rulekeep.specs import ArticleCell

# What places a run, or says how long and carefully it was looked at: no part of a mixer's name.
_PLACED = {
    "task", "task_options", "mixer", "context", "test_contexts", "seed", "learning_rate",
    "evaluate_every", "validation_examples", "test_examples", "long_test_examples", "threads",
}  # fmt: skip

BASELINE = "attention"
LEARNED = "learned"
# Of a run's settings, those that are no part of the model.
_HOW_TRAINED = {
    "mixed_lengths", "length_growth", "steps", "batch_size", "warmup_steps", "final_share",
    "weight_decay", "max_gradient_norm", "stop_when_solved", "initial_states", "state_steps",
    "device", "precision",
}  # fmt: skip
_IN_FILE = re.compile(r"(?:.*[/\\])?([\w.-]+\.py:\w+)")
# Options with their values, by name.
Parts: TypeAlias = tuple[tuple[str, str], ...]


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


def labels(runs: Sequence[Run]) -> list[str]:
    """A label for each run, in order.

    A label names options that are not defaults. If two models would share it, it names more:
    settings of the model that vary among all runs of that name, then settings of training that vary
    on one task.
    """
    owned = [(run, _own(run, runs)) for run in runs]
    models: dict[tuple[str, Parts], list[Run]] = defaultdict(list)
    kinds: dict[tuple[str, str, int, Parts], list[Run]] = defaultdict(list)
    for run, own in owned:
        models[run.mixer, own].append(run)
        kinds[run.task, run.mixer, run.context, own].append(run)
    of_model = {key: _varying(same) - _HOW_TRAINED for key, same in models.items()}
    trained: dict[tuple[str, str, Parts], set[str]] = defaultdict(set)
    for (task, mixer, _, own), same in kinds.items():
        trained[task, mixer, own] |= _varying(same)
    variants = []
    for run, own in owned:
        keys = of_model[run.mixer, own] | trained[run.task, run.mixer, own]
        more = sorted(keys - {key for key, _ in own})
        variants.append((*own, *((key, run.settings.get(key, "none")) for key in more)))
    short = [spoken(_short(run), own) for run, own in zip(runs, variants, strict=True)]
    same_label: dict[str, set[tuple[str, Parts]]] = defaultdict(set)
    for run, label, own in zip(runs, short, variants, strict=True):
        same_label[label].add((run.mixer, own))
    return [
        label
        if len(same_label[label]) == 1
        else ", ".join([run.mixer, *(f"{key} {value}" for key, value in own)])
        for run, label, own in zip(runs, short, variants, strict=True)
    ]


def _own(run: Run, runs: Sequence[Run]) -> Parts:
    """The options of its mixer that are not the default, and the signal added to its input."""
    record, own = run.record, named(run.record.spec.mixer_options)
    if is_outside(record.spec.mixer):
        # Of a mixer from elsewhere: those that vary.
        among = [other for other in runs if other.mixer == run.mixer]
        differing = _varying(among) - _HOW_TRAINED
        kept = {key: value for key, value in run.settings.items() if key in differing}
    else:
        told = {*record.given}
        # Attention is named by its positions everywhere: a baseline says what it is. A record that
        # says nothing of them had none.
        if run.mixer == BASELINE and own:
            told, own = told | {"positions"}, {"positions": "none"} | own
        # A cell of the article has what was asked for alone.
        if record.spec.kind == ArticleCell.kind:
            told |= own.keys()
        kept = {key: value for key, value in own.items() if key in told}
    added = run.settings.get("added_positions", "none")
    if added != "none":
        kept["added_positions"] = added
    return tuple(sorted(kept.items()))


def _short(run: Run) -> str:
    """The name of a mixer; for one in a file, without folders."""
    in_file = _IN_FILE.fullmatch(run.record.spec.mixer)
    return run.mixer if in_file is None else name(in_file[1], "")


def spoken(mixer: str, parts: Parts) -> str:
    """A label in words: "attention, rotary, earliness", "delta, heads 2, short convolution"."""
    options = dict(parts)
    added, said = options.pop("added_positions", "none"), []
    if (own := options.pop("positions", None)) is not None and (own, added) != ("none", LEARNED):
        said.append("no positions" if own == "none" else own)
    if added not in ("none", "earliness"):
        said.append(f"{added} positions")
    if (size := options.pop("conv_size", "none")) != "none":
        said.append("convolution" if size == "4" else f"convolution {size}")
    for key, value in options.items():
        words = key.replace("_", " ").replace(".", " ")
        said.append({"True": words, "False": f"no {words}"}.get(value, f"{words} {value}"))
    # Earliness says how early a token is, which is not where: it stands beside positions.
    return ", ".join([mixer, *said, *["earliness"] * (added == "earliness")])


def _varying(runs: Sequence[Run]) -> set[str]:
    """The settings that differ between runs."""
    keys = set[str]().union(*(run.settings for run in runs))
    return {key for key in keys if len({run.settings.get(key) for run in runs}) > 1}

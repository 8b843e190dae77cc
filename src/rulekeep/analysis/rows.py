"""Typed rows: a variant, a task setting, a figure and a test length, with a value per seed.

    rows = Rows(records, variants, settings, context=256, seeds=(1, 2, 3, 4, 5))
    rows.known("ours", TaskSetting("recite"), "retention", 4096).mean

Tables, figures and claims of a study are functions of these. A `cell` is a `Group` of the report:
all runs of a variant on a task setting. Records are chosen by what was asked for, with every option
filled in, never by a displayed name.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rulekeep.analysis.groups import Group, grouped
from rulekeep.analysis.summary import LEARNED_RETENTION, Summary, paired_difference
from rulekeep.analysis.table import Run, merged
from rulekeep.printable import counted, markdown_table
from rulekeep.records import Record
from rulekeep.specs import HYBRID, MODEL, MixerSpec, Option, RunSpec, UsageError, mixer_specs

NOT_RUN, NOT_DEFINED = "not run", "not defined"


class Variant(NamedTuple):
    """A mixer with its options, as `rulekeep sweep --mixers` reads it, and its name in tables.

    `only` says which of its records count; by default all do.
    """

    mixer: str
    name: str
    only: Callable[[Record], bool] | None = None

    @property
    def one(self) -> MixerSpec:
        """The mixer with its options."""
        (found,) = mixer_specs(self.mixer)
        return found


class TaskSetting(NamedTuple):
    """A task with a placement and a number of rules."""

    task: str
    placement: str = "early"
    rules: int = 4

    @property
    def name(self) -> str:
        """As a table has it; four rules are the usual ones."""
        rules = [] if self.rules == 4 else [counted(self.rules, "rule")]
        return ", ".join([self.task, self.placement, *rules])


class Span(NamedTuple):
    """The lowest and the highest of several figures."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Span":
        """Of at least one figure; NaN at both ends where one is NaN, in whatever order."""
        every = list(values)
        if any(map(math.isnan, every)):
            return cls(math.nan, math.nan)
        return cls(min(every), max(every))

    def text(self, digits: int = 3) -> str:
        """The least to the most."""
        return f"{self.low:.{digits}f} to {self.high:.{digits}f}"


class Row(NamedTuple):
    """A test figure at one length: a value per seed, NaN for a seed that diverged."""

    seeds: Mapping[int, float]
    summary: Summary

    @property
    def mean(self) -> float:
        """The mean over the seeds; NaN where one diverged, as that of the others is not its own."""
        return math.fsum(self.seeds.values()) / len(self.seeds)

    @property
    def lowest(self) -> float:
        """The lowest seed; NaN where one diverged."""
        return Span.of(self.seeds.values()).low

    @property
    def each_seed(self) -> str:
        """The value of each seed, in their order."""
        return ", ".join(f"{value:.3f}" for _, value in sorted(self.seeds.items()))


class Rows:
    """Records by variant and task setting: one cell each, at the rate chosen on the validation set.

    A cell counts if all `seeds` are run, trained at `context` tokens at most.
    """

    def __init__(
        self,
        records: Iterable[Record],
        variants: Mapping[str, Variant],
        settings: Sequence[TaskSetting],
        context: int,
        seeds: Sequence[int],
    ) -> None:
        self.variants, self.settings = variants, settings
        self.context, self.seeds = context, seeds
        # All that was read, for what is no run of a task setting.
        self.records = [*records]
        runs = [
            Run.of(record, str(place), key)
            for record in merged(self.records)
            if record.spec.context == context and record.spec.seed in seeds
            for place, setting in enumerate(settings)
            if is_of_task(record, setting.task, placement=setting.placement, rules=setting.rules)
            for key, variant in variants.items()
            if is_variant(record, variant.one) and (variant.only is None or variant.only(record))
        ]
        order = [*variants]
        runs.sort(key=lambda run: (int(run.task), order.index(run.label), run.seed))
        _check_alike(runs, settings)
        # Of some seeds too.
        self.groups = {(group.label, settings[int(group.task)]): group for group in grouped(runs)}
        self._cells = {
            place: group for place, group in self.groups.items() if {*seeds} <= group.runs.keys()
        }

    def at(self, context: int | None = None, seeds: Sequence[int] | None = None) -> "Rows":
        """The same records trained at another length, or of other seeds."""
        asked = context or self.context, seeds or self.seeds
        return Rows(self.records, self.variants, self.settings, *asked)

    def cell(self, variant: str, setting: TaskSetting) -> Group | None:
        """The runs of a variant on a task setting; None if they are incomplete."""
        return self._cells.get((variant, setting))

    def group(self, variant: str, setting: TaskSetting) -> Group:
        """The runs of a variant on a task setting, which must be complete."""
        found = self.cell(variant, setting)
        if found is None:
            raise ValueError(f"{variant}, {setting.name}: not run")
        return found

    def cells(self, setting: TaskSetting, variants: Iterable[str] | None = None) -> list[Group]:
        """The cells of several variants, in order; missing ones are left out."""
        found = (self.cell(one, setting) for one in variants or self.variants)
        return [one for one in found if one is not None]

    def row(self, variant: str, setting: TaskSetting, figure: str, length: int) -> Row | None:
        """One figure; None if runs are missing, or it was not tested there."""
        group = self.cell(variant, setting)
        summary = None if group is None else group.summary(figure, length)
        if group is None or summary is None:
            return None
        return Row(group.by_seed(figure, length), summary)

    def known(self, variant: str, setting: TaskSetting, figure: str, length: int) -> Row:
        """One figure, which must exist."""
        found = self.row(variant, setting, figure, length)
        if found is None:
            raise ValueError(f"{variant}, {setting.name}, {figure} at {length}: not run")
        return found

    def text(self, variant: str, setting: TaskSetting, figure: str, length: int) -> str:
        """The mean with its interval, as a cell of a table, or why there is none."""
        group = self.cell(variant, setting)
        if group is None:
            return NOT_RUN
        return NOT_DEFINED if group.is_undefined(length) else text_of(group.summary(figure, length))

    def at_rate(
        self, variant: str, setting: TaskSetting, rate: float, figure: str, length: int
    ) -> dict[int, float]:
        """One figure by seed, at a rate that need not be the chosen one; NaN where one diverged."""
        return {
            record.spec.seed: found.get(length, math.nan)
            for record in self.runs(self.variants[variant].one, setting, rate=rate)
            if length in (found := by_length(record, figure)) or record.status == "diverged"
        }

    def more(
        self, variant: str, other: str, setting: TaskSetting, figure: str, length: int
    ) -> Summary:
        """What one variant has more than another, paired by seed."""
        both = [self.known(one, setting, figure, length).seeds for one in (variant, other)]
        return paired_difference(*both)

    def chance(self, setting: TaskSetting, figure: str, length: int) -> str:
        """The chance level there, as a cell of a table."""
        here = (group for (_, place), group in self.groups.items() if place == setting)
        levels = (group.chance(figure, length) for group in here)
        return next((f"{level:.3f}" for level in levels if level is not None), "–")

    def runs(
        self,
        one: MixerSpec,
        setting: TaskSetting,
        *,
        rate: float | None = None,
        context: int | None = None,
    ) -> list[Record]:
        """All runs of a mixer on a task setting, at one rate or at all; no rate is chosen."""
        task, placement, rules = setting
        return [
            record
            for record in self.records
            if record.spec.context == (context or self.context)
            and is_of_task(record, task, placement=placement, rules=rules)
            and is_variant(record, one)
            and (rate is None or math.isclose(record.spec.learning_rate or 0.0, rate, rel_tol=0.01))
        ]

    def name(self, group: Group) -> str:
        """What tables call the variant of a cell."""
        return self.variants[group.label].name


def _check_alike(runs: Iterable[Run], settings: Sequence[TaskSetting]) -> None:
    """Seeds of two versions, or of two trainings, are no seeds of one variant."""
    firsts: dict[tuple[object, ...], Run] = {}
    for run in runs:
        if run.record.is_result:
            what, first = (
                "of two versions of the code",
                firsts.setdefault((run.task, run.label), run),
            )
            if run.record.code == first.record.code:
                what = f"both seed {run.seed} at rate {run.rate}"
                first = firsts.setdefault((run.task, run.label, run.rate, run.seed), run)
            if first is not run:
                raise UsageError(
                    f"{settings[int(run.task)].name}, variant {run.label!r}: runs "
                    f"{first.record.id} and {run.record.id} are {what}; keep one of them, or "
                    "choose by `only` of the Variant"
                )


def is_variant(record: Record, one: MixerSpec, **settings: Option) -> bool:
    """Whether a record is of this mixer with these options; its training may differ.

    `settings` are settings of the model that all runs of a study share and that are not defaults.
    """
    spec = record.spec
    if spec.mixer != one.mixer:
        return False
    model = {**settings, **one.settings}
    wanted = {name: model.get(name, RunSpec.model_fields[name].default) for name in MODEL}
    wanted["hidden"] = wanted["hidden"] or 4 * wanted["width"]
    if not all(spec.rest.get(name) == value for name, value in wanted.items()):
        return False
    # All that its id counts was asked for. The rest may be a default, which only it says.
    asked = _by_mixer(one, spec.mixer_options)
    return record.shown_options.items() <= asked.items() <= spec.mixer_options.items()


def is_of_task(record: Record, task: str, **options: object) -> bool:
    """Whether a record is of this task with these options; other options may differ."""
    spec = record.spec
    return spec.task == task and options.items() <= spec.task_options.items()


def _by_mixer(one: MixerSpec, known: Mapping[str, Option]) -> dict[str, Option]:
    """Its options; in a hybrid one without a mixer's name is for each that has it."""
    found = dict[str, Option]()
    # What is said of one mixer holds over what is said of all, wherever it stands.
    for key, value in sorted(one.options.items(), key=lambda pair: "." in pair[0]):
        is_for_each = HYBRID in one.mixer and "." not in key
        takers = [name for name in known if is_for_each and name.endswith(f".{key}")]
        # One that none has stays: no record is of it.
        found |= dict.fromkeys(takers or [key], value)
    return found


def mean(variant: str, setting: TaskSetting, figure: str, length: int) -> Callable[[Rows], float]:
    """The mean of one row, as the value of a claim."""
    return lambda rows: rows.known(variant, setting, figure, length).mean


def more(
    variant: str, other: str, setting: TaskSetting, figure: str, length: int
) -> Callable[[Rows], Summary]:
    """What one variant has more than another, as the value of a claim."""
    return lambda rows: rows.more(variant, other, setting, figure, length)


def text_of(summary: Summary | None) -> str:
    """A cell of a table: the mean with its interval, or that there is none."""
    return NOT_RUN if summary is None else summary.text()


def difference(ours: Group, theirs: Group, figure: str, length: int) -> Summary:
    """Ours minus theirs, paired by seed."""
    return paired_difference(ours.by_seed(figure, length), theirs.by_seed(figure, length))


def pivot(
    corner: str, down: Mapping[str, Any], across: Mapping[str, Any], cell: Callable[..., str]
) -> str:
    """A Markdown table: a line for each of `down` and a column for each of `across`, by name."""
    body = [[name, *(cell(one, other) for other in across.values())] for name, one in down.items()]
    return markdown_table([corner, *across], body) + "\n"


def floored(value: float, digits: int = 3) -> float:
    """Rounded down, for "at least": nothing is below it."""
    return math.floor(value * 10.0**digits) / 10.0**digits


def state_kib(group: Group, length: int) -> float:
    """KiB of state a layer after so many tokens."""
    (run, *_) = group.runs.values()
    each = group.cost("state_bytes", length).values()
    return kib_a_layer(run.record, sum(each) / len(each))


def kib_a_layer(record: Record, state_bytes: float) -> float:
    """KiB a layer of what all layers of a run's model hold."""
    return state_bytes / float(str(record.spec.rest["layers"])) / 1024


def by_length(record: Record, figure: str = "retention") -> dict[int, float]:
    """A test figure of one run at each length; 0 where it has none, NaN where it is not finite."""
    return {
        test.context: math.nan if test.not_finite_from is not None else test.figures.get(figure, 0)
        for test in record.tests()
    }


def best_on_validation(groups: Iterable[Group], figure: str, context: int) -> Group:
    """The group with the highest mean on the validation set; of equals, the first that learns."""

    def scored(group: Group) -> tuple[float, float]:
        figures = [
            evaluation.figures.get(figure, math.nan)
            for run in group.runs.values()
            for evaluation in run.record.evaluations
            if (evaluation.split, evaluation.context) == ("validation", context)
        ]
        # One with a diverged seed comes last, as in a report: the others' mean is not its own.
        ended = all(run.record.has_model for run in group.runs.values())
        whole = figures and ended and all(map(math.isfinite, figures))
        return statistics.mean(figures) if whole else -math.inf, -steps_to_learn(group, figure)

    return max(groups, key=scored)


def best_on_test(groups: Iterable[Group], figure: str, context: int, seeds: int) -> Group | None:
    """The group with the highest test mean there; None if none was tested with so many seeds."""

    def scored(group: Group) -> float:
        each = group.by_seed(figure, context).values()
        return statistics.mean(each) if all(map(math.isfinite, each)) else -math.inf

    tested = [one for one in groups if len(one.by_seed(figure, context)) >= seeds]
    return max(tested, key=scored, default=None)


def steps_to_learn(group: Group, figure: str) -> float:
    """The median over the seeds of the first step with 0.9 of a figure; infinite without one."""
    return statistics.median(first_learned(run.record, figure) for run in group.runs.values())


def steps_text(group: Group, figure: str) -> str:
    """The same as a cell of a table."""
    return text_of_steps(steps_to_learn(group, figure))


def text_of_steps(count: float) -> str:
    """Steps as a cell of a table."""
    return f"{count:,.0f}" if math.isfinite(count) else "never"


def first_learned(record: Record, figure: str) -> float:
    """The first step at which the validation set gives 0.9 of a figure; else infinite."""
    learned = (row["step"] for row in record.history if row[figure] >= LEARNED_RETENTION)
    return next(learned, math.inf)

"""The report's tables as values: the same rows go to the page, to Markdown and to CSV."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rulekeep.analysis.cells import Contest, Group, Rates
from rulekeep.analysis.panels import Chart
from rulekeep.analysis.ranking import Ranked, Ranking
from rulekeep.analysis.reading import Run
from rulekeep.analysis.summary import (
    ENOUGH_SEEDS,
    RATE_RULE,
    Summary,
    TriedRate,
    learned_share,
    summarise,
)

MISSING = "–"
# As tables over seeds say it.
INTERVAL = (
    "the 95 % interval over seeds (Student t). It is of seeds that learn: where they lie in two "
    "groups, how many are in the upper one, and the mean and interval of those."
)
UNDEFINED = "not defined"
_FEW = " few"
# More task settings have no column of their own.
_MOST_TASKS = 8
# Scores without an interval.
_BRIEF = {"rule": "rule_accuracy", "item": "item_accuracy", "loss (nats)": "val_loss"}


class Cell(NamedTuple):
    """What a table shows, and the number it sorts by (None: it sorts as text)."""

    text: str
    value: float | None = None


MISSING_CELL = Cell(MISSING)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; rows with fewer than 5 seeds say so in a cell that ends in "few"."""

    key: str
    title: str
    meaning: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    # Rows of the user's own mixer, which are marked.
    own: frozenset[int] = frozenset()

    @classmethod
    def of(cls, key: str, title: str, meaning: str, rows: Sequence[Mapping[str, Cell]]) -> "Table":
        """A table of rows by column: all have the columns of the first, in its order."""
        header = tuple(rows[0]) if rows else ()
        cells = tuple(tuple(row[column] for column in header) for row in rows)
        return cls(key=key, title=title, meaning=meaning, header=header, rows=cells)

    @property
    def few(self) -> frozenset[int]:
        """The rows that rest on fewer than 5 seeds."""
        return frozenset(
            n for n, row in enumerate(self.rows) if any(c.text.endswith(_FEW) for c in row)
        )

    def filled(self) -> "Table":
        """Without the columns that have no value."""
        kept = [
            n for n in range(len(self.header)) if any(row[n].text != MISSING for row in self.rows)
        ]
        rows = tuple(tuple(row[n] for n in kept) for row in self.rows)
        return replace(self, header=tuple(self.header[n] for n in kept), rows=rows)

    def numbers(self) -> list[bool]:
        """For each column, whether it holds numbers, which stand to the right."""
        found = []
        for column in range(len(self.header)):
            shown = [row[column] for row in self.rows if row[column].text != MISSING]
            found.append(bool(shown) and all(cell.value is not None for cell in shown))
        return found


def ranked(ranking: Ranking) -> Table:
    """The answer: every variant, the user's own first, then by what it keeps."""
    rows = list[tuple[Cell, ...]]()
    tasks = [one.task for one in ranking.settings]
    shown_tasks = tasks if 1 < len(tasks) <= _MOST_TASKS else []
    for row in ranking.rows:
        lowest = Cell("diverged", -math.inf) if math.isnan(row.lowest) else number_cell(row.lowest)
        by_task = (row.by_task.get(task) for task in shown_tasks)
        whole = row.retention
        kept = _summary(whole) if row.place else Cell(_partly(row, tasks), whole.mean)
        rows.append(
            (
                Cell(MISSING) if row.place is None else _count(row.place),
                Cell(f"{row.label} (yours)" if row.is_own else row.label),
                number_cell(row.state_bytes, 0),
                kept,
                *([_summary(row.kept if row.place else None)] if ranking.is_corrected else []),
                lowest,
                _signed(row.difference),
                number_cell(row.train_seconds, 1),
                number_cell(row.decode_ms, 3),
                number_cell(row.parameters, 0),
                _seed_count(row.kept.seeds),
                *(number_cell(mean) for mean in by_task),
            )
        )
    return Table(
        key="ranking",
        title=f"What each variant keeps at {ranking.at}",
        meaning=_ranking_meaning(ranking),
        header=(
            "#", "variant", "state (bytes)", "retention",
            *(["corrected"] if ranking.is_corrected else []), "lowest seed",
            f"against {ranking.baseline or 'attention'}",
            "training (s)", "decode (ms/token)", "parameters", "seeds", *shown_tasks,
        ),
        rows=tuple(rows),
        own=frozenset(n for n, row in enumerate(ranking.rows) if row.is_own),
    )  # fmt: skip


def _ranking_meaning(ranking: Ranking) -> str:
    said = ["Retention: the share of rules right where the answer first needs them."]
    if len(ranking.settings) > 1:
        said.append(
            f"Mean over {len(ranking.settings)} task settings, seed by seed; “lowest seed” is that "
            "of any setting."
        )
    if ranking.is_corrected:
        said.append(
            "“Corrected” is the mean of (score − chance) / (1 − chance), since chance differs "
            "between settings. The order, the lowest seed and the differences are of it."
        )
    if ranking.left:
        said.append(
            f"Not in the mean, since not every variant ran them: {'; '.join(ranking.left)}."
        )
    if ranking.baseline:
        said.append(
            f"{ranking.baseline} is the attention that keeps most here on the test set; "
            "differences are paired by seed."
        )
    if missing := _untested(ranking):
        said.append(f"Not tested at this length: {'; '.join(missing)}.")
    said.append(f"In brackets: {INTERVAL} Differences are not corrected for their number.")
    return " ".join(said)


def _untested(ranking: Ranking) -> list[str]:
    """Variants that ran beside the others, and have no figure at the length compared."""
    known = {row.label for row in ranking.rows}
    ran = (g.label for one in ranking.settings for g in one.contest.at(one.context))
    return [label for label in dict.fromkeys(ran) if label not in known]


def _partly(row: Ranked, tasks: Sequence[str]) -> str:
    return f"{row.retention.mean or 0:.3f} ({len(row.by_task)} of {len(tasks)} settings)"


def drawn(chart: Chart) -> Table:
    """The values that a figure draws, a row a point."""
    panels = dict.fromkeys(panel.title for panel in chart.panels)
    names = list(dict.fromkeys(panel.y_label for panel in chart.panels if panel.y_label))
    several = len(panels) > 1 or len(names) > 1
    x_label = next((p.x_label for p in chart.panels if p.x_label), "context (tokens)")
    rows = []
    for panel in chart.panels:
        place = f"{panel.title}, {panel.y_label}" if len(names) > 1 else panel.title
        for series in panel.series:
            for point in series.points:
                ends = (point.y, point.low, point.high)
                rows.append(
                    (
                        *([Cell(place)] if several else []),
                        Cell(series.label),
                        _shown_number(round(point.x) if panel.x_ticks else point.x),
                        *(MISSING_CELL if end is None else _shown_number(end) for end in ends),
                        MISSING_CELL if point.seeds is None else _seed_count(point.seeds),
                    )
                )
    (y_label,) = names if len(names) == 1 else ("value",)
    return Table(
        key=f"values-{chart.key}",
        title=f"Values of the figure: {chart.title}",
        meaning="",
        header=(
            *(["panel"] if several else []), "variant", x_label.removesuffix(", log scale"),
            y_label, "low", "high", "seeds",
        ),
        rows=tuple(rows),
    )  # fmt: skip


def _shown_number(value: float) -> Cell:
    return Cell(f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}", value)


def scores(found: Sequence[Contest]) -> Table:
    """Every cell: its scores with intervals, and the difference to the baseline."""
    rows = []
    for contest in found:
        for group in contest.groups:
            for test in group.test_contexts:
                retentions = group.by_seed("retention", test)
                finite = group.finite("retention", test)
                summary = group.summary("retention", test)
                rival = contest.against_attention(group, "retention", test)
                undefined = group.is_undefined(test)
                brief = {
                    title: _summary(group.summary(figure, test), brief=True)
                    for title, figure in _BRIEF.items()
                }
                rows.append(
                    {
                        **place_cells(group, test),
                        "retention": _summary(summary) if not undefined else Cell(UNDEFINED),
                        "chance": number_cell(group.chance("retention", test)),
                        "learned": _learned(list(retentions.values())),
                        "against attention": Cell(MISSING) if rival is None else _signed(rival[1]),
                        "which": Cell(MISSING) if rival is None else Cell(rival[0].label),
                        "exact": _summary(group.summary("exact", test)),
                        **brief,
                        "intrusions": _intrusions(group, test),
                        "seeds": seeds_cell(finite) if not undefined else Cell(MISSING),
                    }
                )
    return Table.of(
        key="scores",
        title="Scores on the test set",
        meaning="Mean over seeds with its 95 % interval (Student t). “Learned”: seeds with "
        "retention of at least 0.9, and the exact interval of their share. “Against "
        "attention”: retention minus that of the attention that keeps most there, paired by "
        "seed. “Intrusions”: the share of wrong rules that are decoys. “Not defined”: learned "
        "positions end at the length trained on. tables.csv has every interval.",
        rows=rows,
    )


def costs(found: Sequence[Contest]) -> Table:
    """What a mixer costs: time, memory, state."""
    rows = []
    for contest in found:
        for group in contest.groups:
            defined = (test for test in group.test_contexts if not group.is_undefined(test))
            longest = max(defined, default=group.context)
            seconds = group.cost("train_seconds")
            taken = summarise(list(seconds.values())) if seconds else None
            rows.append(
                {
                    **_place(group),
                    "training (s)": _summary(taken, digits=1),
                    "steps to solve": _solved(group.cost("steps_to_solve"), len(seconds)),
                    "tokens/s": mean_cell(group.cost("tokens_per_second"), 0),
                    "peak (MiB)": mean_cell(group.cost("peak_memory_bytes"), 1, 2**20),
                    "parameters": mean_cell(group.cost("parameters"), 0),
                    "context": _count(longest),
                    "state (bytes)": mean_cell(group.state_bytes(longest), 0),
                    "decode (ms/token)": mean_cell(group.decode_ms(longest), 3),
                    "seeds": seeds_cell(seconds),
                }
            )
    return Table.of(
        key="costs",
        title="Costs",
        meaning="Means over the seeds that ended training. Training seconds are without warm-up "
        "and evaluation. “Steps to solve”: the first evaluation with 0.995 of the answers "
        "wholly right, and how many seeds had one. State and decode time are at “context”, the "
        "longest tested.",
        rows=rows,
    )


def learning_rates(found: Sequence[Contest]) -> Table:
    """The whole grid of learning rates of every mixer, a line a rate."""
    rows = []
    for contest in found:
        for rates in contest.rates:
            grid = {} if rates.choice is None else {one.rate: one for one in rates.choice.grid}
            for rate, runs in rates.runs.items():
                tried = grid.get(rate, TriedRate(rate, (), None))
                losses, mean, scores = tried.losses, tried.mean, tried.scores
                diverged = sum(not math.isfinite(loss) for loss in losses)
                loss = f"{diverged} of {len(losses)} diverged" if losses and mean is None else ""
                rows.append(
                    {
                        "task": Cell(contest.task),
                        "variant": Cell(rates.label),
                        "trained at": _count(rates.context),
                        "rate": Cell(f"{rate:g}", rate),
                        "retention": number_cell(scores.retention if scores else None),
                        "exact": number_cell(scores.exact if scores else None),
                        "loss (nats a token)": Cell(loss, math.inf) if loss else number_cell(mean),
                        "seeds compared": _seed_count(rates.seeds),
                        "runs": _count(runs),
                        "choice": Cell(verdict(rates, rate)),
                    }
                )
    return Table.of(
        key="learning-rates",
        title="Learning rates, chosen on the validation set",
        meaning=f"{RATE_RULE} Shown is the rate with most runs.",
        rows=rows,
    )


def failures(runs: Sequence[Run]) -> Table:
    """Runs that gave no whole result, and why."""
    rows = [
        {
            "status": Cell(run.status),
            **_place_of(run),
            "reason": Cell(run.reason or "no reason recorded"),
            "run": Cell(run.id),
        }
        for run in sorted(runs, key=lambda run: run.status)
        if run.status != "done"
    ]
    return Table.of(
        key="failures",
        title="Runs that diverged, failed or are not finite at a length",
        meaning="A diverged run is a result and counts in its cell. One with outputs that are not "
        "finite counts as diverged at that length alone. Any other is in no cell.",
        rows=rows,
    )


def every_run(runs: Sequence[Run]) -> Table:
    """A line a run."""
    return Table.of(
        key="runs",
        title="Every run",
        meaning="Retention is on the test set, at the length trained on. A model from outside "
        "stands at the longest of the others. Versions make the id; the source digest does not.",
        rows=[
            {
                **_place_of(run),
                "status": Cell(run.status),
                "retention": number_cell(_retention(run)),
                "training (s)": number_cell(run.record.costs.get("train_seconds"), 1),
                "versions": Cell(run.versions),
                "source": Cell(run.source),
                "run": Cell(run.id),
            }
            for run in runs
        ],
    )


def environments(runs: Sequence[Run]) -> Table:
    """The machines and versions the runs were made with, one line each."""
    counts = Counter(tuple(run.environment.items()) for run in runs)
    keys = dict.fromkeys(key for items in counts for key, _ in items)
    return Table(
        key="environment",
        title="Environment",
        meaning="Seconds compare within one line only.",
        header=(*keys, "runs"),
        rows=tuple(
            (*(Cell(items.get(key, MISSING)) for key in keys), _count(count))
            for items, count in ((dict(made), count) for made, count in counts.most_common())
        ),
    )


def _place_of(run: Run) -> dict[str, Cell]:
    """What a run is of."""
    return {
        "task": Cell(run.task),
        "variant": Cell(run.label),
        "trained at": _trained_at(run.trained_at),
        "seed": _count(run.seed),
        "rate": Cell(f"{run.rate:g}", run.rate) if run.rate else Cell(MISSING),
    }


def verdict(rates: Rates, rate: float) -> str:
    """What came of a rate in the choice; nothing for one that was tried and not chosen."""
    choice = rates.choice
    if choice is None:
        return f"not chosen: {rates.problem}"
    if choice.rate is None:
        return "every rate diverged"
    if rates.rate != choice.rate and rate in (rates.rate, choice.rate):
        return "shown: most runs" if rate == rates.rate else "what the rule says of these runs"
    if rate != choice.rate:
        return ""
    if choice.edge == "only":
        return "the only rate run"
    if choice.edge is None:
        return "chosen"
    return f"chosen, the {choice.edge} of its grid: {choice.extension:g} may be better"


def _intrusions(group: Group, test: int) -> Cell:
    rate, chance = (
        mean_cell(group.finite(key, test), 3) for key in ("intrusion_rate", "intrusion_chance")
    )
    if rate.text == MISSING:
        return rate
    return Cell(f"{rate.text} (chance {chance.text})", rate.value)


def place_cells(group: Group, test: int) -> dict[str, Cell]:
    """What a row is of: task, mixer, training length, test length."""
    return {**_place(group), "tested at": _count(test)}


def mean_cell(by_seed: Mapping[int, float], digits: int, unit: float = 1.0) -> Cell:
    """The mean over seeds, in units of `unit`."""
    return number_cell(sum(by_seed.values()) / len(by_seed) / unit if by_seed else None, digits)


def seeds_cell(by_seed: Mapping[int, float]) -> Cell:
    """How many seeds have a figure, marked when they are few."""
    return _seed_count(len(by_seed))


def _place(group: Group) -> dict[str, Cell]:
    return {
        "task": Cell(group.task),
        "variant": Cell(group.label),
        "trained at": _trained_at(group.trained_at),
    }


def _trained_at(context: int | None) -> Cell:
    return Cell(MISSING) if context is None else _count(context)


def _count(value: int) -> Cell:
    return Cell(str(value), float(value))


def number_cell(value: float | None, digits: int = 3) -> Cell:
    """A number, or that there is none."""
    if value is None:
        return Cell(MISSING)
    # Rounded first: what is all but 0 has no sign.
    shown = round(value, digits) + 0.0 if math.isfinite(value) else value
    return Cell(f"{shown:,.{digits}f}", value) if math.isfinite(value) else Cell(MISSING)


def _summary(summary: Summary | None, *, digits: int = 3, brief: bool = False) -> Cell:
    if summary is None:
        return Cell(MISSING)
    if brief and summary.mean is not None:
        return number_cell(summary.mean, digits)
    # What has no mean sorts below everything.
    return Cell(summary.text(digits), -math.inf if summary.mean is None else summary.mean)


def _solved(steps: Mapping[int, float], seeds: int) -> Cell:
    if not seeds:
        return Cell(MISSING)
    # Never solved sorts last.
    mean = mean_cell(steps, 0)
    value = math.inf if mean.value is None else mean.value
    return Cell(f"{mean.text} ({len(steps)} of {seeds})", value)


def _signed(difference: Summary | None) -> Cell:
    if difference is None:
        return Cell(MISSING)
    cell, mean = _summary(difference), difference.mean
    return cell._replace(text=f"+{cell.text}") if mean is not None and mean >= 0 else cell


def _learned(retentions: Sequence[float]) -> Cell:
    if not retentions:
        return Cell(MISSING)
    share = learned_share(retentions)
    return Cell(
        f"{share.learned} of {share.seeds} ({share.low:.2f} to {share.high:.2f})", share.share
    )


def _seed_count(seeds: int) -> Cell:
    return Cell(f"{seeds}{_FEW}" if seeds < ENOUGH_SEEDS else str(seeds), float(seeds))


def _retention(run: Run) -> float | None:
    there = (one for one in run.record.tests() if one.context == run.context)
    return next((one.figures.get("retention") for one in there), None)

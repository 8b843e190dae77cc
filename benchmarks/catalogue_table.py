"""The catalogue in README and docs/evidence.md, and its figure, out of its records.

    python benchmarks/catalogue_table.py                  # of results/catalogue
    python benchmarks/catalogue_table.py RUNS

Every mechanism of the presets `catalogue` and `catalogue-16-kib`, in one folder: retention on test,
mean over the seeds with its 95 % interval (Student t), highest at 1028 tokens first. At 16 KiB a
mechanism whose state is further from it than 5 % stands below the others with a dagger, unranked.
One with fewer than five seeds is named under its table as not run yet.
First the table of README: a mechanism a row, equal parameters in both cells at the length trained
on and the longest, which ranks them, and what it keeps longest with 16 KiB. Draws `catalogue.png`:
the same, each seed a point, the interval a bar.
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from rulekeep.article.report import markdown_table
from rulekeep.plots import COLOURS, as_bytes
from rulekeep.presets import CATALOGUE, CATALOGUE_16_KIB
from rulekeep.report import merged
from rulekeep.rows import text_of
from rulekeep.specs import Contestant, written
from rulekeep.store import Record, read_runs, write_bytes
from rulekeep.summary import ENOUGH_SEEDS, Summary, summarise_scores
from rulekeep.variants import is_of_task, is_variant

ROOT = Path(__file__).parent.parent / "results" / "catalogue"
CELLS = (("recite", "early"), ("override", "marked"))
CONTEXTS = (256, 1028, 4096)
# A state is a layer's, and one that grows is given at this many tokens.
RANKED_AT = 1028
# README has these alone: what is learned, and what is kept.
SHORT, LONG = CONTEXTS[0], CONTEXTS[-1]
FIGURE = "catalogue.png"
KIB = 16
NEAR_ENOUGH = 0.05
# A mechanism that is not asked about, and what a figure says where there is no row.
NONE, NOT_RUN, NOT_SIZED = "–", "not run", f"not at {KIB} KiB"
# Their gates cannot be had so wide for so few parameters: shown there as they are.
UNSIZED = ("lstm", "gru")
# What gives a state its size.
_SIZES = ("heads", "key_width", "slots", "window")


class Row(NamedTuple):
    """A mechanism in one cell: what it costs, its retention and `exact` at each length, or None.

    `seeds` has the retention of each seed, by seed; `chance` is that of retention.
    """

    one: Contestant
    parameters: int
    kib: float
    rate: float
    retention: Mapping[int, Summary | None]
    seeds: Mapping[int, Mapping[int, float]]
    exact: Mapping[int, Summary | None]
    chance: float

    @property
    def name(self) -> str:
        """What a table calls it."""
        return name_of(self.one)

    def place(self, context: int) -> float:
        """What it is ranked by, lowest first: its retention at a length."""
        found = self.retention[context]
        return math.inf if found is None or found.mean is None else -found.mean

    def by_seed(self, context: int) -> str:
        """What each seed keeps at a length, in their order: a cell of a table."""
        return ", ".join(f"{kept:.3f}" for _, kept in sorted(self.seeds[context].items()))


def page(records: Sequence[Record]) -> str:
    """Every table of docs/evidence.md, as Markdown, each under what it compares."""
    others = [one for one in CATALOGUE if one.mixer in UNSIZED]
    parts = []
    for title, kib, mixers, beside in (
        ("", None, CATALOGUE, []), (f", {KIB} KiB a layer", KIB, CATALOGUE_16_KIB, others)
    ):  # fmt: skip
        for task, placement in CELLS:
            named = f"{task}, {placement}{title}"
            rows = measured(mixers, records, task, placement)
            if not rows:
                parts.append(f"None of {len(mixers)} mechanisms is run yet ({named}).\n")
                continue
            shown = rows + measured(beside, records, task, placement)
            parts.append(table(named, shown, kib=kib))
            run = {row.name for row in rows}
            missing = [name for one in mixers if (name := name_of(one)) not in run]
            if missing:
                listed = "`, `".join(missing)
                done = f"{len(run)} of {len(mixers)} mechanisms are run ({named})"
                parts.append(f"{done}. Not yet: `{listed}`.\n")
    return "\n".join(parts)


def short(records: Sequence[Record]) -> str:
    """The table of README: a mechanism a row, what is kept longest first."""
    head = ["", f"KiB at {RANKED_AT}"]
    head += [f"{task}, {placement}, {at}" for task, placement in CELLS for at in (SHORT, LONG)]
    head.append(f"{CELLS[0][0]} at {KIB} KiB, {LONG}")
    body, sizes = [], _sizes()
    for row, other, large in _rows(records):
        cells = [
            text_of(one and one.retention[context])
            for one in (row, other)
            for context in (SHORT, LONG)
        ]
        if row.one.mixer in UNSIZED:
            sized = f"{text_of(row.retention[LONG])} †"
        else:
            sized = text_of(large and large.retention[LONG]) if row.name in sizes else NONE
        body.append([row.name, f"{row.kib:,.1f}", *cells, sized])
    return markdown_table(head, body) + "\n"


def figure(records: Sequence[Record]) -> Figure:
    """A panel a cell, and one at 16 KiB: retention of each mechanism at every length."""
    rows = _rows(records)
    titles = [f"{task}, {placement} rules" for task, placement in CELLS]
    titles.append(f"{titles[0]}, {KIB} KiB a layer")
    sizes = _sizes()
    panels: dict[str, list[Row | str]] = {
        title: [row[place] or NOT_RUN for row in rows] for place, title in enumerate(titles[:-1])
    }
    panels[titles[-1]] = [
        large or (NOT_RUN if row.name in sizes else NOT_SIZED) for row, _, large in rows
    ]
    return strips(panels, [row.name for row, *_ in rows], CONTEXTS)


def strips(
    panels: Mapping[str, Sequence[Row | str]], labels: Sequence[str], contexts: Sequence[int]
) -> Figure:
    """Retention, a labelled row each and a panel a cell: a point a seed, a bar an interval.

    Where there is no row, what is said instead. Dotted: the chance level, the same for every
    mechanism and length of a cell.
    """
    drawn = Figure(figsize=(3 + 4 * len(panels), 1.2 + 0.31 * len(labels)), layout="constrained")
    shown: dict[int, Artist] = {}
    for axes, (title, rows) in zip(
        drawn.subplots(1, len(panels), sharey=True), panels.items(), strict=True
    ):
        for place, context in enumerate(contexts):
            for y, row in enumerate(rows):
                at = y + 0.22 * (place - 1)
                if isinstance(row, str):
                    continue
                summary = row.retention[context]
                if summary is None or summary.mean is None:
                    continue
                colour = COLOURS[place]
                each = list(row.seeds[context].values())
                axes.plot(each, [at] * len(each), ".", color=colour, alpha=0.4)
                (mean,) = axes.plot([summary.mean], [at], "|", color=colour, markersize=9, mew=2)
                shown.setdefault(context, mean)
                if summary.low is not None:
                    axes.plot([summary.low, summary.high], [at, at], color=colour, linewidth=1.2)
        for y, row in enumerate(rows):
            if isinstance(row, str):
                axes.text(0.5, y, row, ha="center", va="center", color="0.5", fontsize=8)
        for level in {row.chance for row in rows if not isinstance(row, str)}:
            axes.axvline(level, color="0.3", linestyle=":", zorder=0)
        axes.set(title=title, xlabel="retention", xlim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
    first = drawn.axes[0]
    first.set_yticks(range(len(labels)), labels)
    first.set_ylim(len(labels) - 0.5, -0.5)
    # One row may be the first that has run, and one that was not has no colours to name.
    if shown:
        drawn.legend(
            shown.values(), [f"{context:,} tokens" for context in shown],
            loc="outside lower center", ncols=len(shown), fontsize=8,
        )  # fmt: skip
    return drawn


def _rows(records: Sequence[Record]) -> list[tuple[Row, Row | None, Row | None]]:
    """Who is run in the first cell, what is kept longest first, with two more rows of its own.

    Those are of the second cell, and of the first at 16 KiB.
    """
    first, second = (measured(CATALOGUE, records, *cell) for cell in CELLS)
    others = {row.name: row for row in second}
    sizes = _sizes()
    return [
        (
            row,
            others.get(row.name),
            row_of(sizes[row.name], records, *CELLS[0]) if row.name in sizes else None,
        )
        for row in sorted(first, key=lambda row: (row.place(LONG), row.name))
    ]


def _sizes() -> dict[str, Contestant]:
    """Who can be had at 16 KiB, by the name that it has in the catalogue."""
    return {name_of(one, sized=False): one for one in CATALOGUE_16_KIB}


def measured(
    mixers: Iterable[Contestant], records: Sequence[Record], task: str, placement: str
) -> list[Row]:
    """A row for each mechanism that has been run in full."""
    rows = (row_of(one, records, task, placement) for one in mixers)
    return [row for row in rows if row is not None]


def row_of(
    one: Contestant,
    records: Sequence[Record],
    task: str,
    placement: str,
    contexts: Sequence[int] = CONTEXTS,
    enough: int = ENOUGH_SEEDS,
) -> Row | None:
    """The row of one mechanism, at the rate with the most seeds; None with fewer than enough.

    Two records that differ in the lengths tested alone, of two presets, are one run; what other
    code has made is no seed of the same.
    """
    by_rate: dict[tuple[float, str], list[Record]] = {}
    for record in records:
        tried = record.spec.learning_rate
        placed = is_of_task(record, task, placement=placement)
        if placed and record.is_result and tried and is_variant(record, one):
            by_rate.setdefault((tried, record.code), []).append(record)
    each = [(rate, merged(same)) for (rate, _), same in sorted(by_rate.items())]
    rate, runs = max(each, key=lambda found: len(found[1]), default=(math.nan, []))
    if len({run.spec.seed for run in runs}) < enough:
        return None
    return _row(one, runs, rate, contexts)


def name_of(one: Contestant, *, sized: bool = True) -> str:
    """As a user would ask for it, but for the feed-forward layers.

    They only make up for what a mixer has more or less of. Without what gives its state a size, if
    not `sized`.
    """
    asked = {**one.options, **one.settings}
    left_out = {"hidden", *(() if sized else _SIZES)}
    # Of a hybrid an option has its mixer's name before it.
    kept = {name: value for name, value in asked.items() if name.split(".")[-1] not in left_out}
    return written(one.mixer, kept)


def _row(one: Contestant, runs: Sequence[Record], rate: float, contexts: Sequence[int]) -> Row:
    scores: dict[str, dict[int, dict[int, float]]] = {"retention": {}, "exact": {}}
    chances = set[float]()
    for run in runs:
        tested = {test.context: test for test in run.tests()}
        for context in contexts:
            if context in tested or run.status == "diverged":
                for figure, found in scores.items():
                    value = tested[context].figures[figure] if context in tested else math.nan
                    found.setdefault(context, {})[run.spec.seed] = value
        chances.update(round(test.chance["retention"], 3) for test in tested.values())
    # A run that diverged may not say all that it cost.
    measured = next((run for run in reversed(runs) if run.status == "done"), runs[0])
    # Where every seed diverged nothing was tested.
    (chance,) = chances or {math.nan}
    layers = one.spec().layers
    retention, exact = (
        {c: summarise_scores(list(found[c].values())) if c in found else None for c in contexts}
        for found in scores.values()
    )
    return Row(
        one,
        int(measured.costs["parameters"]),
        measured.state_bytes.get(RANKED_AT, math.nan) / layers / 1024,
        rate,
        retention,
        {c: scores["retention"].get(c, {}) for c in contexts},
        exact,
        chance,
    )


def table(title: str, rows: Sequence[Row], *, kib: float | None = None) -> str:
    """The rows, highest retention first; those of another size below, marked, if `kib` is given."""
    head = [
        title, "parameters", f"KiB at {RANKED_AT}", "rate", *(f"{c} tokens" for c in CONTEXTS)
    ]  # fmt: skip
    body = []
    far = {row.name for row in rows if kib and abs(row.kib / kib - 1) > NEAR_ENOUGH}
    for row in sorted(rows, key=lambda row: (row.name in far, row.place(RANKED_AT), row.name)):
        cells = [text_of(found) for found in row.retention.values()]
        mark = " †" if row.name in far else ""
        body.append(
            [row.name + mark, f"{row.parameters:,}", f"{row.kib:,.1f}", f"{row.rate:.3g}", *cells]
        )
    return markdown_table(head, body) + "\n"


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    kept = read_runs(root).records
    write_bytes(root / FIGURE, as_bytes(figure(kept), "png"))
    sys.stdout.write(f"{short(kept)}\n{page(kept)}")

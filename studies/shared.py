"""Tables and a figure that several studies have: they read it by `load_file` of the registry."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from rulekeep.analysis.charts import COLOURS
from rulekeep.analysis.groups import Group
from rulekeep.analysis.panels import as_bytes
from rulekeep.analysis.rows import NOT_RUN, Rows, Span, TaskSetting, pivot
from rulekeep.analysis.summary import Summary, paired_difference
from rulekeep.printable import markdown_table
from rulekeep.study import Claim, Family


def with_lowest(seeds: Iterable[float]) -> str:
    """A cell of a table: the mean of the seeds, and the lowest."""
    values = list(seeds)
    return f"{statistics.fmean(values):.3f} (lowest {Span.of(values).low:.3f})"


def shown(rows: Rows, family: Family, among: str = "") -> int:
    """How many comparisons are shown, among those with a text in their name."""
    return sum(one.is_shown for name, one in family.tested(rows).items() if among in name)


def tested(family: Family, of_which: int) -> Claim:
    """How many comparisons are tested, of which so many are shown."""
    return Claim(
        lambda rows: len(family.tested(rows)), 0, holds=lambda rows: shown(rows, family) == of_which
    )


def by_variant(rows: Rows, length: int, variants: Iterable[str] | None = None) -> str:
    """A Markdown table of retention: a task setting a line, chance and each variant a column."""

    def cell(setting: TaskSetting, variant: str | None) -> str:
        if variant is None:
            return rows.chance(setting, "retention", length)
        return rows.text(variant, setting, "retention", length)

    across = {rows.variants[key].name: key for key in variants or rows.variants}
    down = {one.name: one for one in rows.settings}
    return pivot(f"{length} tokens", down, {"chance": None, **across}, cell)


def by_lengths(rows: Rows, figure: str, variants: Iterable[str], lengths: Sequence[int]) -> str:
    """A Markdown table of a figure: a variant on a task setting a line, its rate, then each length.

    What is not run in all seeds has no line.
    """
    head = [figure, "rate", *(f"{at:,} tokens" for at in lengths)]
    keys = list(variants)
    body = [
        [
            f"{rows.variants[key].name}: {setting.name}",
            f"{rows.group(key, setting).rate:.3g}",
            *(rows.text(key, setting, figure, at) for at in lengths),
        ]
        for setting in rows.settings
        for key in keys
        if rows.cell(key, setting)
    ]
    return markdown_table(head, body)


class AtRates(NamedTuple):
    """Retention of variants in a task setting, each at every rate: none is chosen. Ours is last.

    `options` are of the task: other runs of it do not count. `name` is what a figure says.
    """

    setting: TaskSetting
    rates: Sequence[float]
    lengths: Sequence[int]
    variants: Sequence[str]
    options: Mapping[str, Any] = MappingProxyType({})
    name: str = ""

    def seeds(
        self, rows: Rows, length: int, figure: str = "retention"
    ) -> dict[tuple[str, float], dict[int, float]]:
        """A figure by seed of each variant at each rate that all seeds have run."""
        options = self.options.items()
        kept = [one for one in rows.records if options <= one.spec.task_options.items()]
        rows = Rows(kept, rows.variants, [], rows.context, rows.seeds)
        found = {
            (key, rate): rows.at_rate(key, self.setting, rate, figure, length)
            for key, rate in product(self.variants, self.rates)
        }
        return {at: seeds for at, seeds in found.items() if {*rows.seeds} <= seeds.keys()}

    def mean(self, key: str, rate: float, length: int = 0, figure: str = "retention") -> Claim:
        """The mean of a variant at a rate; at the longest length if none is given."""
        at = length or self.lengths[-1]
        return Claim(
            lambda rows: statistics.fmean(self.seeds(rows, at, figure)[key, rate].values())
        )

    def ahead(self, rows: Rows) -> dict[str, Summary]:
        """What ours keeps more than each other at the same rate and the longest length.

        Nothing until all are run: what is tested together is corrected together.
        """
        found, ours = self.seeds(rows, self.lengths[-1]), self.variants[-1]
        if len(found) < len(self.variants) * len(self.rates):
            return {}
        return {
            f"{rows.variants[key].name}, {rate:.2g}": paired_difference(found[ours, rate], seeds)
            for (key, rate), seeds in found.items()
            if key != ours
        }

    def table(self, rows: Rows) -> str:
        """A Markdown table: a variant at a rate a line, each length a column."""
        found = [self.seeds(rows, length) for length in self.lengths]
        body = [
            [
                rows.variants[key].name, f"{rate:.2g}",
                *(with_lowest(of[key, rate].values()) for of in found),
            ]
            for key, rate in found[0]
        ]  # fmt: skip
        head = [
            f"retention, {self.name or self.setting.task}",
            "rate",
            *(f"{at:,} tokens" for at in self.lengths),
        ]
        return markdown_table(head, body)


def over_rates(rows: Rows, panels: Sequence[tuple[AtRates, int]]) -> bytes:
    """A panel each, at a length: a line through the means over the rate, a point a seed."""
    drawn = Figure(figsize=(3.6 * len(panels), 3.4), layout="constrained")
    lines: dict[str, Artist] = {}
    subplots = drawn.subplots(1, len(panels), sharey=True)
    for axes, (of, length) in zip(subplots, panels, strict=True):
        found, rates = of.seeds(rows, length), sorted(of.rates)
        for key, colour in zip(of.variants, COLOURS, strict=False):
            curve = {rate: [*found[key, rate].values()] for rate in rates if (key, rate) in found}
            for rate, seeds in curve.items():
                axes.plot([rate] * len(seeds), seeds, ".", color=colour, alpha=0.35)
            means = [statistics.fmean(seeds) for seeds in curve.values()]
            (lines[key],) = axes.plot([*curve], means, color=colour)
        title = f"{of.name or of.setting.task}, {length:,} tokens"
        axes.set(title=title, xlabel="learning rate", xscale="log")
        axes.set_xticks(rates, [f"{rate:.2g}" for rate in rates], minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    subplots[0].set(ylabel="retention", ylim=(-0.02, 1.02))
    names = [rows.variants[key].name.replace("`", "") for key in lines]
    drawn.legend(lines.values(), names, loc="outside lower center", ncols=3, fontsize=8)
    return as_bytes(drawn, "png")


def by_earliness(
    rows: Rows,
    forms: Mapping[str, tuple[str, str]],
    settings: Sequence[TaskSetting],
    figure: str,
    length: int,
) -> str:
    """A Markdown table of each form without earliness and with it, a column a task setting.

    `forms` has the keys of both variants by name. A form that is not run at all has no row.
    """
    body = [
        [name, said, *(rows.text(key, one, figure, length) for one in settings)]
        for name, pair in forms.items()
        if any(rows.cell(key, one) for key in pair for one in settings)
        for said, key in zip(("no", "yes"), pair, strict=True)
    ]
    head = [f"{figure}, {length:,} tokens", "earliness", *(one.name for one in settings)]
    return markdown_table(head, body)


def strips(
    panels: Mapping[str, Sequence[Group | str | None]],
    labels: Sequence[str],
    contexts: Sequence[int],
) -> Figure:
    """Retention, a labelled row each and a panel a task setting: a point a seed, a bar an interval.

    Where there is no group, a text instead, by default that it is not run. Dotted: chance.
    """
    drawn = Figure(figsize=(3 + 4 * len(panels), 1.2 + 0.31 * len(labels)), layout="constrained")
    shown: dict[int, Artist] = {}
    for axes, (title, rows) in zip(
        drawn.subplots(1, len(panels), sharey=True), panels.items(), strict=True
    ):
        groups = {y: row for y, row in enumerate(rows) if isinstance(row, Group)}
        for place, context in enumerate(contexts):
            for y, group in groups.items():
                at = y + 0.22 * (place - 1)
                summary = group.summary("retention", context)
                if summary is None or summary.mean is None:
                    continue
                colour = COLOURS[place]
                each = [*group.by_seed("retention", context).values()]
                axes.plot(each, [at] * len(each), ".", color=colour, alpha=0.4)
                (mean,) = axes.plot([summary.mean], [at], "|", color=colour, markersize=9, mew=2)
                shown.setdefault(context, mean)
                if summary.low is not None:
                    axes.plot([summary.low, summary.high], [at, at], color=colour, linewidth=1.2)
        for y, row in enumerate(rows):
            if not isinstance(row, Group):
                axes.text(0.5, y, row or NOT_RUN, ha="center", va="center", color="0.5", fontsize=8)
        longest = contexts[-1]
        for level in {
            round(group.chance("retention", longest) or 0.0, 3) for group in groups.values()
        }:
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

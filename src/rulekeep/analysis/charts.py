"""Charts as values: panels of lines and points, which `analysis.panels` draws. No matplotlib.

Colours are Okabe and Ito's, told apart with any colour vision; markers differ as well.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rulekeep.analysis.summary import ENOUGH_SEEDS, Interval, Summary

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MOST_PANELS = 16
GREY = "#8a8a8a"
MARKERS = ("o", "s", "^", "D", "v", "P")
# Of a line: whole, with long gaps, with short ones, with both.
DASHES = 4


class Style(NamedTuple):
    """How a line looks, the same in every figure; `order` is its place from back to front."""

    colour: str
    marker: str = "o"
    dash: int = 0
    width: float = 1.8
    order: int = 0


class Point(NamedTuple):
    """A place in a panel with its interval, and how many seeds it rests on, where seeds count."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    seeds: int | None = None

    @property
    def few(self) -> bool:
        """Fewer than 5 seeds: drawn open."""
        return self.seeds is not None and self.seeds < ENOUGH_SEEDS

    @classmethod
    def of(cls, x: float, at: Summary | Interval) -> "Point":
        """A figure with its interval."""
        seeds = at.seeds if isinstance(at, Summary) else None
        return cls(x, at.mean or 0.0, at.low, at.high, seeds)


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line: its means with intervals, and a thin line or a point, as (x, y), for every seed."""

    label: str
    style: Style
    points: Sequence[Point]
    seeds: Sequence[Sequence[tuple[float, float]]] = ()
    joined: bool = True


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes. `chance` and `front` are lines of (x, y)."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_log: bool = False
    y_log: bool = False
    score: bool = False
    x_ticks: Sequence[int] = ()
    chance: Sequence[tuple[float, float]] = ()
    front: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Chart:
    """A figure: its file name and what it shows.

    `small` panels have no legend: each is named by its title. A `wide` one stands alone.
    """

    key: str
    title: str
    caption: str
    panels: Sequence[Panel]
    wide: bool = False
    small: bool = False

    @property
    def legend(self) -> dict[str, Style]:
        """The lines that a legend names."""
        if self.small:
            return {}
        return {one.label: one.style for panel in self.panels for one in panel.series}


def styles(labels: Sequence[str], black: Iterable[str] = ()) -> dict[str, Style]:
    """A style a label: those of `black` black, the others in the palette, then with dashes."""
    dark = [label for label in labels if label in {*black}]
    found = {label: Style("#000000", dash=n, width=2.2) for n, label in enumerate(dark)}
    for place, label in enumerate(one for one in labels if one not in found):
        turn = place // len(COLOURS)
        marker = MARKERS[(place + 1 + 2 * turn) % len(MARKERS)]
        dash = turn % DASHES
        found[label] = Style(COLOURS[place % len(COLOURS)], marker, dash, order=1 + place)
    return found


def over_steps(
    label: str, style: Style, histories: Sequence[Sequence[Mapping[str, float]]], figure: str
) -> Series:
    """A figure over training: the mean of the seeds that reached a step, and a line for each.

    A history has a row for each evaluation.
    """
    lines = [
        [(row["step"], row[figure]) for row in one if {"step", figure} <= row.keys()]
        for one in histories
    ]
    lines = [[xy for xy in line if all(map(math.isfinite, xy))] for line in lines]
    steps: dict[float, list[float]] = {}
    for x, y in (xy for line in lines for xy in line):
        steps.setdefault(x, []).append(y)
    points = [Point(x, sum(ys) / len(ys), seeds=len(ys)) for x, ys in sorted(steps.items())]
    seeds = [line for line in lines if line] if len(lines) > 1 else []
    return Series(label=label, style=style, points=points, seeds=seeds)


def capped(chart: Chart, most: int = MOST_PANELS) -> Chart:
    """At most so many panels, and a caption that says what was left out.

    A line without a point is none, and so is a panel without a line.
    """
    lines = [[one for one in panel.series if one.points] for panel in chart.panels]
    panels = [
        replace(panel, series=own) for panel, own in zip(chart.panels, lines, strict=True) if own
    ]
    caption, left = chart.caption, panels[most:]
    if left:
        names = ", ".join(dict.fromkeys(panel.title for panel in left))
        caption += f" The first {most} panels; {len(left)} more are not drawn: {names}."
    return replace(chart, caption=caption, panels=panels[:most])


def pareto_front(points: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Of (cost, score) the points that no cheaper or equal one reaches, in rising cost.

    It goes on from the last to the cost `end`.
    """
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    if front and front[-1][0] < end:
        front.append((end, front[-1][1]))
    return front

"""What a figure shows, as values: drawn by matplotlib and by plotly from the same ones."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import NamedTuple

from rulekeep.analysis.cells import spoken
from rulekeep.analysis.plots import COLOURS

# Okabe and Ito's black is the baseline's; the other six are told apart beside it.
_BASELINE_COLOUR = "#000000"
_MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
_DASHES = ("solid", "dash", "dot", "dashdot")
MOST_PANELS = 16
# In characters, as wide as a panel beside two others or on a phone.
_TITLE_WIDTH = 44


class Style(NamedTuple):
    """Colour, marker and dash of one mixer, the same in every figure."""

    colour: str
    marker: str
    dash: str
    width: float


class Point(NamedTuple):
    """A place in a panel, and what hovering over it says."""

    x: float
    y: float
    hover: str
    low: float | None = None
    high: float | None = None
    few: bool = False


@dataclass(frozen=True, kw_only=True)
class Series:
    """A mixer: its means with intervals, and one thin line or point for every seed."""

    label: str
    style: Style
    points: Sequence[Point]
    seeds: Sequence[Sequence[Point]] = ()
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


@dataclass(frozen=True, kw_only=True)
class Heat:
    """A heat map of scores from 0 to 1; None where nothing was measured."""

    title: str
    x_label: str
    columns: Sequence[str]
    rows: Sequence[str]
    values: Sequence[Sequence[float | None]]
    texts: Sequence[Sequence[str]]
    hovers: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure: its file name, what it shows, and why it is empty if it is."""

    key: str
    title: str
    caption: str
    panels: Sequence[Panel | Heat]
    empty: str


def styles(labels: Sequence[str], baselines: Sequence[str]) -> dict[str, Style]:
    """A style a label: baselines black, the others in the palette, dashes once it is used up."""
    found = {}
    places = {True: 0, False: 0}
    for label in labels:
        black = label in baselines
        place = places[black]
        places[black] += 1
        turn = place if black else place // len(COLOURS)
        found[label] = Style(
            _BASELINE_COLOUR if black else COLOURS[place % len(COLOURS)],
            # Two of one colour differ in marker as well: points have no dash.
            _MARKERS[(place if black else place + 1 + 2 * turn) % len(_MARKERS)],
            _DASHES[turn % len(_DASHES)],
            2.4 if black else 1.8,
        )
    return found


def cut(label: str, length: int = 38) -> str:
    """A label short enough for an axis or a legend."""
    return label if len(label) <= length else f"{label[: length - 1]}…"


def legend_names(labels: Iterable[str]) -> dict[str, str]:
    """What a legend calls each label: as one says it, so that what differs is not cut off."""
    known = list(dict.fromkeys(labels))
    said = [spoken(label) for label in known]
    return {
        label: cut(name if said.count(name) == 1 else label)
        for label, name in zip(known, said, strict=True)
    }


def wrapped(title: str) -> str:
    """A panel's title on as many lines as it needs not to run into the panel beside it."""
    return fill(title, _TITLE_WIDTH)


def log_ticks(values: Sequence[float]) -> list[tuple[float, str]]:
    """Ticks of a log axis: over two decades or less 1, 2 and 5, else at most about 8 powers.

    Where not two of those lie between the values, more of them: one tick is no scale.
    """
    if not values:
        return []
    low, high = math.log10(min(values)), math.log10(max(values))
    near = high - low <= 2
    decades = range(
        math.floor(low), math.ceil(high) + 1, 1 if near else math.ceil((high - low) / 8)
    )
    for mantissas in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)) if near else ((1,),):
        ticks = [mantissa * 10.0**power for power in decades for mantissa in mantissas]
        if sum(low <= math.log10(tick) <= high for tick in ticks) > 1:
            break
    return [(tick, _short(tick)) for tick in ticks if low - 0.3 <= math.log10(tick) <= high + 0.3]


def _short(value: float) -> str:
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{prefix}"
    return f"{value:g}"


def capped(chart: Chart) -> Chart:
    """At most 16 panels, and a caption that says what was left out."""
    left = len(chart.panels) - MOST_PANELS
    if left <= 0:
        return chart
    names = ", ".join(dict.fromkeys(panel.title for panel in chart.panels[MOST_PANELS:]))
    caption = f"{chart.caption} The first {MOST_PANELS} panels; {left} more are not drawn: {names}."
    return replace(chart, caption=caption, panels=chart.panels[:MOST_PANELS])


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

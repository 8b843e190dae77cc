"""Charts as pictures: an SVG a panel, and files of all.

    picture = draw(chart)       # picture.panels go into a page, picture.files beside it

Each panel is a small figure of its own, so that a page can set them in as many columns as fit.
"""

import hashlib
import io
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from rulekeep.analysis.charts import GREY, Chart, Panel, Series

_DASHES: Any = ("-", (0, (5, 2)), (0, (1, 1.5)), "-.")
# Of a panel, in inches.
_SIZES = {"normal": (3.75, 2.75), "wide": (7.6, 3.9), "small": (2.3, 1.75)}
_LETTERS_AN_INCH, _LINES_AN_INCH = 13.5, 6.7
_QUIET: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "font.size": 8.5,
    "svg.fonttype": "none",
}
# Of an SVG, what no page needs: what is not drawn, and white space between tags.
_UNSEEN = re.compile(
    r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->|(?<=<g) id=\"[^\"]*\"|(?<=>)\s+(?=<)",
    re.DOTALL,
)
_TAG = re.compile(r"<[^>]*>")
_FONT = re.compile(r"(font: [^';]*px|font-family:) [^;\"]*")
_LONG = re.compile(r"(\.\d\d)\d+")


class Picture(NamedTuple):
    """A drawn chart: an SVG a panel, and the files of the whole, by name."""

    panels: tuple[str, ...]
    files: Mapping[str, bytes]


def plain(text: str) -> str:
    """Text that matplotlib draws as it is: no formula, and no label hidden by its first letter."""
    shown_as = text.replace("$", r"\$")
    return f" {shown_as}" if shown_as.startswith("_") else shown_as


def draw(chart: Chart) -> Picture:
    """A chart of at least one panel, drawn; a letter without a glyph is drawn as a box."""
    with warnings.catch_warnings(), mpl.rc_context(_QUIET):
        warnings.filterwarnings("ignore", message="Glyph")
        size = "wide" if chart.wide else "small" if chart.small else "normal"
        svgs = [_svg(figure(one, size), f"{chart.key}-{n}") for n, one in enumerate(chart.panels)]
        whole = sheet(chart, size)
        files = {f"{chart.key}.{kind}": as_bytes(whole, kind) for kind in ("png", "svg")}
        return Picture(tuple(svgs), files)


def figure(panel: Panel, size: str = "normal") -> Figure:
    """One panel as a figure."""
    made = Figure(figsize=_SIZES[size], layout="constrained")
    _panel(made.add_subplot(), panel, size)
    return made


def sheet(chart: Chart, size: str = "normal") -> Figure:
    """All panels under the title, and under them the legend."""
    width, height = _SIZES[size]
    count, names = len(chart.panels), chart.legend
    columns = min(count, {"wide": 1, "small": 6}.get(size, 2 if count in (2, 4) else 3))
    rows, across = math.ceil(count / columns), max(1, int(columns * width / 3))
    tall = 0.4 + rows * height + 0.2 * math.ceil(len(names) / across)
    made = Figure(figsize=(columns * width, tall), layout="constrained")
    for place, panel in enumerate(chart.panels, 1):
        _panel(made.add_subplot(rows, columns, place), panel, size)
    made.suptitle(plain(chart.title), x=0.01, ha="left", weight="bold", fontsize=12)
    if names:
        lines = [
            Line2D(
                [], [], color=style.colour, linewidth=style.width, linestyle=_DASHES[style.dash],
                marker=style.marker, markersize=4, label=plain(_cut(name)),
            )
            for name, style in names.items()
        ]  # fmt: skip
        made.legend(
            handles=lines, loc="outside lower left", ncols=across, fontsize=8, frameon=False,
            handlelength=3,
        )  # fmt: skip
    return made


def _panel(axes: Axes, panel: Panel, size: str) -> None:
    """A panel under its title, which takes at most half of it."""
    width, height = _SIZES[size]
    letters, most = int(width * _LETTERS_AN_INCH) - 4, int(0.45 * height * _LINES_AN_INCH)
    title = fill(panel.title, letters, max_lines=most, placeholder="…")
    axes.set_title(plain(title), loc="left")
    _fill(axes, panel, 0.8 * width, small=size == "small")


def _fill(axes: Axes, panel: Panel, inches: float, *, small: bool) -> None:
    """Everything inside the axes, which are so many inches wide."""
    every = [p for one in panel.series for p in one.points]
    singles = [xy for one in panel.series for line in one.seeds for xy in line]
    if panel.x_log:
        axes.set_xscale("log")
        axes.set_xlim(*_log_axis(axes.xaxis, [p.x for p in every] + [x for x, _ in singles]))
    if panel.y_log:
        axes.set_yscale("log")
        ends = [end for p in every for end in (p.low, p.high) if end is not None]
        values = [p.y for p in every] + ends + [y for _, y in singles]
        axes.set_ylim(*_log_axis(axes.yaxis, values))
    if panel.front:
        xs, ys = zip(*panel.front, strict=True)
        axes.step(xs, ys, where="post", color=GREY, linewidth=1.2, zorder=1)
    for series in sorted(panel.series, key=lambda one: one.style.order):
        _series(axes, series, small=small)
    if panel.chance:
        xs, ys = zip(*panel.chance, strict=True)
        style: Any = {"color": "#777777", "linestyle": (0, (1, 1.5)), "linewidth": 1.2}
        if len(xs) == 1:
            axes.axhline(ys[0], **style)
        else:
            axes.plot(xs, ys, **style)
    axes.set_ylabel("" if small else plain(panel.y_label))
    axes.set_xlabel("" if small else plain(panel.x_label))
    axes.grid(alpha=0.25, linewidth=0.6)
    if panel.score:
        # With chance taken out a score may be below 0.
        lowest = min((point.y for one in panel.series for point in one.points), default=0.0)
        axes.set_ylim(min(0.0, lowest) - 0.03, 1.03)
    if panel.x_ticks:
        _fixed_ticks(axes.xaxis, [(tick, _short(tick)) for tick in panel.x_ticks])
        if len(panel.x_ticks) > 2.2 * inches:
            axes.tick_params(axis="x", labelsize=6.5, rotation=30)
    if small and panel.score:
        _fixed_ticks(axes.yaxis, [(tick, f"{tick:g}") for tick in (0, 0.5, 1)])
    axes.tick_params(length=2.5, pad=2)


def _log_axis(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high <= 100 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_locator(NullLocator())
    # Limits of one's own: matplotlib's margins are none where all values are equal.
    margin = max(1.15, (high / low) ** 0.06)
    return low / margin, high * margin


def _fixed_ticks(axis: Axis, ticks: Sequence[tuple[float, str]]) -> None:
    axis.set_major_locator(FixedLocator([value for value, _ in ticks]))
    axis.set_major_formatter(FixedFormatter([text for _, text in ticks]))
    axis.set_minor_locator(NullLocator())


def _short(value: float) -> str:
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size and value == float(f"{value:.2g}"):
            return f"{value / size:g}{prefix}" if prefix != "k" else f"{value / 1000:g}k"
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _series(axes: Axes, series: Series, *, small: bool) -> None:
    style, points = series.style, series.points
    top = 3 + style.order / 10
    singles = [line[0] for line in series.seeds if len(line) == 1]
    if singles:
        axes.plot(
            *zip(*singles, strict=True), ".", color=style.colour, alpha=0.35, markersize=4,
            markeredgewidth=0, zorder=2,
        )  # fmt: skip
    # One artist for all seeds: a gap between two of them.
    gap = (math.nan, math.nan)
    joined = [end for line in series.seeds if len(line) > 1 for end in (*line, gap)]
    if joined:
        axes.plot(*zip(*joined, strict=True), color=style.colour, alpha=0.3, lw=0.7, zorder=2)
    if series.joined:
        axes.plot(
            [p.x for p in points], [p.y for p in points], color=style.colour,
            linestyle=_DASHES[style.dash], linewidth=style.width, zorder=top,
        )  # fmt: skip
    spans = [(p.x, p.y, p.low, p.high) for p in points if p.low is not None and p.high is not None]
    if spans:
        axes.vlines(
            [x for x, *_ in spans], [low for *_, low, _ in spans], [high for *_, high in spans],
            color=style.colour, linewidth=1.1, alpha=0.75, zorder=top,
        )  # fmt: skip
    if small and style.colour == GREY:
        return
    size = 3 if small or len(points) > 12 else 5.5
    for few in (False, True):
        chosen = [p for p in points if p.few is few]
        if chosen:
            axes.plot(
                [p.x for p in chosen], [p.y for p in chosen], style.marker, markersize=size,
                markerfacecolor="white" if few else style.colour, markeredgecolor=style.colour,
                linestyle="none", zorder=top, label=plain(series.label),
            )  # fmt: skip


def _cut(label: str, length: int = 38) -> str:
    return label if len(label) <= length else f"{label[: length - 1]}…"


def _svg(one: Figure, prefix: str) -> str:
    """A figure as an element that stands in a page: short, its ids its own, no style sheet."""
    text = as_bytes(one, "svg", prefix).decode()
    text = _UNSEEN.sub("", text[text.index("<svg") :])
    return _TAG.sub(lambda tag: _LONG.sub(r"\1", _FONT.sub(r"\1 sans-serif", tag[0])), text)


def as_bytes(figure: Figure, file_format: str, salt: str = "rulekeep") -> bytes:
    """A figure as PNG or SVG: the same bytes for the same rows, with a digest of what it shows.

    Ids in an SVG are hashes, of the salt too.
    """
    buffer = io.BytesIO()
    metadata = {"Description": shown(figure)} | ({"Date": None} if file_format == "svg" else {})
    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        figure.savefig(buffer, format=file_format, dpi=150, metadata=metadata)
    return buffer.getvalue()


def shown(figure: Figure) -> str:
    """A digest of the values, labels and titles in a figure, independent of the layout.

    It stands in the file of a figure, to compare a committed one with what its records give now.
    """
    digest = hashlib.sha256()
    for axes in figure.axes:
        texts = [axes.get_title("left"), axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        for axis in (axes.xaxis, axes.yaxis):
            ticks = axis.get_major_locator()
            # Names of rows; where ticks of numbers stand is found as they are drawn.
            if isinstance(ticks, FixedLocator):
                texts += axis.get_major_formatter().format_ticks(list(ticks()))
        texts += [text.get_text() for text in axes.texts]
        values = [np.asarray(line.get_xydata()) for line in axes.lines]
        values += [
            np.asarray(path.vertices) for lines in axes.collections for path in lines.get_paths()
        ]
        values += [np.asarray(image.get_array()) for image in axes.images]
        for patch in axes.patches:
            values.append(patch.get_patch_transform().transform(patch.get_path().vertices))
        texts += [f"{line.get_label()} {line.get_color()}" for line in axes.lines]
        texts += [str(patch.get_label()) for patch in axes.patches]
        rounded = [[f"{value:.6g}" for value in one.ravel()] for one in values]
        digest.update(json.dumps([texts, rounded]).encode())
    for part in (figure, *figure.subfigs):
        for text in part.texts:
            digest.update(text.get_text().encode())
    return digest.hexdigest()

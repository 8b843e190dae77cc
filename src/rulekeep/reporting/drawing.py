"""Charts as matplotlib figures: small multiples that share one legend."""

import math
import warnings
from collections.abc import Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from rulekeep.analysis import plots
from rulekeep.reporting.charts import Chart, Heat, Panel, Series, legend_names, log_ticks, wrapped

_MARKERS = {
    "circle": "o", "square": "s", "triangle-up": "^", "diamond": "D", "triangle-down": "v",
    "cross": "P",
}  # fmt: skip
_DASHES: Any = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_CAPTION_WIDTH = 118
_QUIET: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "font.size": 9,
}


def files(chart: Chart) -> dict[str, bytes]:
    """The chart as `KEY.png` and `KEY.svg`; a name in a script without glyphs is drawn as boxes."""
    figure = draw(chart)
    with warnings.catch_warnings(), mpl.rc_context(_QUIET):
        warnings.filterwarnings("ignore", message="Glyph")
        raster = plots.as_bytes(figure, "png")
        # The layout is found once; finding it again is a third of the time.
        figure.set_layout_engine(None)
        return {f"{chart.key}.png": raster, f"{chart.key}.svg": plots.as_bytes(figure, "svg")}


def draw(chart: Chart) -> Figure:
    """A panel beside the other, the legend and the caption below."""
    with mpl.rc_context(_QUIET):
        if not chart.panels:
            return _empty(chart)
        if isinstance(chart.panels[0], Heat):
            return _heats(chart, [panel for panel in chart.panels if isinstance(panel, Heat)])
        return _panels(chart, [panel for panel in chart.panels if isinstance(panel, Panel)])


def plain(text: str) -> str:
    """Text that matplotlib draws as it is: no formula, and no label hidden by its first letter."""
    shown = text.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _empty(chart: Chart) -> Figure:
    figure = Figure(figsize=(7, 2.2), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.set_title(chart.title, loc="left")
    axes.text(0.5, 0.5, plain(chart.empty), ha="center", va="center", color="#555555", fontsize=11)
    return figure


def _panels(chart: Chart, panels: Sequence[Panel]) -> Figure:
    titles = [panel.title for panel in panels]
    # Two panels of one title stand side by side, so that a column has one axis.
    in_pairs = len(panels) in (2, 4) or titles[::2] == titles[1::2]
    columns = min(len(panels), 2 if in_pairs else 3)
    rows = math.ceil(len(panels) / columns)
    names = list(legend_names(s.label for panel in panels for s in panel.series).values())
    width = max(7.0, 4.2 * columns)
    legend_rows = math.ceil((len(names) + 3) / _legend_columns(names, width))
    figure = Figure(figsize=(width, 3.3 * rows + 0.22 * legend_rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    handles: dict[str, Artist] = {}
    for axes, panel in zip(grid.flat, panels, strict=False):
        _panel(axes, panel, handles)
    figure.suptitle(chart.title, fontsize=12, fontweight="bold")
    legend = figure.legend(
        list(handles.values()),
        [plain(name) for name in legend_names(handles).values()],
        loc="outside lower center",
        ncols=_legend_columns(names, width),
        fontsize=8,
        frameon=False,
        # The caption as its title: constrained layout gives the two one place.
        title=plain(fill(chart.caption, int(width * 14))),
        title_fontsize=7.5,
    )
    legend.get_title().set_color("#555555")
    return figure


def _legend_columns(names: Sequence[str], width: float) -> int:
    longest = max((len(label) for label in names), default=8)
    return max(1, min(len(names) + 3, int(width * 12 / (longest + 8))))


def _panel(axes: Axes, panel: Panel, handles: dict[str, Artist]) -> None:
    every = [p for s in panel.series for line in (s.points, *s.seeds) for p in line]
    if panel.x_log:
        axes.set_xscale("log")
        axes.set_xlim(*_log_ticks(axes.xaxis, [p.x for p in every]))
    if panel.y_log:
        axes.set_yscale("log")
        ends = [end for p in every for end in (p.low, p.high) if end is not None]
        axes.set_ylim(*_log_ticks(axes.yaxis, [p.y for p in every] + ends))
    if panel.front:
        xs, ys = zip(*panel.front, strict=True)
        axes.step(xs, ys, where="post", color="#888888", linewidth=1.2, zorder=1)
        handles.setdefault("Pareto front", Line2D([], [], color="#888888", linewidth=1.2))
    for series in panel.series:
        _series(axes, series)
        handles.setdefault(series.label, _handle(series))
    if panel.chance:
        xs, ys = zip(*panel.chance, strict=True)
        style: Any = {"color": "#777777", "linestyle": (0, (1, 1.5)), "linewidth": 1.4}
        if len(xs) == 1:
            axes.axhline(ys[0], **style)
        else:
            axes.plot(xs, ys, **style)
        handles.setdefault("chance", Line2D([], [], **style))
    axes.set_title(plain(wrapped(panel.title)), loc="left")
    axes.set(xlabel=plain(panel.x_label), ylabel=plain(panel.y_label))
    axes.grid(alpha=0.25, linewidth=0.6)
    if panel.score:
        axes.set_ylim(-0.03, 1.03)
    if panel.x_ticks and panel.x_log:
        _fixed_ticks(axes.xaxis, [(tick, str(tick)) for tick in panel.x_ticks])
        if len(panel.x_ticks) > 6:
            axes.tick_params(axis="x", rotation=45)


def _log_ticks(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    _fixed_ticks(axis, log_ticks(values))
    # Limits of one's own: matplotlib's margins are none where all values are equal.
    low, high = min(values), max(values)
    margin = max(1.15, (high / low) ** 0.06)
    return low / margin, high * margin


def _fixed_ticks(axis: Axis, ticks: Sequence[tuple[float, str]]) -> None:
    axis.set_major_locator(FixedLocator([value for value, _ in ticks]))
    axis.set_major_formatter(FixedFormatter([text for _, text in ticks]))
    axis.set_minor_locator(NullLocator())


def _series(axes: Axes, series: Series) -> None:
    style = series.style
    singles = [line[0] for line in series.seeds if len(line) == 1]
    if singles:
        axes.plot(
            [p.x for p in singles], [p.y for p in singles], ".", color=style.colour, alpha=0.35,
            markersize=4, markeredgewidth=0, zorder=2,
        )  # fmt: skip
    # One artist for all seeds: a gap between two of them.
    joined = [end for line in series.seeds if len(line) > 1 for end in (*line, None)]
    if joined:
        axes.plot(
            [math.nan if p is None else p.x for p in joined],
            [math.nan if p is None else p.y for p in joined],
            color=style.colour, alpha=0.3, linewidth=0.7, zorder=2,
        )  # fmt: skip
    points = series.points
    xs, ys = [p.x for p in points], [p.y for p in points]
    if series.joined:
        axes.plot(
            xs, ys, color=style.colour, linestyle=_DASHES[style.dash], linewidth=style.width,
            zorder=3,
        )  # fmt: skip
    spans = [(p.x, p.y, p.low, p.high) for p in points if p.low is not None and p.high is not None]
    if spans:
        axes.errorbar(
            [x for x, *_ in spans],
            [y for _, y, *_ in spans],
            yerr=[[y - low for _, y, low, _ in spans], [high - y for _, y, _, high in spans]],
            fmt="none", ecolor=style.colour, elinewidth=1.2, capsize=2.5, alpha=0.8, zorder=3,
        )  # fmt: skip
    size = 6 if len(points) <= 12 else 3.5
    for few in (False, True):
        chosen = [p for p in points if p.few is few]
        axes.plot(
            [p.x for p in chosen], [p.y for p in chosen], _MARKERS[style.marker], markersize=size,
            markerfacecolor="white" if few else style.colour, markeredgecolor=style.colour,
            linestyle="none", zorder=4,
        )  # fmt: skip


def _handle(series: Series) -> Line2D:
    style = series.style
    return Line2D(
        [], [], color=style.colour, marker=_MARKERS[style.marker], markersize=6,
        linestyle=_DASHES[style.dash] if series.joined else "none", linewidth=style.width,
    )  # fmt: skip


def _heats(chart: Chart, heats: Sequence[Heat]) -> Figure:
    columns = min(len(heats), 2)
    rows = math.ceil(len(heats) / columns)
    tallest = max(len(row.splitlines()) for heat in heats for row in heat.rows)
    heights = [
        max(len(heat.rows) for heat in heats[row * columns : (row + 1) * columns])
        for row in range(rows)
    ]
    inches = [(0.14 + 0.16 * tallest) * height + 0.9 for height in heights]
    figure = Figure(figsize=(max(7.0, 6.2 * columns), sum(inches) + 1.0), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"height_ratios": inches})
    for axes in grid.flat[len(heats) :]:
        axes.axis("off")
    for axes, heat in zip(grid.flat, heats, strict=False):
        _heat(axes, heat)
    figure.suptitle(chart.title, fontsize=12, fontweight="bold")
    figure.supxlabel(plain(fill(chart.caption, _CAPTION_WIDTH)), fontsize=7.5, color="#555555")
    return figure


def _heat(axes: Axes, heat: Heat) -> None:
    values = [[math.nan if value is None else value for value in row] for row in heat.values]
    axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(heat.columns)), list(heat.columns))
    axes.set_yticks(range(len(heat.rows)), [plain(label) for label in heat.rows])
    axes.set_title(plain(wrapped(heat.title)), loc="left")
    axes.set_xlabel(heat.x_label)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for row, (texts, numbers) in enumerate(zip(heat.texts, values, strict=True)):
        for column, (text, value) in enumerate(zip(texts, numbers, strict=True)):
            colour = "white" if value < 0.55 else "black"
            axes.text(column, row, plain(text), ha="center", va="center", fontsize=8, color=colour)

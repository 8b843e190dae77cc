"""Charts as plotly figures: plain JSON values, no plotly code is run here.

Plotly reads its texts as a small HTML; `escaped` turns a name into text in it.
"""

import math
from collections.abc import Sequence
from typing import Any

from rulekeep.reporting.charts import (
    Chart,
    Heat,
    Panel,
    Point,
    Series,
    legend_names,
    log_ticks,
    wrapped,
)

_GREY = "#777777"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# matplotlib's cividis, as the static figures have it.
_CIVIDIS = [
    [0.0, "#00224e"], [0.125, "#123570"], [0.25, "#3b496c"], [0.375, "#575d6d"],
    [0.5, "#707173"], [0.625, "#8a8678"], [0.75, "#a59c74"], [0.875, "#c3b369"], [1.0, "#fee838"],
]  # fmt: skip


def figures(chart: Chart) -> list[dict[str, Any]]:
    """A plotly figure a panel: `data`, `layout` and the height in pixels."""
    return [_heat(panel) if isinstance(panel, Heat) else _panel(panel) for panel in chart.panels]


def escaped(text: str) -> str:
    """Text that plotly shows as it is; line breaks stay breaks."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\n", "<br>")):
        text = text.replace(character, entity)
    return text


def _panel(panel: Panel) -> dict[str, Any]:
    data: list[dict[str, Any]] = []
    if panel.front:
        data.append(_plain_line(panel.front, "Pareto front", {"shape": "hv", "width": 1.5}))
    if panel.chance:
        line = list(panel.chance)
        if len(line) == 1:
            line = [(line[0][0] / 1.2, line[0][1]), (line[0][0] * 1.2, line[0][1])]
        data.append(_plain_line(line, "chance", {"dash": "dot", "width": 1.5}))
    names = legend_names(series.label for series in panel.series)
    for place, series in enumerate(panel.series):
        data += _series(series, f"mixer-{place}", names[series.label])
    x_axis: dict[str, Any] = _axis(panel.x_label, "log" if panel.x_log else "linear")
    y_axis = _axis(panel.y_label, "log" if panel.y_log else "linear")
    for is_log, axis, numbers in (
        (panel.x_log, x_axis, [p.x for s in panel.series for p in s.points]),
        (panel.y_log, y_axis, [p.y for s in panel.series for p in s.points]),
    ):
        if is_log:
            axis |= _ticks(log_ticks(numbers))
    if panel.x_ticks and panel.x_log:
        x_axis |= _ticks([(tick, str(tick)) for tick in panel.x_ticks])
    if panel.score:
        y_axis |= {"range": [-0.04, 1.04]}
    layout = _layout(panel.title) | {
        "xaxis": x_axis,
        "yaxis": y_axis,
        "hovermode": "closest",
        "showlegend": True,
        "legend": {
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
            "itemclick": "toggleothers",
            "itemdoubleclick": "toggle",
            "font": {"size": 12},
        },
    }
    if panel.chance:
        # Annotations on a log axis stand at the logarithm.
        x, y = panel.chance[0]
        at = math.log10(x) if panel.x_log else x
        mark = {"x": at, "y": y, "text": "chance", "showarrow": False, "yshift": 9}
        layout["annotations"] = [mark | {"xanchor": "left", "font": {"color": _GREY, "size": 11}}]
    height = 380 + 20 * math.ceil((len(panel.series) + 2) / 2)
    return {"data": data, "layout": layout, "height": height}


def _series(series: Series, group: str, name: str) -> list[dict[str, Any]]:
    style = series.style
    points = series.points
    shared = {"type": "scatter", "legendgroup": group, "hoverinfo": "text"}
    traces: list[dict[str, Any]] = []
    # One trace for all seeds: None breaks the line between two of them.
    broken: list[Point | None] = []
    for line in series.seeds:
        broken += [*line, None]
    if broken:
        longer = any(len(line) > 1 for line in series.seeds)
        traces.append(
            shared
            | {
                "x": [None if p is None else _short(p.x) for p in broken],
                "y": [None if p is None else _short(p.y) for p in broken],
                "text": ["" if p is None else escaped(p.hover) for p in broken],
                "mode": "lines" if longer else "markers",
                "line": {"color": style.colour, "width": 0.8},
                "marker": {"color": style.colour, "size": 5},
                "opacity": 0.35,
                "showlegend": False,
            }
        )
    symbols = [f"{style.marker}-open" if p.few else style.marker for p in points]
    trace = shared | {
        "name": escaped(name),
        "x": [_short(p.x) for p in points],
        "y": [_short(p.y) for p in points],
        "text": [escaped(p.hover) for p in points],
        "mode": "lines+markers" if series.joined else "markers",
        "line": {"color": style.colour, "dash": style.dash, "width": style.width},
        "marker": {
            "color": style.colour,
            "symbol": symbols,
            "size": 9 if len(points) <= 12 else 6,
            "line": {"width": 1.5, "color": style.colour},
        },
        "showlegend": True,
    }
    if any(p.low is not None for p in points):
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [0 if p.high is None else _short(p.high - p.y) for p in points],
            "arrayminus": [0 if p.low is None else _short(p.y - p.low) for p in points],
            "thickness": 1.2,
            "width": 3,
            "color": style.colour,
        }
    return [*traces, trace]


def _heat(heat: Heat) -> dict[str, Any]:
    # Rows stand at their numbers: two names that are cut to the same text stay two rows.
    lines = [row.splitlines() for row in heat.rows]
    longest = max(len(line) for row in lines for line in row)
    tallest = max(map(len, lines))
    trace = {
        "type": "heatmap",
        "x": list(heat.columns),
        "y": list(range(len(heat.rows))),
        "z": [[None if v is None else _short(v) for v in row] for row in heat.values],
        "text": [[escaped(text) for text in row] for row in heat.texts],
        "customdata": [[escaped(hover) for hover in row] for row in heat.hovers],
        "hovertemplate": "%{customdata}<extra></extra>",
        "texttemplate": "%{text}",
        "zmin": 0,
        "zmax": 1,
        "colorscale": _CIVIDIS,
        "xgap": 1,
        "ygap": 1,
        "showscale": False,
    }
    layout = _layout(heat.title) | {
        "xaxis": _axis(heat.x_label, "category") | {"showgrid": False},
        "yaxis": _axis("", "linear")
        | {"autorange": "reversed", "showgrid": False}
        | _ticks([(y, escaped(row)) for y, row in enumerate(heat.rows)]),
    }
    layout["margin"] |= {"l": 24 + 6 * longest}
    return {"data": [trace], "layout": layout, "height": 150 + (12 + 16 * tallest) * len(heat.rows)}


def _plain_line(
    points: Sequence[tuple[float, float]], name: str, line: dict[str, Any]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [_short(x) for x, _ in points],
        "y": [_short(y) for _, y in points],
        "text": [f"{name}: {y:.3f}" for _, y in points],
        "hoverinfo": "text",
        "name": name,
        "mode": "lines",
        "line": {"color": _GREY, **line},
        "showlegend": False,
    }


def _axis(title: str, kind: str) -> dict[str, Any]:
    return {
        "title": {"text": escaped(title), "font": {"size": 12}, "standoff": 8},
        "type": kind,
        "automargin": True,
        "gridcolor": "#e6e6e6",
        "linecolor": "#888888",
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": "#888888",
    }


def _ticks(ticks: Sequence[tuple[float, str]]) -> dict[str, Any]:
    return {
        "tickmode": "array",
        "tickvals": [value for value, _ in ticks],
        "ticktext": [text for _, text in ticks],
    }


def _layout(title: str) -> dict[str, Any]:
    shown = wrapped(title)
    return {
        "title": {"text": escaped(shown), "font": {"size": 14}, "x": 0, "xanchor": "left"},
        "font": {"family": _FONT, "size": 12, "color": "#1c1c1c"},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "margin": {"l": 56, "r": 12, "t": 40 + 18 * shown.count("\n"), "b": 56},
        "hoverlabel": {"bgcolor": "#ffffff", "font": {"color": "#1c1c1c"}, "align": "left"},
    }


def _short(value: float) -> float:
    # Six digits are more than a screen shows; the page is a third smaller.
    return float(f"{value:.6g}")

"""Static figures, drawn from rows of figures: no torch, no model."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from rulekeep.analysis.charts import COLOURS
from rulekeep.analysis.groups import Group
from rulekeep.analysis.rows import NOT_RUN


def as_bytes(figure: Figure, file_format: str) -> bytes:
    """A figure as PNG or SVG: the same bytes for the same rows, with a digest of what it shows."""
    buffer = io.BytesIO()
    metadata = {"Description": shown(figure)} | ({"Date": None} if file_format == "svg" else {})
    with mpl.rc_context({"svg.hashsalt": "rulekeep", "svg.fonttype": "none"}):
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

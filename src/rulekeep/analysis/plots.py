"""Static figures, drawn from rows of figures: no torch, no model."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from rulekeep.analysis.charts import COLOURS
from rulekeep.analysis.groups import Group
from rulekeep.analysis.rows import NOT_RUN
from rulekeep.analysis.summary import Summary


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


class Strip(NamedTuple):
    """A row of one panel: the value of each seed and their summary, by test length, and chance."""

    seeds: Mapping[int, Mapping[int, float]]
    summaries: Mapping[int, Summary | None]
    chance: float


def strip(group: Group | None, contexts: Sequence[int]) -> Strip | str:
    """What a cell retains, as a row of a panel; or that it is not run."""
    if group is None:
        return NOT_RUN
    return Strip(
        {at: group.by_seed("retention", at) for at in contexts},
        {at: group.summary("retention", at) for at in contexts},
        round(group.chance("retention", contexts[-1]) or 0.0, 3),
    )


def strips(
    panels: Mapping[str, Sequence[Strip | str]], labels: Sequence[str], contexts: Sequence[int]
) -> Figure:
    """Retention, a labelled row each and a panel a task setting: a point a seed, a bar an interval.

    Where there is no row, what is said instead. Dotted: the chance level.
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
                summary = row.summaries.get(context)
                if summary is None or summary.mean is None:
                    continue
                colour = COLOURS[place]
                each = [*row.seeds[context].values()]
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

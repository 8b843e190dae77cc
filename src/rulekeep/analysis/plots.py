"""Static figures, drawn from rows of figures: no torch, no model.

Colours are Okabe and Ito's, told apart with any colour vision; markers differ as well.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from rulekeep.analysis.summary import Summary

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Of three lines: the least first, what is drawn over the others last.
LINE_COLOURS = ("#8a8a8a", "#0072B2", "#D55E00")
_PUBLISHED = ("attention", "compressed", "compressed (serial)")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", "--", ":", "-.")


class Curve(TypedDict):
    """One training: its evaluations as columns, and the seconds its steps took."""

    context: int
    model: str
    seed: int
    step: list[int]
    val_loss: list[float]
    token_accuracy: list[float]
    rule_accuracy: list[float]
    train_seconds: float


def article_overview(curves: Sequence[Curve], device: str) -> Figure:
    """The article's 2 x 2 overview: loss, token and rule accuracy over steps, and seconds.

    A colour a model, a line style a context; with several seeds a thin line for each.
    """
    models = list(dict.fromkeys(curve["model"] for curve in curves))
    contexts = sorted({curve["context"] for curve in curves})
    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = figure.subplots(2, 2)
    _over_steps(
        panels[0, 0], curves, "val_loss", "validation loss (nats a token)", models, contexts
    )
    _over_steps(panels[0, 1], curves, "token_accuracy", "token accuracy", models, contexts)
    _over_steps(panels[1, 0], curves, "rule_accuracy", "rule accuracy", models, contexts)
    _seconds(panels[1, 1], curves, models, contexts)
    contest = "Attention and the compressed memory, as published"
    if joined := [model for model in models if model not in _PUBLISHED]:
        contest += f", and {', '.join(joined)}"
    figure.suptitle(f"{contest} — {device}", fontsize=11)
    return figure


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
    return digest.hexdigest()


class Strip(NamedTuple):
    """A row of one panel: the value of each seed and their summary, by test length, and chance."""

    seeds: Mapping[int, Mapping[int, float]]
    summaries: Mapping[int, Summary | None]
    chance: float


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


def labelled_lines(
    lines: Mapping[str, Mapping[int, tuple[float, float, float]]],
    label_at: Mapping[str, tuple[int, float]],
    chance: float,
) -> Figure:
    """Retention over context, a line each with its name beside it: few lines, small enough to read.

    A point is a mean with the ends of its interval. The last line is drawn over those before.
    `label_at` has where a name stands: length, height.
    Dotted: the chance level.
    """
    figure = Figure(figsize=(5.6, 3.3), layout="constrained")
    axes = figure.subplots()
    for (name, points), colour in zip(lines.items(), LINE_COLOURS, strict=True):
        lengths = sorted(points)
        kept = [points[at][0] for at in lengths]
        axes.plot(lengths, kept, "o-", color=colour, linewidth=2.4, markersize=5)
        for at in lengths:
            axes.plot([at, at], points[at][1:], color=colour, linewidth=1.2)
        x, y = label_at[name]
        axes.text(x, y, name, color=colour, fontsize=11, weight="bold", ha="center", va="center")
    every = sorted({at for points in lines.values() for at in points})
    axes.axhline(chance, color="0.45", linestyle=":", zorder=0)
    axes.text(every[-1], chance + 0.02, "guessing", color="0.35", fontsize=9, ha="right")
    axes.set_xscale("log", base=2)
    axes.set_xlim(every[0] / 1.2, every[-1] * 1.35)
    axes.set_xticks(every, [f"{at:,}" for at in every])
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.08)
    axes.set(xlabel="tokens of context (trained on at most 256)", ylabel="share of rules kept")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    return figure


class Look(NamedTuple):
    """How words of a kind are drawn: fill, edge and text colour."""

    face: str = "none"
    edge: str = "none"
    text: str = "#6a6a6a"


# In characters, and of one its width in inches.
_LINE_WIDTH, _CHARACTER, _LINE_HEIGHT = 62, 0.0785, 0.27


def marked_words(blocks: Sequence[Sequence[tuple[str, str]]], looks: Mapping[str, Look]) -> Figure:
    """Words of a text, each with the look of its kind; a block begins a line. Below, the kinds."""
    named = [(kind, kind) for kind, look in looks.items() if look.edge != "none"]
    lines: list[list[tuple[str, str, int]]] = []
    for block in [*blocks, named]:
        lines.append([])
        at = 0
        for word, kind in block:
            if at + len(word) > _LINE_WIDTH:
                lines.append([])
                at = 0
            lines[-1].append((word, kind, at))
            at += len(word) + 2
    height = _LINE_HEIGHT * (len(lines) + 0.4)
    width = _CHARACTER * (_LINE_WIDTH + 2)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1, _LINE_WIDTH + 1), ylim=(len(lines) - 0.3, -0.7))
    axes.axis("off")
    for y, line in enumerate(lines):
        # What the kinds are stands a little apart.
        lower = y + (0.25 if y == len(lines) - 1 else 0)
        for word, kind, at in line:
            look = looks[kind]
            box = {"boxstyle": "round,pad=0.18", "facecolor": look.face, "edgecolor": look.edge}
            axes.text(
                at + len(word) / 2, lower, word, ha="center", va="center", color=look.text,
                fontsize=9, family="DejaVu Sans Mono", bbox=box,
            )  # fmt: skip
    return figure


def _over_steps(
    axes: Axes,
    curves: Sequence[Curve],
    column: str,
    title: str,
    models: list[str],
    contexts: list[int],
) -> None:
    labelled = set()
    several_seeds = len({curve["seed"] for curve in curves}) > 1
    for curve in curves:
        name = f"{curve['model']}, context {curve['context']}"
        values = curve[column]  # type: ignore[literal-required]
        axes.plot(
            curve["step"],
            values,
            label=None if name in labelled else name,
            color=COLOURS[models.index(curve["model"]) % len(COLOURS)],
            linestyle=_LINES[contexts.index(curve["context"]) % len(_LINES)],
            marker=_MARKERS[contexts.index(curve["context"]) % len(_MARKERS)],
            markersize=4,
            linewidth=0.9 if several_seeds else 1.8,
            alpha=0.7 if several_seeds else 1.0,
        )
        labelled.add(name)
    axes.set(title=title, xlabel="training step")
    if column == "val_loss":
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
    else:
        axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)


def _seconds(axes: Axes, curves: Sequence[Curve], models: list[str], contexts: list[int]) -> None:
    width = 0.8 / len(models)
    for i, model in enumerate(models):
        for j, context in enumerate(contexts):
            seconds = [
                curve["train_seconds"]
                for curve in curves
                if (curve["model"], curve["context"]) == (model, context)
                # A cell that diverged at once has none.
                and curve["train_seconds"] > 0
            ]
            if not seconds:
                continue
            place = j + (i - (len(models) - 1) / 2) * width
            mean = sum(seconds) / len(seconds)
            axes.bar(
                place,
                mean,
                width=0.92 * width,
                color=COLOURS[i % len(COLOURS)],
                label=model if j == 0 else None,
            )
            axes.annotate(
                f"{mean:.1f}",
                (place, max(seconds)),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
            if len(seconds) > 1:
                axes.plot([place] * len(seconds), seconds, "k.", markersize=3)
    if axes.patches:
        axes.set_yscale("log")
        axes.legend(fontsize=8)
    axes.margins(y=0.15)
    axes.set_xticks(range(len(contexts)), [f"context {context}" for context in contexts])
    axes.set(title="training seconds (evaluation left out, log scale)")
    axes.grid(axis="y", alpha=0.3)

"""The article's picture: loss, token and rule accuracy over steps, and seconds."""

from collections.abc import Sequence
from typing import TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rulekeep.analysis.plots import COLOURS

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

"""The article's picture: loss, token and rule accuracy over steps, and seconds."""

from collections.abc import Mapping

from rulekeep.analysis.charts import (
    COLOURS,
    MARKERS,
    Chart,
    Panel,
    Point,
    Series,
    Style,
    over_steps,
)
from rulekeep.records import Record

_CURVES = {
    "val_loss": "validation loss (nats a token)",
    "token_accuracy": "token accuracy",
    "rule_accuracy": "rule accuracy",
}


def overview(rows: Mapping[tuple[str, int, int], Record], device: str) -> Chart:
    """Four panels: a colour a model, a dash a context; `rows` by model, context and seed."""
    models = list(dict.fromkeys(model for model, *_ in rows))
    contexts = sorted({context for _, context, _ in rows})
    colours = {model: COLOURS[place % len(COLOURS)] for place, model in enumerate(models)}
    lines = []
    for model in models:
        for place, context in enumerate(contexts):
            same = [row for key, row in rows.items() if key[:2] == (model, context)]
            style = Style(colours[model], MARKERS[place % len(MARKERS)], place % 4)
            lines.append((f"{model}, {context:,} tokens", style, [row.history for row in same]))
    panels = [
        Panel(
            title=title, x_label="training step", y_label="", score=figure != "val_loss",
            series=[one for line in lines if (one := over_steps(*line, figure)) is not None],
        )
        for figure, title in _CURVES.items()
    ]  # fmt: skip
    seconds = [_seconds(model, Style(colours[model]), rows) for model in models]
    # Where every cell diverged at once there are none.
    if seconds := [one for one in seconds if one.points]:
        panels.append(
            Panel(
                title="training seconds, without evaluation", x_label="context (tokens, log)",
                y_label="seconds (log)", series=seconds, x_log=True, y_log=True, x_ticks=contexts,
            )
        )  # fmt: skip
    title = "Attention and the compressed memory, as published"
    caption = (
        f"{device}. Mean over the seeds, and a thin line or a point for every seed. Open markers: "
        "fewer than 5 seeds."
    )
    return Chart(key="overview", title=title, caption=caption, panels=panels)


def _seconds(model: str, style: Style, rows: Mapping[tuple[str, int, int], Record]) -> Series:
    """What the steps of a model took at each context."""
    found: dict[int, list[float]] = {}
    for (name, context, _), record in rows.items():
        seconds = record.costs.get("train_seconds", 0.0)
        if name == model and seconds > 0:
            found.setdefault(context, []).append(seconds)
    points = [
        Point(at, sum(each) / len(each), seeds=len(each)) for at, each in sorted(found.items())
    ]
    seeds = [[(at, value)] for at, each in found.items() for value in each if len(each) > 1]
    return Series(label=model, style=style, points=points, seeds=seeds)

"""The report's figures as values, made from cells and their ranking; `analysis.panels` draws them.

Each shows at most eight variants: the user's own, two of attention, and the best three others.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rulekeep.analysis.charts import (
    GREY,
    MOST_PANELS,
    Chart,
    Panel,
    Point,
    Series,
    Style,
    capped,
    over_steps,
    pareto_front,
    styles,
)
from rulekeep.analysis.groups import BySeed, Group
from rulekeep.analysis.ranking import Ranking
from rulekeep.analysis.summary import Summary, summarise, summarise_scores
from rulekeep.reporting.tables import words

# Small multiples of the variants that the first figure does not show.
_MOST_SMALL = 48

Styles = Mapping[str, Style]


def charts(groups: Sequence[Group], ranking: Ranking | None) -> list[Chart]:
    """All figures that have something to show, the first one first."""
    if ranking is None:
        return []
    look = _styles(ranking)
    made = [
        _answer(ranking, look),
        _settings(groups, look),
        _variants(ranking, look),
        _trade_off(ranking, look, "state", "state of one sequence (bytes)", "state_bytes"),
        _trade_off(ranking, look, "seconds", "training (s)", "train_seconds"),
        _training(ranking, look),
        _costs(ranking, look),
    ]
    shown = [capped(one, _MOST_SMALL if one.small else MOST_PANELS) for one in made]
    return [one for one in shown if one.panels]


def _styles(ranking: Ranking) -> dict[str, Style]:
    """A style for each variant shown: attention black, the user's own broad and in front."""
    shown, own = ranking.shown, {row.label for row in ranking.rows if row.group.is_own}
    black = [row.label for row in ranking.rows if row.group.is_attention]
    # In the order shown, so that the strongest attention has the whole line.
    found = styles(shown, [label for label in shown if label in black])
    return {
        label: style._replace(width=3.0, order=20) if label in own else style
        for label, style in found.items()
    }


def _line(
    label: str,
    style: Style,
    over: Mapping[int, BySeed],
    summary_of: Callable[[Sequence[float]], Summary] = summarise_scores,
    apart: float = 1.0,
) -> Series:
    """A line through the means at each length, with every seed, `apart` times to the right."""
    points, seeds = list[Point](), list[list[tuple[float, float]]]()
    for at, by_seed in sorted(over.items()):
        values = [*by_seed.values()]
        if any(map(math.isfinite, values)):
            points.append(Point.of(at * apart, summary_of(values)))
            seeds += [[(at * apart, value)] for value in values if math.isfinite(value)]
    return Series(label=label, style=style, points=points, seeds=seeds)


def _ranked_line(ranking: Ranking, label: str, style: Style, apart: float = 1.0) -> Series:
    """What a variant is ranked by, as its mean over the settings."""
    summary_of = summarise if ranking.is_corrected else summarise_scores
    return _line(label, style, ranking.over(label), summary_of, apart)


def _over_context(title: str, series: Sequence[Series], **more: Any) -> Panel:
    """A panel over the context."""
    return Panel(
        title=title, x_label="context (tokens, log scale)", series=series, x_log=True, **more
    )


def _answer(ranking: Ranking, look: Styles) -> Chart:
    middle = (len(ranking.shown) - 1) / 2
    series = [
        _ranked_line(ranking, label, look[label], apart=1.02 ** (place - middle))
        for place, label in enumerate(ranking.shown)
    ]
    tests = sorted({at for label in ranking.shown for at in ranking.over(label)})
    tasks = [setting.task for setting in ranking.settings]
    what = f"the mean of {len(tasks)} task settings" if len(tasks) > 1 else tasks[0]
    trained = sorted({setting.context for setting in ranking.settings})
    panel = _over_context(
        f"{what}, trained at {' or '.join(f'{one:,}' for one in trained)} tokens",
        series,
        y_label=ranking.figure,
        score=True,
        x_ticks=tests,
        chance=[(at, level) for at in tests if (level := ranking.chance(at)) is not None],
    )
    said = words("retention", is_article=any(map(_is_article, tasks)))
    return Chart("retention", *said, [panel], wide=True)


def _is_article(task: str) -> bool:
    return task.split(",")[0] == "article"


def _settings(every: Sequence[Group], look: Styles) -> Chart:
    """A panel a task setting and training length."""
    places: dict[tuple[str, int], list[Group]] = defaultdict(list)
    for group in every:
        if group.label in look and group.over("retention"):
            places[group.task, group.context].append(group)
    panels = []
    for (task, context), groups in sorted(places.items(), key=lambda one: one[0]):
        tests = sorted({at for group in groups for at in group.test_contexts})
        levels = {t: c for g in groups for t in tests if (c := g.chance("retention", t))}
        panels.append(
            _over_context(
                f"{task}, trained at {context:,}",
                [_line(one.label, look[one.label], one.over("retention")) for one in groups],
                y_label="retention",
                score=True,
                x_ticks=tests,
                chance=sorted(levels.items()),
            )
        )
    # One panel is what the first figure shows.
    return Chart("settings", *words("settings"), panels if len(panels) > 1 else [])


def _variants(ranking: Ranking, look: Styles) -> Chart:
    """A small panel for each variant that the first figure leaves out, beside the baseline."""
    base, panels = ranking.baseline, []
    for row in ranking.rows:
        if row.label not in look and row.place is not None and ranking.over(row.label):
            own = _ranked_line(ranking, row.label, Style("#0072B2", width=1.4, order=1))
            beside = [_ranked_line(ranking, base, Style(GREY, width=1.2))] if base else []
            panels.append(
                _over_context(
                    row.label,
                    [replace(one, seeds=()) for one in (*beside, own)],
                    y_label=ranking.figure,
                    score=True,
                    x_ticks=sorted(ranking.over(row.label)),
                )
            )
    return Chart("variants", *words("variants", baseline=base), panels, small=True)


def _trade_off(ranking: Ranking, look: Styles, key: str, x_label: str, cost: str) -> Chart:
    series = [
        Series(
            label=row.label, style=look.get(row.label, Style(GREY)), joined=False,
            points=[Point.of(row.costs[cost] or 0.0, row.kept)],
        )
        for row in ranking.rows
        if row.place is not None and row.kept.mean is not None and (row.costs[cost] or 0) > 0
    ]  # fmt: skip
    means = [(one.points[0].x, one.points[0].y) for one in series]
    costs, chance = [x for x, _ in means], ranking.chance()
    ends = [] if chance is None or not costs else [min(costs), max(costs)]
    panel = Panel(
        title=f"tested at {ranking.at}",
        x_label=f"{x_label}, log scale",
        y_label=ranking.figure,
        series=series,
        x_log=True,
        score=True,
        chance=[(at, chance or 0.0) for at in ends],
        front=pareto_front(means, end=max(costs, default=0.0)),
    )
    return Chart(key, *words(key, has_others=len(series) > len(look)), [panel])


def _training(ranking: Ranking, look: Styles) -> Chart:
    panels = []
    for setting in ranking.settings:
        figures = {"val_loss": "validation loss (nats)", "retention": "validation retention"}
        if _is_article(setting.task):
            figures |= {"token_accuracy": "token accuracy", "rule_accuracy": "rule accuracy"}
        histories = {
            label: [run.record.history for run in group.runs.values()]
            for label, group in setting.groups.items()
            if label in look
        }
        panels += [
            Panel(
                title=setting.task,
                x_label="training step",
                y_label=title,
                series=[
                    over_steps(label, look[label], each, figure)
                    for label, each in histories.items()
                ],
                score=figure != "val_loss",
            )
            for figure, title in figures.items()
        ]
    return Chart("training", *words("training"), panels)


def _costs(ranking: Ranking, look: Styles) -> Chart:
    (setting, *_) = ranking.settings
    panels = []
    for y_label, figure in (
        ("decode (ms a token, log)", "decode_ms_per_token"),
        ("state (bytes, log)", "state_bytes"),
    ):
        series = [
            _line(label, look[label], _positive(group, figure), _above_zero)
            for label, group in setting.groups.items()
            if label in look
        ]
        ticks = sorted({int(point.x) for one in series for point in one.points})
        panels.append(
            _over_context(setting.task, series, y_label=y_label, y_log=True, x_ticks=ticks)
        )
    return Chart("costs", *words("costs_over_context"), panels)


def _positive(group: Group, figure: str) -> dict[int, BySeed]:
    """A cost that a log scale can show."""
    return {
        at: {seed: value for seed, value in by_seed.items() if value > 0}
        for at, by_seed in group.over(figure, "costs").items()
    }


def _above_zero(values: Sequence[float]) -> Summary:
    """On a log scale an interval that reaches zero is cut at half the lowest seed."""
    summary = summarise(values)
    low = None if summary.low is None else max(summary.low, min(values) / 2)
    return summary._replace(low=low)

"""The report's figures as values, made from cells and their ranking; `analysis.panels` draws them.

Each shows at most eight variants: the user's own, two of attention, and the best three others.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

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
from rulekeep.reporting.words import words

ARTICLE = "article"
_LOG = "context (tokens, log scale)"
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
    ]  # fmt: skip
    return [capped(one, _MOST_SMALL if one.small else MOST_PANELS) for one in made if one.panels]


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


def _answer(ranking: Ranking, look: Styles) -> Chart:
    middle = (len(ranking.shown) - 1) / 2
    series = [
        one
        for place, label in enumerate(ranking.shown)
        if (one := _ranked_line(ranking, label, look[label], apart=1.02 ** (place - middle)))
    ]
    tests = sorted({at for label in ranking.shown for at in ranking.over(label)})
    tasks = [setting.task for setting in ranking.settings]
    several = len(tasks) > 1
    what = f"the mean of {len(tasks)} task settings" if several else tasks[0]
    trained = sorted({setting.context for setting in ranking.settings})
    at = " or ".join(f"{one:,}" for one in trained)
    is_article = any(task.split(",")[0] == ARTICLE for task in tasks)
    chance = [(at, level) for at in tests if (level := ranking.chance(at)) is not None]
    panel = _retention(f"{what}, trained at {at} tokens", series, tests, chance, ranking.figure)
    retention = words("retention", is_article=is_article)
    return Chart("retention", *retention, [panel] if series else [], direct=True)


def _settings(every: Sequence[Group], look: Styles) -> Chart:
    """A panel a task setting and training length."""
    panels = []
    for task, context in sorted({(group.task, group.context) for group in every}):
        there = (group for group in every if (group.task, group.context) == (task, context))
        groups = [group for group in there if group.label in look]
        series = [
            one
            for group in groups
            if (one := _line(group.label, look[group.label], group.over("retention")))
        ]
        if not series:
            continue
        tests = sorted({at for group in groups for at in group.test_contexts})
        levels = {t: c for g in groups for t in tests if (c := g.chance("retention", t))}
        title = f"{task}, trained at {context:,}"
        panels.append(_retention(title, series, tests, sorted(levels.items())))
    # One panel is what the first figure shows.
    return Chart("settings", *words("settings"), panels if len(panels) > 1 else [])


def _line(
    label: str,
    style: Style,
    over: Mapping[int, BySeed],
    summary_of: Callable[[Sequence[float]], Summary] = summarise_scores,
    apart: float = 1.0,
) -> Series | None:
    """A line through the means at each length, with every seed, `apart` times to the right."""
    points, seeds = list[Point](), list[list[tuple[float, float]]]()
    for at, by_seed in sorted(over.items()):
        values = [*by_seed.values()]
        if any(map(math.isfinite, values)):
            points.append(Point.of(at * apart, summary_of(values)))
            seeds += [[(at * apart, value)] for value in values if math.isfinite(value)]
    return Series(label=label, style=style, points=points, seeds=seeds) if points else None


def _ranked_line(ranking: Ranking, label: str, style: Style, apart: float = 1.0) -> Series | None:
    """What a variant is ranked by, as its mean over the settings."""
    summary_of = summarise if ranking.is_corrected else summarise_scores
    return _line(label, style, ranking.over(label), summary_of, apart)


def _variants(ranking: Ranking, look: Styles) -> Chart:
    """A small panel for each variant that the first figure leaves out, beside the baseline."""
    base = _small(ranking, ranking.baseline, Style(GREY, width=1.2)) if ranking.baseline else None
    panels = []
    for row in ranking.rows:
        if row.label in look or row.place is None:
            continue
        own = _small(ranking, row.label, Style("#0072B2", width=1.4, order=1))
        tests = sorted(ranking.over(row.label))
        if own is not None:
            panels.append(
                _retention(
                    row.label, [one for one in (base, own) if one], tests, y_label=ranking.figure
                )
            )
    said = words("variants", baseline=ranking.baseline)
    return Chart("variants", *said, panels, small=True)


def _small(ranking: Ranking, label: str, style: Style) -> Series | None:
    """Without its seeds."""
    line = _ranked_line(ranking, label, style)
    return line and replace(line, seeds=())


def _retention(
    title: str,
    series: Sequence[Series],
    tests: Sequence[int],
    chance: Sequence[tuple[float, float]] = (),
    y_label: str = "retention",
) -> Panel:
    """Retention over context, with a tick at each tested length."""
    return Panel(
        title=title, x_label=_LOG, y_label=y_label, series=series, x_log=True, score=True,
        x_ticks=tests, chance=chance,
    )  # fmt: skip


def _trade_off(
    ranking: Ranking,
    look: Styles,
    key: str,
    x_label: str,
    cost_of: str,
) -> Chart:
    series = []
    for row in ranking.rows:
        cost = row.costs[cost_of]
        if row.place is None or row.kept.mean is None or not cost or cost <= 0:
            continue
        style = look.get(row.label, Style(GREY))
        point = Point.of(cost, row.kept)
        series.append(Series(label=row.label, style=style, points=[point], joined=False))
    means = [(one.points[0].x, one.points[0].y) for one in series]
    costs, chance = [x for x, _ in means], ranking.chance()
    ends = (min(costs), max(costs)) if costs else ()
    panel = Panel(
        title=f"tested at {ranking.at}",
        x_label=f"{x_label}, log scale",
        y_label=ranking.figure,
        series=series,
        x_log=True,
        score=True,
        chance=[] if chance is None else [(at, chance) for at in ends],
        front=pareto_front(means, end=max(costs)) if costs else (),
    )
    said = words(key, has_others=len(series) > len(look))
    return Chart(key, *said, [panel] if series else [])


def _training(ranking: Ranking, look: Styles) -> Chart:
    panels: list[Panel] = []
    for setting in ranking.settings:
        groups = [one for label, one in setting.groups.items() if label in look]
        is_article = setting.task.split(",")[0] == ARTICLE
        figures = {"val_loss": "validation loss (nats)", "retention": "validation retention"}
        if is_article:
            figures |= {"token_accuracy": "token accuracy", "rule_accuracy": "rule accuracy"}
        panels += [
            one
            for figure, title in figures.items()
            if (one := _curves(setting.task, groups, figure, title, look)) is not None
        ]
    return Chart("training", *words("training"), panels)


def _curves(
    task: str, groups: Sequence[Group], figure: str, title: str, look: Styles
) -> Panel | None:
    histories = {
        group.label: [run.record.history for run in group.runs.values()] for group in groups
    }
    series = [
        one
        for label, every in histories.items()
        if (one := over_steps(label, look[label], every, figure)) is not None
    ]
    if not series:
        return None
    return Panel(
        title=task, x_label="training step", y_label=title, series=series,
        score=figure != "val_loss",
    )  # fmt: skip


def _costs(ranking: Ranking, look: Styles) -> Chart:
    (setting, *_) = ranking.settings
    groups = [one for label, one in setting.groups.items() if label in look]
    panels = []
    for y_label, figure in (
        ("decode (ms a token, log)", "decode_ms_per_token"),
        ("state (bytes, log)", "state_bytes"),
    ):
        series = [
            one
            for group in groups
            if (one := _line(group.label, look[group.label], _positive(group, figure), _above_zero))
        ]
        if series:
            ticks = sorted({int(point.x) for one in series for point in one.points})
            panels.append(
                Panel(
                    title=setting.task, x_label=_LOG, y_label=y_label, series=series,
                    x_log=True, y_log=True, x_ticks=ticks,
                )
            )  # fmt: skip
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

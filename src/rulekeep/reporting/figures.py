"""The report's figures, made from cells: what goes where, for `drawing` and `interactive`."""

import math
from collections.abc import Callable, Mapping, Sequence
from textwrap import fill

from rulekeep.analysis.cells import Contest, Group, compared_at, labels
from rulekeep.analysis.summary import ENOUGH_SEEDS, Summary, summarise
from rulekeep.reporting.charts import (
    MOST_PANELS,
    Chart,
    Heat,
    Panel,
    Point,
    Series,
    Style,
    capped,
    legend_names,
    pareto_front,
    styles,
)
from rulekeep.reporting.sentences import LEAK

Styles = Mapping[str, Style]
ARTICLE = "article"
# In characters: beside a heat map on a phone as well.
_ROW_WIDTH = 22
_OPEN = "Black: attention, the variant best on dev; open markers: fewer than 5 seeds."


def charts(found: Sequence[Contest]) -> list[Chart]:
    """All figures in the order of the report; one without rows has no panel."""
    every = labels(found)
    baselines = [label for label in every if any(label in c.baselines.values() for c in found)]
    look = styles(every, baselines)
    made = [
        _retention(found, look),
        _overview(found, look),
        _trade_off(
            found, look, "state", "Retention against state bytes", "state of one sequence (bytes)",
            lambda group, test: group.state_bytes(test),
        ),
        _trade_off(
            found, look, "seconds", "Retention against training seconds", "training (s)",
            lambda group, _: group.cost("train_seconds"),
        ),
        _training(found, look),
        _lengths(found),
        _context_costs(found, look),
    ]  # fmt: skip
    return [capped(chart) for chart in made]


def _retention(found: Sequence[Contest], look: Styles) -> Chart:
    panels = []
    for contest in found:
        for context in _shown(contest, found, 1):
            groups = contest.at(context)
            series = [
                _over_contexts(group, look[group.label], place - (len(groups) - 1) / 2)
                for place, group in enumerate(groups)
            ]
            series = [one for one in series if one.points]
            if not series:
                continue
            tests = sorted({test for group in groups for test in group.test_contexts})
            levels = {t: c for g in groups for t in tests if (c := g.chance("retention", t))}
            panels.append(
                Panel(
                    title=f"{contest.task}, trained at {context}",
                    x_label="context (tokens, log scale)",
                    y_label="retention",
                    series=series,
                    x_log=True,
                    score=True,
                    x_ticks=tests,
                    chance=[(float(test), level) for test, level in sorted(levels.items())],
                )
            )
    return Chart(
        key="retention",
        title="Retention over context length",
        caption="Mean and 95 % interval over seeds (Student t), every seed as a small point; "
        "lengths are set apart a little so that intervals do not overlap. "
        f"{_OPEN}{_kept(found, 1)}",
        panels=panels,
        empty="No test retention yet.",
    )


def _over_contexts(group: Group, style: Style, place: float) -> Series:
    points, seeds = [], []
    apart = 1.025**place
    for test in group.test_contexts:
        summary = group.summary("retention", test)
        if summary is None or summary.mean is None:
            continue
        hover = f"{group.label}\n{test} tokens: {summary.text()}"
        points.append(_point(test * apart, summary, hover))
        seeds += [
            Point(test * apart, value, f"{group.label}\n{test} tokens, seed {seed}: {value:.3f}")
            for seed, value in group.finite("retention", test).items()
        ]
    return Series(label=group.label, style=style, points=points, seeds=[[s] for s in seeds])


def _overview(found: Sequence[Contest], look: Styles) -> Chart:
    panels: list[Panel] = []
    for contest in found:
        if contest.task != ARTICLE:
            continue
        panels += _seconds_over_length(contest, look)
        for figure, title in (
            ("val_loss", "validation loss (nats)"),
            ("token_accuracy", "token accuracy"),
            ("rule_accuracy", "rule accuracy"),
        ):
            for context in _shown(contest, [contest], 4):
                panels += _curves(contest, context, figure, title, look)
    return Chart(
        key="overview",
        title="The article's overview",
        caption="Loss, token and rule accuracy over training steps, and training seconds, of the "
        f"runs on the article's own task. {LEAK} {_OPEN}",
        panels=panels,
        empty="No run on the task “article” yet.",
    )


def _seconds_over_length(contest: Contest, look: Styles) -> list[Panel]:
    series = _cost_lines(
        contest.groups, look, lambda group: {group.context: group.cost("train_seconds")}, "s"
    )
    if not series:
        return []
    return [
        Panel(
            title=f"{contest.task}: training seconds",
            x_label="trained at (tokens, log scale)",
            y_label="training (s, log)",
            series=series,
            x_log=True,
            y_log=True,
            x_ticks=contest.contexts,
        )
    ]


def _trade_off(
    found: Sequence[Contest],
    look: Styles,
    key: str,
    title: str,
    x_label: str,
    cost_of: Callable[[Group, int], Mapping[int, float]],
) -> Chart:
    panels = []
    for contest in found:
        test = compared_at(contest.groups)
        by_label: dict[str, tuple[list[Point], list[Point]]] = {}
        for group in contest.groups:
            summary = group.summary("retention", test)
            costs = {s: cost for s, cost in cost_of(group, test).items() if cost > 0}
            if summary is None or summary.mean is None or not costs:
                continue
            cost = sum(costs.values()) / len(costs)
            points, seeds = by_label.setdefault(group.label, ([], []))
            hover = (
                f"{group.label}, {group.trained}\n{x_label}: {cost:,.6g}\n"
                f"retention at {test} tokens: {summary.text()}"
            )
            points.append(_point(cost, summary, hover))
            for seed, value in group.finite("retention", test).items():
                if seed in costs:
                    hover = f"{group.label}, {group.trained}, seed {seed}: {value:.3f}"
                    seeds.append(Point(costs[seed], value, hover))
        if not by_label:
            continue
        means = [(point.x, point.y) for points, _ in by_label.values() for point in points]
        costs_seen = [x for x, _ in means]
        levels = [c for g in contest.groups if (c := g.chance("retention", test)) is not None]
        panels.append(
            Panel(
                title=f"{contest.task}, tested at {test}",
                x_label=f"{x_label}, log scale",
                y_label="retention",
                series=[
                    Series(
                        label=label, style=look[label], points=points,
                        seeds=[[seed] for seed in seeds], joined=False,
                    )
                    for label, (points, seeds) in by_label.items()
                ],
                x_log=True,
                score=True,
                chance=[(at, c) for c in levels[:1] for at in (min(costs_seen), max(costs_seen))],
                front=pareto_front(means, end=max(costs_seen)),
            )
        )  # fmt: skip
    return Chart(
        key=key,
        title=title,
        caption="At the longest context that several mixers were tested at, a point a mixer and "
        "training length with its 95 % interval, every seed small. Grey steps: the Pareto front, "
        f"what no cheaper one reaches. {_OPEN}",
        panels=panels,
        empty="No run has both figures yet.",
    )


def _training(found: Sequence[Contest], look: Styles) -> Chart:
    panels: list[Panel] = []
    for contest in found:
        for context in _shown(contest, found, 2):
            # The article has no dev split.
            split = "validation" if contest.task == ARTICLE else "dev"
            panels += _curves(contest, context, "val_loss", f"{split} loss (nats)", look)
            panels += _curves(contest, context, "retention", f"{split} retention", look)
    return Chart(
        key="training",
        title="Training curves",
        caption="Mean over the seeds that reached a step, and a thin line for every seed, at the "
        f"chosen learning rate. {_OPEN}{_kept(found, 2)}",
        panels=panels,
        empty="No run has a history yet.",
    )


def _curves(contest: Contest, context: int, figure: str, title: str, look: Styles) -> list[Panel]:
    series = []
    for group in contest.at(context):
        steps: dict[float, list[float]] = {}
        seeds = []
        for seed, run in group.runs.items():
            line = [
                (row["step"], row[figure])
                for row in run.history
                if math.isfinite(row.get("step", math.nan))
                and math.isfinite(row.get(figure, math.nan))
            ]
            seeds.append([Point(x, y, f"{group.label}, seed {seed}") for x, y in line])
            for x, y in line:
                steps.setdefault(x, []).append(y)
        points = [
            Point(
                x, sum(ys) / len(ys), few=len(ys) < ENOUGH_SEEDS,
                hover=f"{group.label}\nstep {x:.0f}: {sum(ys) / len(ys):.3f} ({len(ys)} seeds)",
            )
            for x, ys in sorted(steps.items())
        ]  # fmt: skip
        if points:
            drawn = [line for line in seeds if line] if len(group.runs) > 1 else []
            style = look[group.label]
            series.append(Series(label=group.label, style=style, points=points, seeds=drawn))
    if not series:
        return []
    return [
        Panel(
            title=f"{contest.task}, trained at {context}",
            x_label="training step",
            y_label=title,
            series=series,
            score=figure != "val_loss",
        )
    ]


def _lengths(found: Sequence[Contest]) -> Chart:
    heats = []
    for contest in found:
        tests = sorted({test for group in contest.groups for test in group.test_contexts})
        names = legend_names(group.label for group in contest.groups)
        values: list[list[float | None]] = []
        texts, hovers, rows = [], [], []
        for group in contest.groups:
            summaries = [group.summary("retention", test) for test in tests]
            if not any(s is not None and s.mean is not None for s in summaries):
                continue
            at = "" if group.trained_at is None else f" @ {group.trained_at}"
            rows.append(fill(f"{names[group.label]}{at}", _ROW_WIDTH))
            values.append([s.mean if s else None for s in summaries])
            texts.append([_heat_text(s) for s in summaries])
            hovers.append(
                [
                    f"{group.label}, {group.trained}\n{test} tokens: "
                    f"{s.text() if s else 'not measured'}{_by_seed(group, test)}"
                    for test, s in zip(tests, summaries, strict=True)
                ]
            )
        if rows:
            heats.append(
                Heat(
                    title=contest.task,
                    x_label="tested at (tokens)",
                    columns=[str(test) for test in tests],
                    rows=rows,
                    values=values,
                    texts=texts,
                    hovers=hovers,
                )
            )
    return Chart(
        key="lengths",
        title="Training length by test length",
        caption="Mean retention; a row a mixer @ the length it was trained at. "
        "*: fewer than 5 seeds.",
        panels=heats,
        empty="No test retention yet.",
    )


def _context_costs(found: Sequence[Contest], look: Styles) -> Chart:
    panels = []
    for contest in found:
        for y_label, unit, figure in (
            ("decode (ms a token, log)", "ms", Group.decode_ms),
            ("state (bytes, log)", "bytes", Group.state_bytes),
        ):
            groups = contest.at(max(contest.contexts))

            def by_context(
                group: Group, figure: Callable[[Group, int], dict[int, float]] = figure
            ) -> dict[int, dict[int, float]]:
                lengths = {length for r in group.runs.values() for length in r.state_bytes}
                lengths |= {length for r in group.runs.values() for length in r.decode_ms}
                return {length: figure(group, length) for length in sorted(lengths)}

            series = _cost_lines(groups, look, by_context, unit)
            if series:
                ticks = sorted({int(point.x) for one in series for point in one.points})
                panels.append(
                    Panel(
                        title=contest.task,
                        x_label="context (tokens, log scale)",
                        y_label=y_label,
                        series=series,
                        x_log=True,
                        y_log=True,
                        x_ticks=ticks,
                    )
                )
    return Chart(
        key="costs",
        title="Decode time and state over context",
        caption=f"Mean and 95 % interval over seeds, every seed as a small point. {_OPEN}",
        panels=panels,
        empty="No run has measured either yet.",
    )


def _cost_lines(
    groups: Sequence[Group],
    look: Styles,
    costs: Callable[[Group], Mapping[int, Mapping[int, float]]],
    unit: str,
) -> list[Series]:
    gathered: dict[str, tuple[list[Point], list[Point]]] = {}
    for group in groups:
        for context, by_seed in costs(group).items():
            values = {s: v for s, v in by_seed.items() if v > 0 and math.isfinite(v)}
            if not values:
                continue
            points, seeds = gathered.setdefault(group.label, ([], []))
            summary = summarise(list(values.values()))
            # The axis is a log scale: an interval that reaches zero is cut at half the lowest seed.
            if summary.low is not None:
                summary = summary._replace(low=max(summary.low, min(values.values()) / 2))
            mean = summary.mean or 0.0
            shown = _cost(mean, unit)
            hover = f"{group.label}\n{context} tokens: {shown} ({_seeds(summary)})"
            points.append(_point(float(context), summary, hover))
            seeds += [
                Point(float(context), value, f"{group.label}, seed {s}: {_cost(value, unit)}")
                for s, value in values.items()
            ]
    return [
        Series(label=label, style=look[label], points=points, seeds=[[s] for s in seeds])
        for label, (points, seeds) in gathered.items()
    ]


def _shown(contest: Contest, found: Sequence[Contest], each: int) -> tuple[int, ...]:
    # Every task has its share of the panels: the longest lengths trained at.
    share = max(1, MOST_PANELS // (each * len(found)))
    return contest.contexts[-share:]


def _kept(found: Sequence[Contest], each: int) -> str:
    if all(_shown(contest, found, each) == contest.contexts for contest in found):
        return ""
    return " Of each task the longest training lengths; all are in the tables."


def _point(x: float, summary: Summary, hover: str) -> Point:
    return Point(x, summary.mean or 0.0, hover, summary.low, summary.high, summary.few)


def _cost(value: float, unit: str) -> str:
    return f"{value:,.0f} bytes" if unit == "bytes" else f"{value:,.4g} {unit}"


def _seeds(summary: Summary) -> str:
    return f"{summary.seeds} seed{'' if summary.seeds == 1 else 's'}"


def _by_seed(group: Group, test: int) -> str:
    kept = group.finite("retention", test)
    return "".join(f"\nseed {seed}: {value:.3f}" for seed, value in sorted(kept.items()))


def _heat_text(summary: Summary | None) -> str:
    if summary is None:
        return ""
    if summary.mean is None:
        return "diverged"
    return f"{summary.mean:.2f}{'*' if summary.few else ''}"

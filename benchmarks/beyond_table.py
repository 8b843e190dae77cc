"""Our memory beside attention, and beyond the lengths trained on: README, docs/findings.md.

    python benchmarks/beyond_table.py                     # of results/exam and results/beyond
    python benchmarks/beyond_table.py RUNS RUNS           # of other folders, as one contest

First README's table, a figure a length; then those of docs/findings.md, with more of each.
At the longest length trained on: retention, `exact` and steps beside the attention that dev scores
best there, and the difference paired by seed. Beyond it: retention at every length tested, beside
the attention that test scores best at that very length. Means over the seeds with 95 % intervals
(Student t); steps are medians, up to the first look at dev whose retention is 0.9.

Draws `retention.png` into the last folder: a panel a task and placement, a line a mechanism.
"""

import math
import statistics
import sys
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rulekeep.article.report import markdown_table
from rulekeep.plots import COLOURS, as_bytes
from rulekeep.report.cells import Contest, Group, contests, spoken
from rulekeep.report.reading import BASELINE, read_runs
from rulekeep.store import read_runs as kept_runs
from rulekeep.store import write_bytes
from rulekeep.summary import ENOUGH_SEEDS, LEARNED_RETENTION, Summary, paired_difference

ROOT = Path(__file__).parent.parent / "results"
FOLDERS = (ROOT / "exam", ROOT / "beyond")
FIGURE = "retention.png"
OURS = "sparse_delta"
SIGNAL = "earliness"
ORDER = ("recite", "apply", "override")
PLACEMENTS = ("early", "marked")
LENGTHS = (256, 4096, 16384)
# The shortest of those that answer a request: too near to 64 for a tick of its own.
ODD = {96}
# Ours first, in the green that it has in the article's plot.
COLOURS_OF = (COLOURS[2], COLOURS[0], COLOURS[5], COLOURS[4], COLOURS[3], COLOURS[1], "0.3", "0.6")


def page(*roots: Path) -> str:
    """Every table, as Markdown."""
    found = read(*roots)
    return "\n".join([headline(found), *details(found)])


def headline(found: list[tuple[Contest, Group]]) -> str:
    """Retention of our memory and of the best attention, where both or one was tested."""
    trained = found[0][1].context
    head, body = ["retention", "chance"], []
    lengths = [at for at in LENGTHS if any(at in ours.test_contexts for _, ours in found)]
    for at in lengths:
        head += [f"attention at {at:,}"] * any(_attention_at(*one, at) for one in found)
        head.append(f"{OURS} at {at:,}")
    for contest, ours in found:
        chance = ours.chance("retention", trained)
        row = [_task(contest), "–" if chance is None else f"{chance:.3f}"]
        for at in lengths:
            if f"attention at {at:,}" in head:
                rows = _attention_at(contest, ours, at)
                row.append(max(rows, key=_mean).text() if rows else "not run")
            summary = ours.summary("retention", at)
            row.append("not run" if summary is None else summary.text())
        body.append(row)
    return markdown_table(head, body) + "\n"


def details(found: list[tuple[Contest, Group]]) -> list[str]:
    """The tables of docs/findings.md."""
    return [
        _within(found, "retention"), _within(found, "exact"),
        _beyond(found, "retention"), _beyond(found, "exact"),
    ]  # fmt: skip


def _attention_at(contest: Contest, ours: Group, at: int) -> list[Summary]:
    found = (group.summary("retention", at) for group in _attention(contest, ours.context))
    return [summary for summary in found if summary is not None]


def _mean(summary: Summary) -> float:
    return -math.inf if summary.mean is None else summary.mean


def read(*roots: Path) -> list[tuple[Contest, Group]]:
    """Each task that our memory was run on with five seeds or more, with its runs."""
    records = {record["id"]: record for root in roots for record in kept_runs(root).records}
    found = []
    for contest in contests(read_runs(list(records.values())).runs):
        for group in contest.groups:
            settings = [run.settings.get("added_positions") for run in group.runs.values()]
            # A cell that is not complete yet would be read as if it were.
            complete = len(group.runs) >= ENOUGH_SEEDS
            if group.mixer == OURS and set(settings) == {SIGNAL} and complete:
                found.append((contest, group))
    return found


def best_on_dev(contest: Contest, context: int) -> Group:
    """The attention with the highest mean retention on dev at the longest length trained on."""

    def scored(group: Group) -> float:
        figures = [
            evaluation.figures["retention"]
            for run in group.runs.values()
            for evaluation in run.evaluations
            if (evaluation.split, evaluation.context) == ("dev", context)
        ]
        return statistics.mean(figures) if figures else -math.inf

    return max(_attention(contest, context), key=scored)


def steps_to_learn(group: Group) -> float:
    """Median over the seeds of the first look at dev that reaches it; infinite where none does."""
    return statistics.median(
        next(
            (row["step"] for row in run.history if row["retention"] >= LEARNED_RETENTION), math.inf
        )
        for run in group.runs.values()
    )


def _attention(contest: Contest, context: int) -> list[Group]:
    return [group for group in contest.at(context) if group.mixer == BASELINE]


def _within(found: list[tuple[Contest, Group]], figure: str) -> str:
    body = []
    for contest, ours in found:
        context = ours.context
        other = best_on_dev(contest, context)
        mine, theirs = ours.by_seed(figure, context), other.by_seed(figure, context)
        row = [_task(contest), spoken(other.label)]
        for group in (other, ours):
            summary = group.summary(figure, context)
            assert summary is not None
            row.append(summary.text())
        row.append(paired_difference(mine, theirs).summary.text())
        if figure == "retention":
            row += [_steps(steps_to_learn(group)) for group in (other, ours)]
        body.append(row)
    head = [f"{figure}, {found[0][1].context} tokens", "best attention", "its", OURS, "difference"]
    if figure == "retention":
        head += ["its steps", f"steps of {OURS}"]
    return markdown_table(head, body) + "\n"


def _steps(count: float) -> str:
    return f"{count:,.0f}" if math.isfinite(count) else "never"


def _beyond(found: list[tuple[Contest, Group]], figure: str) -> str:
    trained = found[0][1].context
    lengths = sorted({at for _, ours in found for at in ours.test_contexts if at > trained})
    head = [f"{figure}, beyond"]
    for at in lengths:
        head += [f"{OURS} at {at:,}", "lowest seed", "best attention there"]
    body = []
    for contest, ours in found:
        row = [_task(contest)]
        for at in lengths:
            summary, values = ours.summary(figure, at), ours.finite(figure, at).values()
            row += ["not run" if summary is None else summary.text()]
            row += [f"{min(values):.3f}" if values else "–", _best(contest, trained, figure, at)]
        body.append(row)
    return markdown_table(head, body) + "\n"


def _best(contest: Contest, trained: int, figure: str, context: int) -> str:
    rows = [
        (summary, group)
        for group in _attention(contest, trained)
        if (summary := group.summary(figure, context)) is not None
    ]
    if not rows:
        return "not run"
    summary, group = max(rows, key=lambda row: row[0].mean or 0.0)
    return f"{summary.text()}, {spoken(group.label).removeprefix('attention, ')}"


def figure(found: list[tuple[Contest, Group]]) -> Figure:
    """Retention on test over context: the mean, its interval, every seed, and chance."""
    tasks = sorted({contest.task.split(",")[0] for contest, _ in found}, key=ORDER.index)
    drawn = Figure(figsize=(max(7.0, 3.7 * len(tasks)), 6.4), layout="constrained")
    panels = drawn.subplots(2, len(tasks), sharex=True, sharey=True, squeeze=False)
    others = sorted(
        {group.label for contest, _ in found for group in contest.groups} - _ours(found)
    )
    colours = dict(zip([*_ours(found), *others], COLOURS_OF, strict=False))
    lengths = sorted({at for _, ours in found for at in ours.test_contexts} - ODD)
    named: dict[str, Artist] = {}
    for contest, ours in found:
        task, placement = cell(contest)
        axes = panels[PLACEMENTS.index(placement), tasks.index(task)]
        axes.set_title(f"{task}, {placement} rules", fontsize=10)
        for place, (label, colour) in enumerate(colours.items()):
            for group in contest.at(ours.context):
                if group.label == label:
                    _line(axes, group, colour, 1.03 ** (place - len(colours) / 2))
        named |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        chance = ours.chance("retention", ours.context) or 0.0
        axes.axhline(chance, color="0.5", linestyle=":", linewidth=1)
        axes.axvspan(min(ours.test_contexts) / 1.2, ours.context, color="0.93", zorder=0)
        axes.set(xscale="log", ylim=(-0.03, 1.03))
        axes.set_xticks(lengths, [f"{at:,}" for at in lengths], fontsize=8)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    for axes in panels[:, 0]:
        axes.set_ylabel("retention")
    for axes in panels[-1]:
        axes.set_xlabel("tokens")
    drawn.legend(
        named.values(), named, loc="outside lower center", ncols=len(tasks) + 1, fontsize=9
    )
    return drawn


def _ours(found: list[tuple[Contest, Group]]) -> set[str]:
    return {ours.label for _, ours in found}


def _line(axes: Axes, group: Group, colour: str, aside: float) -> None:
    lengths = [at for at in group.test_contexts if not group.is_undefined(at)]
    summaries = [(at * aside, at, group.summary("retention", at)) for at in lengths]
    known = [(x, at, s) for x, at, s in summaries if s is not None and s.mean is not None]
    means = [s.mean for _, _, s in known if s.mean is not None]
    wide = 2.4 if group.mixer == OURS else 1.3
    axes.plot(
        [x for x, _, _ in known], means, "o-", color=colour, linewidth=wide, markersize=4,
        label=spoken(group.label).removesuffix(f", {SIGNAL} positions"),
    )  # fmt: skip
    for x, at, summary in known:
        values = list(group.finite("retention", at).values())
        axes.plot([x] * len(values), values, ".", color=colour, alpha=0.35, markersize=4)
        if summary.low is not None:
            axes.plot([x, x], [summary.low, summary.high], color=colour, linewidth=1)


def cell(contest: Contest) -> tuple[str, str]:
    """The task and the placement of its rules."""
    task, placement = _task(contest).split(", ")
    return task, placement


def _task(contest: Contest) -> str:
    return contest.task.replace("placement ", "")


if __name__ == "__main__":
    folders = [Path(name) for name in sys.argv[1:]] or list(FOLDERS)
    write_bytes(folders[-1] / FIGURE, as_bytes(figure(read(*folders)), "png"))
    sys.stdout.write(page(*folders))

"""The tables on our memory in README: beside attention, and beyond the lengths trained on.

    python benchmarks/beyond_table.py                     # of results/exam and results/beyond
    python benchmarks/beyond_table.py RUNS RUNS           # of other folders, as one contest

At the longest length trained on: retention, `exact` and steps beside the attention that dev scores
best there, and the difference paired by seed. Beyond it: retention at every length tested, beside
the attention that test scores best at that very length. Means over the seeds with 95 % intervals
(Student t); steps are medians, up to the first look at dev whose retention is 0.9.
"""

import math
import statistics
import sys
from pathlib import Path

from rulekeep.article.report import markdown_table
from rulekeep.report.cells import Contest, Group, contests, spoken
from rulekeep.report.reading import BASELINE, read_runs
from rulekeep.store import read_runs as kept_runs
from rulekeep.summary import LEARNED_RETENTION, paired_difference

ROOT = Path(__file__).parent.parent / "results"
FOLDERS = (ROOT / "exam", ROOT / "beyond")
OURS = "sparse_delta"
SIGNAL = "earliness"


def page(*roots: Path) -> str:
    """Every table, as Markdown."""
    found = read(*roots)
    return "\n".join([_within(found, "retention"), _within(found, "exact"), _beyond(found)])


def read(*roots: Path) -> list[tuple[Contest, Group]]:
    """Each task that our memory was run on, with its runs."""
    records = {record["id"]: record for root in roots for record in kept_runs(root).records}
    found = []
    for contest in contests(read_runs(list(records.values())).runs):
        for group in contest.groups:
            if group.mixer == OURS and SIGNAL in group.label:
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


def _beyond(found: list[tuple[Contest, Group]]) -> str:
    trained = found[0][1].context
    lengths = sorted({at for _, ours in found for at in ours.test_contexts if at > trained})
    head = ["retention beyond"]
    for at in lengths:
        head += [f"{OURS} at {at}", "best attention there"]
    body = []
    for contest, ours in found:
        row = [_task(contest)]
        for at in lengths:
            summary = ours.summary("retention", at)
            row += ["not run" if summary is None else summary.text(), _best(contest, trained, at)]
        body.append(row)
    return markdown_table(head, body) + "\n"


def _best(contest: Contest, trained: int, context: int) -> str:
    rows = [
        (summary, group)
        for group in _attention(contest, trained)
        if (summary := group.summary("retention", context)) is not None
    ]
    if not rows:
        return "not run"
    summary, group = max(rows, key=lambda row: row[0].mean or 0.0)
    return f"{summary.text()}, {spoken(group.label).removeprefix('attention, ')}"


def _task(contest: Contest) -> str:
    return contest.task.replace("placement ", "")


if __name__ == "__main__":
    sys.stdout.write(page(*map(Path, sys.argv[1:] or FOLDERS)))

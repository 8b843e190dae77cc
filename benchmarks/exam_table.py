"""The tables of docs/exam.md, one of them in README, out of its records.

    python benchmarks/exam_table.py                       # of results/exam
    python benchmarks/exam_table.py RUNS RUNS             # of several folders, as one contest

Retention on test at the longest length trained on and at every longer one: means over
the seeds with their 95 % intervals (Student t), at the learning rate that dev chose. A cell with
fewer than five seeds says so.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rulekeep.article.report import markdown_table
from rulekeep.report import merged
from rulekeep.report.cells import Contest, Group, contests, labels, spoken
from rulekeep.report.reading import read_runs
from rulekeep.store import read_runs as kept_runs
from rulekeep.summary import Summary

EXAM = Path(__file__).parent.parent / "results" / "exam"


def read(*roots: Path) -> list[Contest]:
    """The runs of the folders as one contest a task; one that stands in two is one run."""
    every = (record for root in roots for record in kept_runs(root).records)
    return contests(read_runs(merged(every)).runs)


def task_of(contest: Contest) -> str:
    """The task and the placement of its rules."""
    return contest.task.replace("placement ", "")


def page(*roots: Path) -> str:
    """A table a context, as Markdown."""
    return tables(read(*roots))


def tables(found: Sequence[Contest]) -> str:
    """Retention of each mixer of these contests, a table a context."""
    groups = [group for contest in found for group in contest.groups]
    contexts = {at for group in groups for at in group.test_contexts if at >= group.context}
    return "\n".join(_table(found, context) for context in sorted(contexts))


def _table(found: Sequence[Contest], context: int) -> str:
    columns = labels(found)
    body = []
    for contest in found:
        groups = {group.label: group for group in contest.groups}
        # Whoever is not defined at a length has no chance level there either.
        levels = (group.chance("retention", context) for group in contest.groups)
        chance = next((f"{level:.3f}" for level in levels if level is not None), "–")
        cells = [_cell(groups.get(label), context) for label in columns]
        body.append([task_of(contest), chance, *cells])
    header = [f"{context} tokens", "chance", *map(spoken, columns)]
    return markdown_table(header, body) + "\n"


def _cell(group: Group | None, context: int) -> str:
    if group is None:
        return "not run"
    if group.is_undefined(context):
        return "not defined"
    return text_of(group.summary("retention", context))


def text_of(summary: Summary | None) -> str:
    """A cell: the mean with its interval, or that there is none."""
    return "not run" if summary is None else summary.text()


if __name__ == "__main__":
    sys.stdout.write(page(*map(Path, sys.argv[1:] or [EXAM])))

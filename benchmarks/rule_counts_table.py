"""Two rules and eight, where the exam has four: docs/evidence.md.

    rulekeep sweep rule-counts --out results/rule-counts
    python benchmarks/rule_counts_table.py                # of that folder
    python benchmarks/rule_counts_table.py RUNS

Retention and `exact` at the longest length trained on, of our memory and of the attention beside
it, the difference paired by seed, and the steps that each takes to 0.9 of the figure, a median:
means over the seeds with 95 % intervals (Student t). A cell with fewer than five seeds is left out.
"""

import sys
from pathlib import Path

from beyond_table import read, within

from rulekeep.report.cells import Contest

ROOT = Path(__file__).parent.parent / "results" / "rule-counts"


def page(root: Path = ROOT) -> str:
    """Both tables, as Markdown."""
    found = sorted(read(root), key=lambda one: cell_of(one[0]))
    return "\n".join(within(found, figure, cell_of) for figure in ("retention", "exact"))


def cell_of(contest: Contest) -> str:
    """A cell by all that tells it apart, whatever else is run: `recite, early, rules 2`."""
    run = next(iter(contest.groups[0].runs.values()))
    placement, rules = (run.difficulty[key] for key in ("placement", "rules"))
    return f"{contest.task.partition(',')[0]}, {placement}, rules {rules}"


if __name__ == "__main__":
    sys.stdout.write(page(*map(Path, sys.argv[1:2])))

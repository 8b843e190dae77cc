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

ROOT = Path(__file__).parent.parent / "results" / "rule-counts"


def page(root: Path = ROOT) -> str:
    """Both tables, as Markdown."""
    found = read(root)
    return "\n".join(within(found, figure) for figure in ("retention", "exact"))


if __name__ == "__main__":
    sys.stdout.write(page(*map(Path, sys.argv[1:2])))

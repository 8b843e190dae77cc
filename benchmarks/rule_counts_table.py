"""Two rules and eight, where the exam has four: docs/evidence.md.

    rulekeep sweep rule-counts --out results/rule-counts
    rulekeep sweep benchmarks/rule_counts_aside.py --out results/rule-counts-aside
    python benchmarks/rule_counts_table.py                # of those folders
    python benchmarks/rule_counts_table.py RUNS           # with another in place of the first

Retention and `exact` at the longest length trained on, of our memory and of the attention beside
it, the difference paired by seed, and the steps that each takes to 0.9 of the figure, a median:
means over the seeds with 95 % intervals (Student t). A cell with fewer than five seeds is left out.
The last table has our memory at a rate that dev did not choose (`rule_counts_aside.py`), beside the
same attention.
"""

import sys
from pathlib import Path

from beside import OURS, attentions, best_on_dev, complete, read, within
from rule_counts_aside import RATE, RULES, TASK

from rulekeep.analysis.cells import Contest, Group, contests
from rulekeep.analysis.merging import merged
from rulekeep.analysis.reading import read_runs
from rulekeep.analysis.rows import text_of
from rulekeep.analysis.summary import paired_difference
from rulekeep.analysis.variants import is_of_task
from rulekeep.printable import markdown_table
from rulekeep.records.store import read_runs as kept_runs

RESULTS = Path(__file__).parent.parent / "results"
ROOT, ASIDE = RESULTS / "rule-counts", RESULTS / "rule-counts-aside"
FIGURES = ("retention", "exact")


def page(root: Path = ROOT) -> str:
    """Every table, as Markdown."""
    found = sorted(read(root), key=lambda one: cell_of(one[0]))
    return "\n".join([*(within(found, figure, cell_of) for figure in FIGURES), _aside_table(root)])


def cell_of(contest: Contest) -> str:
    """A cell by all that tells it apart, whatever else is run: `recite, early, rules 2`."""
    spec = next(iter(contest.groups[0].runs.values())).record.spec
    placement, rules = (spec.task_options[key] for key in ("placement", "rules"))
    return f"{spec.task}, {placement}, rules {rules}"


def at_another_rate(root: Path = ROOT) -> dict[str, tuple[Group, Group]]:
    """By cell: our memory at the rate that dev did not choose, and attention at dev's."""
    records = [
        record
        for folder in (root, ASIDE)
        for record in kept_runs(folder).records
        if is_of_task(record, TASK, rules=RULES)
        and (record.spec.mixer, record.spec.learning_rate) == (OURS, RATE)
    ]
    beside = {cell_of(contest): contest for contest, _ in read(root)}
    found = {}
    for contest in contests(read_runs(merged(records)).runs):
        cell = cell_of(contest)
        for group in filter(complete, contest.groups):
            if cell in beside and attentions(beside[cell], group.context):
                found[cell] = group, best_on_dev(beside[cell], "exact", group.context)
    return dict(sorted(found.items()))


def _aside_table(root: Path) -> str:
    head, body = [f"{OURS} at a rate that dev did not choose", "rate"], []
    for figure in FIGURES:
        head += [figure, "difference to attention"]
    head.append(f"{FIGURES[-1]}, seeds 1 to 5")
    for cell, (ours, theirs) in at_another_rate(root).items():
        row = [cell, f"{ours.rate:.3g}"]
        for figure in FIGURES:
            mine, other = (one.by_seed(figure, ours.context) for one in (ours, theirs))
            row += [text_of(ours.summary(figure, ours.context))]
            row += [paired_difference(mine, other).summary.text()]
        whole = ours.by_seed(FIGURES[-1], ours.context)
        body.append([*row, ", ".join(f"{kept:.3f}" for _, kept in sorted(whole.items()))])
    return markdown_table(head, body) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(*map(Path, sys.argv[1:2])))

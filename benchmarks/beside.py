"""Our memory and the attention beside it, of one folder of runs. Itself no script."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rulekeep.analysis.best import best_on_validation, steps_to_learn
from rulekeep.analysis.cells import Contest, Group, contests, spoken
from rulekeep.analysis.merging import merged
from rulekeep.analysis.reading import BASELINE, read_runs
from rulekeep.analysis.rows import text_of
from rulekeep.analysis.summary import ENOUGH_SEEDS, paired_difference
from rulekeep.analysis.variants import are_variant
from rulekeep.printable import markdown_table
from rulekeep.records.store import read_runs as kept_runs
from rulekeep.specs import contestants

OURS = "sparse_delta"
SIGNAL = "earliness"
(TAPS,) = contestants(
    "benchmarks/convolved_attention.py:ConvolvedAttention[added_positions=earliness]"
)


def read(root: Path) -> list[tuple[Contest, Group]]:
    """Each task that our memory was run on with five seeds or more, with its runs."""
    found = []
    for contest in contests(read_runs(merged(kept_runs(root).records)).runs):
        # The attention of a file is called one.
        groups = tuple(
            replace(one, mixer=BASELINE) if are_variant(_records(one), TAPS) else one
            for one in contest.groups
        )
        for group in groups:
            specs = [record.spec for record in _records(group)]
            ours = all((s.mixer, s.rest.get("added_positions")) == (OURS, SIGNAL) for s in specs)
            if ours and complete(group):
                found.append((replace(contest, groups=groups), group))
    return found


def _records(group: Group) -> list:
    return [run.record for run in group.runs.values()]


def task_of(contest: Contest) -> str:
    """The task and the placement of its rules."""
    return contest.task.replace("placement ", "")


def attentions(contest: Contest, context: int) -> list[Group]:
    """Those that were trained at this length and are run in full."""
    return [g for g in contest.at(context) if g.mixer == BASELINE and complete(g)]


def best_on_dev(contest: Contest, figure: str, context: int) -> Group:
    """The attention that the validation set scores best at the longest length trained on."""
    return best_on_validation(attentions(contest, context), figure, context)


def complete(group: Group) -> bool:
    """Whether all its seeds are there: a cell that has fewer would be read as if it had."""
    return len(group.runs) >= ENOUGH_SEEDS


def within(
    found: list[tuple[Contest, Group]], figure: str, named: Callable[[Contest], str] = task_of
) -> str:
    """A figure at the longest length trained on, beside the best attention, and the steps."""
    body = []
    for contest, ours in found:
        context = ours.context
        if not attentions(contest, context):
            continue
        other = best_on_dev(contest, figure, context)
        mine, theirs = ours.by_seed(figure, context), other.by_seed(figure, context)
        row = [named(contest), spoken(other.label)]
        for group in (other, ours):
            row.append(text_of(group.summary(figure, context)))
        row.append(paired_difference(mine, theirs).summary.text())
        row += [steps_text(steps_to_learn(group, figure)) for group in (other, ours)]
        body.append(row)
    head = [f"{figure}, {found[0][1].context} tokens", "best attention", "its", OURS, "difference"]
    head += ["its steps", f"steps of {OURS}"]
    return markdown_table(head, body) + "\n"


def steps_text(count: float) -> str:
    """Steps as a cell of a table."""
    return "never" if count == float("inf") else f"{count:,.0f}"

"""The best of several groups, and how soon a group learns.

The best is chosen on the validation set, or on the test set where that favours the others.
"""

import math
import statistics
from collections.abc import Iterable

from rulekeep.analysis.groups import Group
from rulekeep.analysis.summary import LEARNED_RETENTION
from rulekeep.records import Record


def best_on_validation(groups: Iterable[Group], figure: str, context: int) -> Group:
    """The group with the highest mean of a figure on the validation set at this length.

    Of several with the same mean, the one that learns in the fewest steps.
    """

    def scored(group: Group) -> tuple[float, float]:
        figures = [
            evaluation.figures.get(figure, math.nan)
            for run in group.runs.values()
            for evaluation in run.record.evaluations
            if (evaluation.split, evaluation.context) == ("validation", context)
        ]
        # One with a diverged seed comes last, as in a report: the others' mean is not its own.
        ended = all(run.record.has_model for run in group.runs.values())
        whole = figures and ended and all(map(math.isfinite, figures))
        return statistics.mean(figures) if whole else -math.inf, -steps_to_learn(group, figure)

    return max(groups, key=scored)


def best_on_test(groups: Iterable[Group], figure: str, context: int, seeds: int) -> Group | None:
    """The group with the highest test mean there; None if none was tested with so many seeds."""

    def scored(group: Group) -> float:
        each = group.by_seed(figure, context).values()
        return statistics.mean(each) if all(map(math.isfinite, each)) else -math.inf

    tested = [one for one in groups if len(one.by_seed(figure, context)) >= seeds]
    return max(tested, key=scored, default=None)


def steps_to_learn(group: Group, figure: str) -> float:
    """The median over the seeds of the first step with 0.9 of a figure; infinite without one."""
    return statistics.median(first_learned(run.record, figure) for run in group.runs.values())


def steps_text(group: Group, figure: str) -> str:
    """The same as a cell of a table."""
    return text_of_steps(steps_to_learn(group, figure))


def text_of_steps(count: float) -> str:
    """Steps as a cell of a table."""
    return f"{count:,.0f}" if math.isfinite(count) else "never"


def first_learned(record: Record, figure: str) -> float:
    """The first step at which the validation set gives 0.9 of a figure; else infinite."""
    learned = (row["step"] for row in record.history if row[figure] >= LEARNED_RETENTION)
    return next(learned, math.inf)

"""Two cells of rules in words, compared prompt by prompt.

    compare(rows, others)       # what one compression of a record says, and what another does

Compared are the rules that both state with the same option in the same prompt, whatever else
differs: the model, the words of the rules, the compression. Each side is calibrated by itself. One
bootstrap draws the prompts of both. No torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from rulekeep.analysis.summary import Interval, holm
from rulekeep.language.calibration import Judged, keys_of, name_of
from rulekeep.language.figures import shares_of
from rulekeep.language.intervals import interval, means_of, resampled
from rulekeep.records.record import Choice

# Below it draws differ by rounding alone.
LEAST_SPREAD = 1e-12


@dataclass(frozen=True)
class Comparison:
    """Two cells: what each keeps, and the second less the first.

    `all_first` and `all_second` are the shares of prompts whose every rule is followed.
    `only_first` and `only_second` count those that are so in one alone; `mcnemar` is the exact
    two-sided p-value of these counts. `p_value` is that of the difference, by the spread of its
    bootstrap. `by_family` has the difference of each family, the largest loss first.
    """

    first: Interval
    second: Interval
    difference: Interval
    p_value: float
    all_first: float
    all_second: float
    only_first: int
    only_second: int
    mcnemar: float
    by_family: Mapping[str, float]
    prompts: int
    rules: int


def compare(first: Sequence[Choice], second: Sequence[Choice]) -> Comparison | None:
    """Compares the obeyed rules of two cells; None where no rule is in both."""
    sides = [[row for row in rows if row.how == "obeyed"] for rows in (first, second)]
    among = frozenset(map(name_of, sides[0])) & frozenset(map(name_of, sides[1]))
    keys = keys_of([*sides[0], *sides[1]])
    weights = resampled(len(keys))
    judged = [Judged(rows, keys, among=among) for rows in sides]
    if not among or not all(one.rules for one in judged):
        return None
    values = [one.right(weights)[0] for one in judged]
    lacking = np.isnan(values[0][0]) | np.isnan(values[1][0])
    if lacking.all():
        return None
    for side in values:
        side[:, lacking] = np.nan
    drawn = weights[:, judged[0].prompts]
    shares, whole = (
        [one.by_prompt(side, whole=way) for one, side in zip(judged, values, strict=True)]
        for way in (False, True)
    )
    changes = [
        (rule.family, change)
        for rule, change in zip(judged[0].rules, values[1][0] - values[0][0], strict=True)
        if not np.isnan(change)
    ]
    every = [side[0][~np.isnan(side[0])] == 1 for side in whole]
    return of_prompts(shares, every, drawn, changes)


def of_prompts(
    shares: Sequence[Float[np.ndarray, "draws prompts"]],
    every: Sequence[Bool[np.ndarray, " prompts"]],
    drawn: Float[np.ndarray, "draws prompts"],
    changes: Sequence[tuple[str, float]],
) -> Comparison:
    """Compares the share of rules kept in each prompt, and whether it is every one of them.

    `changes` has the family of each rule, and what the second keeps of it less the first.
    """
    from scipy.stats import binomtest

    less = shares[1] - shares[0]
    difference = interval(less, drawn, least=-1.0)
    only = [int((mine & ~other).sum()) for mine, other in (every, every[::-1])]
    spread = float(np.nanstd(means_of(less, drawn)[1:]))
    return Comparison(
        first=interval(shares[0], drawn),
        second=interval(shares[1], drawn),
        difference=difference,
        p_value=_p(abs(difference.mean), spread, len(every[0])),
        all_first=float(every[0].mean()),
        all_second=float(every[1].mean()),
        only_first=only[0],
        only_second=only[1],
        mcnemar=float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0,
        by_family=dict(sorted(shares_of(changes).items(), key=lambda of: (of[1], of[0]))),
        prompts=len(every[0]),
        rules=len(changes),
    )


def _p(apart: float, spread: float, prompts: int) -> float:
    """How probable so large a difference is where there is none."""
    from scipy.stats import norm

    if spread > LEAST_SPREAD:
        return float(2 * norm.sf(apart / spread))
    # The same in every prompt: the sign test.
    return float(min(1.0, 2 * 0.5**prompts)) if apart > LEAST_SPREAD else 1.0


def worse(comparisons: Sequence[Comparison], level: float = 0.05) -> list[Comparison]:
    """Those whose second cell is shown to keep less, after Holm over all of them, by their p."""
    corrected = holm(dict(enumerate(one.p_value for one in comparisons)))
    shown = [comparisons[at] for at, p in corrected.items() if p < level]
    return [one for one in shown if one.difference.mean < 0]

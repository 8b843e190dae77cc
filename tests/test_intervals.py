"""Every interval over seeds that is printed: how often it holds what it is of, by simulation."""

import math
from functools import cache
from types import ModuleType

import pytest
from scipy import stats
from scripts import script

from rulekeep.analysis.summary import (
    exact_share,
    failing_not_excluded,
    holm,
    paired_difference,
    summarise,
    summarise_scores,
)

FIVE, TEN = 5, 10


@cache
def study() -> ModuleType:
    """The study, whose random numbers are fixed."""
    return script("intervals", "studies")


# Of five seeds of which one in ten fails, 0.9 ** 5 = 59 % show none that fails.
@pytest.mark.parametrize(
    ("failing", "seeds", "covered"),
    [(0.05, 5, 0.23), (0.1, 5, 0.41), (0.2, 5, 0.67), (0.05, 10, 0.40), (0.1, 10, 0.65)],
)
def test_students_interval_misses_the_mean_wherever_no_seed_failed_yet(
    failing: float, seeds: int, covered: float
) -> None:
    assert 1 - (1 - failing) ** seeds == pytest.approx(covered, abs=0.01)
    assert study().coverage("Student t", f"{failing:.0%} fail", seeds) == pytest.approx(
        covered, abs=0.03
    )


@pytest.mark.parametrize("seeds", [FIVE, TEN])
@pytest.mark.parametrize("failing", [0.0, 0.05, 0.1, 0.2, 0.5, 1.0])
def test_the_exact_interval_of_a_share_covers_whatever_the_share(
    failing: float, seeds: int
) -> None:
    assert study().share_held(failing, seeds) >= 0.95


@pytest.mark.parametrize("seeds", [FIVE, TEN])
def test_a_difference_of_two_alike_is_seldom_found(seeds: int) -> None:
    for name in study().POPULATIONS:
        assert study().without_zero(name, seeds) <= 0.07, name


@pytest.mark.parametrize("seeds", [FIVE, TEN])
def test_a_share_is_scipys(seeds: int) -> None:
    for count in range(seeds + 1):
        found = stats.binomtest(count, seeds).proportion_ci(0.95, method="exact")
        assert exact_share(count, seeds) == pytest.approx((found.low, found.high))


# 0.025 ** (1 / 5) = 0.478176; 0.05 ** (1 / 5) = 0.549280 and 0.05 ** (1 / 10) = 0.741134.
def test_what_so_many_seeds_cannot_exclude_by_hand() -> None:
    assert exact_share(5, 5) == pytest.approx((0.478176, 1.0), abs=1e-6)
    assert exact_share(0, 5) == pytest.approx((0.0, 0.521824), abs=1e-6)
    assert failing_not_excluded(5) == pytest.approx(0.450720, abs=1e-6)
    assert failing_not_excluded(10) == pytest.approx(0.258866, abs=1e-6)


VALUES = [0.3, 0.9, 0.5, 0.7, 0.6]


def test_means_intervals_and_tests_are_scipys() -> None:
    summary = summarise(VALUES)
    low, high = stats.t.interval(0.95, 4, loc=0.6, scale=stats.sem(VALUES))
    assert (summary.mean, summary.low, summary.high) == pytest.approx((0.6, low, high))
    assert summary.deviation == pytest.approx(stats.tstd(VALUES))
    ours, theirs = dict(enumerate(VALUES)), dict(enumerate([0.2, 0.5, 0.6, 0.3, 0.1]))
    paired = paired_difference(ours, theirs)
    assert paired.p == pytest.approx(stats.ttest_rel([*ours.values()], [*theirs.values()]).pvalue)
    # Differences 0.1, 0.4, -0.1, 0.4, 0.5: mean 0.26, deviation √(0.2520 / 4), t = 2.316264.
    assert paired.mean == pytest.approx(0.26)
    assert paired.p == pytest.approx(2 * stats.t.sf(2.316264, 4), rel=1e-6)
    assert -paired == paired_difference(theirs, ours)


# The density of t with 2 degrees has a closed form: P(|t| > x) = 1 - x / √(2 + x²).
def test_a_p_by_hand() -> None:
    score = math.sqrt(3) * 2.0 / 1.0
    assert summarise([1.0, 2.0, 3.0]).p == pytest.approx(1 - score / math.sqrt(2 + score**2))


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([0.5], None),
        ([math.nan, math.nan], None),
        ([0.0, 0.0, 0.0], 1.0),
        ([-0.1, 0.1], 1.0),
        # Alike in each seed, and not 0.
        ([0.1, 0.1, 0.1], 0.0),
        # One diverged: the others' difference is not the variant's.
        ([0.5, 0.6, 0.5, math.nan], 1.0),
    ],
)
def test_a_p_where_there_is_nothing_to_divide(values: list[float], p: float | None) -> None:
    assert summarise(values).p == p


# Rising: 0.01 × 4, 0.02 × 3, 0.03 × 2, 0.5: 0.06 may not fall below what stands before it.
def test_holm_by_hand() -> None:
    tested = {"c": 0.03, "a": 0.01, "d": 0.5, "b": 0.02}
    found = holm(tested)
    assert found == pytest.approx({"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.5})
    assert holm({}) == {}
    # Ties, a single one, and no more than 1.
    assert holm({"a": 0.02, "b": 0.02}) == pytest.approx({"a": 0.04, "b": 0.04})
    assert holm({"a": 0.04}) == {"a": 0.04}
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        # Mean 0.726; those that learned: mean 0.9, half width 3.182446 × 0.0258199 / 2 = 0.041085.
        ([0.03, 0.88, 0.88, 0.91, 0.93], "0.726 (4 of 5 seeds: 0.900, 0.861 to 0.939)"),
        ([0.0, 0.0, 0.0, 0.0, 1.0], "0.200 (1 of 5 seeds: 1.000)"),
        # Less than half of the scale apart, they are one group.
        ([0.1, 0.3, 0.5, 0.7, 0.9], "0.500 (0.107 to 0.893)"),
        ([0.45, 0.9, 0.9, 0.9, 0.9], "0.810 (0.560 to 1.000)"),
        # Nor have they learned where the best has less than 0.9.
        ([0.0, 0.0, 0.0, 0.0, 0.8], "0.160 (0.000 to 0.604)"),
        ([1.0] * 5, "1.000 (1.000 to 1.000)"),
        ([0.0] * 5, "0.000 (0.000 to 0.000)"),
        ([0.0, 1.0], "0.500 (1 of 2 seeds: 1.000; 2 seeds: few)"),
        ([0.0, 1.0, 1.0, 1.0, 1.0, math.nan],
         "0.800 (4 of 5 seeds: 1.000, 1.000 to 1.000; 1 of 6 diverged)"),
        ([0.0], "0.000 (1 seed: few)"),
    ],
)  # fmt: skip
def test_seeds_that_did_not_learn_stand_apart(seeds: list[float], text: str) -> None:
    assert summarise_scores(seeds).text() == text

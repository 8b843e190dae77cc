import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulekeep.analysis.summary import (
    RateChoice,
    ValidationScores,
    chance_corrected,
    choose_learning_rate,
    learned_share,
    mean_scores,
    paired_difference,
    summarise,
    summarise_scores,
    wilson,
)

NAN = math.nan
FIVE = [0.7, 0.7, 0.8, 0.9, 0.9]

scores = st.floats(0, 1)
figures = st.floats(-1e6, 1e6)
cells = st.lists(scores, min_size=1, max_size=12)


# The quantiles t(0.975, n - 1) are copied from a printed table of Student's t.
@pytest.mark.parametrize(
    ("values", "mean", "deviation", "half"),
    [
        ([1.0, 3.0], 2.0, 1.414214, 12.7062 * 1.0),
        ([1.0, 2.0, 3.0], 2.0, 1.0, 4.302653 * 0.5773503),
        ([2.0, 4.0, 4.0, 6.0], 4.0, 1.632993, 3.182446 * 0.8164966),
        (FIVE, 0.8, 0.1, 2.776445 * 0.0447214),
        ([float(x) for x in range(1, 11)], 5.5, 3.027650, 2.262157 * 0.9574271),
    ],
)
def test_summary_matches_the_table_of_t(
    values: list[float], mean: float, deviation: float, half: float
) -> None:
    summary = summarise(values)
    assert summary.mean == pytest.approx(mean)
    assert summary.deviation == pytest.approx(deviation, rel=1e-6)
    assert summary.high - summary.mean == pytest.approx(half, rel=1e-5)
    assert summary.mean - summary.low == pytest.approx(half, rel=1e-5)


def test_only_scores_are_clipped() -> None:
    # Mean 0.95, half width 12.7062 × 0.05 = 0.63531.
    assert summarise([0.9, 1.0])[2:4] == pytest.approx((0.31469, 1.58531), rel=1e-5)
    assert summarise_scores([0.9, 1.0])[2:4] == pytest.approx((0.31469, 1.0), rel=1e-5)
    assert summarise_scores([0.0, 0.1]).low == 0.0


@pytest.mark.parametrize(
    ("values", "summary", "text"),
    [
        ([0.7], (0.7, None, None, None, 1, 0), "0.700 (1 seed: few)"),
        ([0.7, NAN], (0.7, None, None, None, 1, 1), "0.700 (1 seed: few; 1 of 2 diverged)"),
        # A sum of floats would leave 0.1 + 0.1 + 0.1 off by a bit.
        ([0.1] * 3, (0.1, 0.0, 0.1, 0.1, 3, 0), "0.100 (0.100 to 0.100; 3 seeds: few)"),
        ([0.1] * 5, (0.1, 0.0, 0.1, 0.1, 5, 0), "0.100 (0.100 to 0.100)"),
        ([0.1] * 4 + [NAN], (0.1, 0.0, 0.1, 0.1, 4, 1), None),
        ([NAN] * 5, (None, None, None, None, 0, 5), "no figure (5 of 5 diverged)"),
    ],
)
def test_what_weakens_a_mean_is_in_its_summary_and_its_text(
    values: list[float], summary: tuple[object, ...], text: str | None
) -> None:
    assert summarise(values) == summarise_scores(values) == (*summary, None)
    assert text is None or summarise(values).text() == text


@given(cells.flatmap(lambda cell: st.tuples(st.just(cell), st.permutations(cell))))
def test_the_order_of_seeds_changes_no_bit(pair: tuple[list[float], list[float]]) -> None:
    cell, shuffled = pair
    assert summarise(cell) == summarise(shuffled)
    assert summarise_scores(cell) == summarise_scores(shuffled)
    assert learned_share(cell) == learned_share(shuffled)


# By hand: for 5 of 5 the lower end is 0.025 ** (1 / 5). For 4 of 5 the upper end p has
# p ** 5 = 0.975, and the lower 5 p⁴ - 4 p⁵ = 0.025.
@pytest.mark.parametrize(
    ("learned", "seeds", "low", "high"),
    [
        (4, 5, 0.283582, 0.994949),
        (0, 5, 0.0, 0.521824),
        (5, 5, 0.478176, 1.0),
        (5, 10, 0.187086, 0.812914),
        (1, 1, 0.025, 1.0),
    ],
)
def test_share_matches_clopper_and_pearson(
    learned: int, seeds: int, low: float, high: float
) -> None:
    # Nine tenths are enough; a seed that diverged did not learn.
    for other in (0.2, 0.8999, NAN):
        share = learned_share([0.9] * learned + [other] * (seeds - learned))
        assert share.mean == learned / seeds
        assert (share.low, share.high) == pytest.approx((low, high), abs=2e-6)


# Wilson's formula by hand with z = 1.959964, z² = 3.841459. For 4 of 5:
# centre (0.8 + 0.3841459) / 1.7682918 = 0.669655,
# half width 1.959964 √(0.032 + 0.0384146) / 1.7682918 = 0.294121.
# For 0 of n the upper end is z² / (n + z²).
@pytest.mark.parametrize(
    ("share", "trials", "ends"),
    [
        (0.8, 5, (0.375535, 0.963776)),
        (0.0, 5, (0.0, 0.434482)),
        (1.0, 5, (0.565518, 1.0)),
        (0.5, 10, (0.236593, 0.763407)),
    ],
)
def test_the_interval_that_ties_rates_is_wilsons(
    share: float, trials: int, ends: tuple[float, float]
) -> None:
    assert wilson(share, trials) == pytest.approx(ends, abs=2e-6)


def test_difference_is_paired_by_seed() -> None:
    # Differences 0.1, 0.2, 0.3: mean 0.2, deviation 0.1, half 4.302653 × 0.1 / √3 = 0.248414.
    paired = paired_difference({3: 0.9, 1: 0.6, 2: 0.4}, {1: 0.5, 2: 0.2, 3: 0.6})
    assert paired.mean == pytest.approx(0.2)
    assert paired.low == pytest.approx(-0.048414, abs=1e-6)
    assert paired.high == pytest.approx(0.448414, abs=1e-6)
    assert paired.few


def test_difference_is_of_the_seeds_in_common() -> None:
    paired = paired_difference({1: 0.5, 2: 0.6, 9: 0.0}, {2: 0.5, 1: 0.5, 7: 1.0, 8: 1.0})
    assert paired.seeds == 2
    with pytest.raises(ValueError, match=r"\[1\] and \[2\]"):
        paired_difference({1: 0.5}, {2: 0.5})


def test_a_seed_that_diverged_on_either_side_is_counted_once() -> None:
    paired = paired_difference(
        {1: NAN, 2: 1.0, 3: math.inf, 4: 1.0}, {1: 1.0, 2: NAN, 3: math.inf, 4: 0.5}
    )
    assert paired == (0.5, None, None, None, 1, 3, None)


def choose(losses: dict[float, list[float]], *, extended: bool) -> RateChoice:
    """A choice by the losses alone."""
    runs = {rate: [(loss, None) for loss in there] for rate, there in losses.items()}
    return choose_learning_rate(runs, extended=extended)


@pytest.mark.parametrize(
    ("losses", "extended", "choice"),
    [
        # A best rate at the edge asks for one more, once.
        ({0.001: [1.0], 0.003: [2.0], 0.009: [3.0]}, False, (0.001, "lowest", 0.000333333)),
        ({0.001: [3.0], 0.003: [2.0], 0.009: [1.0]}, False, (0.009, "highest", 0.027)),
        ({0.0001: [1.0], 0.001: [2.0]}, False, (0.0001, "lowest", 0.00001)),
        ({0.1: [2.0], 0.2: [1.0]}, False, (0.2, "highest", 0.4)),
        ({0.001: [1.0], 0.01: [2.0]}, True, (0.001, "lowest", None)),
        # A grid that diverged whole goes down, once.
        ({0.01: [NAN], 0.1: [NAN]}, False, (None, "lowest", 0.001)),
        ({0.001: [NAN], 0.01: [NAN], 0.1: [NAN]}, True, (None, "lowest", None)),
        # A single rate has no ratio to extend by; of equal rates the lowest wins.
        ({0.01: [1.0]}, False, (0.01, "only", None)),
        ({0.1: [1.0], 0.01: [1.0], 0.001: [2.0]}, False, (0.01, None, None)),
        # A rate that diverged has no mean to compare.
        ({0.1: [1.0, 1.0], 0.2: [NAN]}, False, (0.1, "lowest", 0.05)),
    ],
)
def test_the_chosen_rate_and_the_one_that_is_asked_for(
    losses: dict[float, list[float]], extended: bool, choice: tuple[object, ...]
) -> None:
    found = choose(losses, extended=extended)
    assert (found.rate, found.edge, found.extension) == choice


def test_scores_of_several_runs_are_means_over_runs_and_of_all_their_examples() -> None:
    scores = [ValidationScores(0.9, 0.5, 100), ValidationScores(0.7, 0.1, 300)]
    assert mean_scores(scores) == (pytest.approx(0.8), pytest.approx(0.3), 400)
    assert mean_scores(scores[:1]) == scores[0]


# Wilson's low end of 1.0 is n / (n + 3.841459): 0.985216 of 256 examples, 0.992553 of 512.


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_a_diverged_rate_never_wins(bad: float) -> None:
    choice = choose({0.001: [3.0, 3.0], 0.01: [2.0, 2.0], 0.1: [0.0, bad]}, extended=False)
    assert (choice.rate, choice.edge) == (0.01, None)
    assert choice.grid[2].mean is None
    assert choice.grid[2].losses[0] == 0.0


@given(
    st.dictionaries(
        st.sampled_from([1e-4, 3e-4, 1e-3, 3e-3, 1e-2]),
        st.lists(st.one_of(figures, st.just(NAN)), min_size=2, max_size=2),
        min_size=1,
    )
)
def test_choice_is_the_best_of_the_stable_whatever_their_order(
    losses: dict[float, list[float]],
) -> None:
    choice = choose(losses, extended=False)
    backwards = dict(reversed(losses.items()))
    assert repr(choose(backwards, extended=False)) == repr(choice)
    assert [tried.rate for tried in choice.grid] == sorted(losses)
    means = {tried.rate: tried.mean for tried in choice.grid if tried.mean is not None}
    assert choice.rate is None if not means else means[choice.rate] == min(means.values())
    assert choice.extension is None or not min(losses) <= choice.extension <= max(losses)


@pytest.mark.parametrize(
    ("score", "chance", "corrected"),
    [(1.0, 0.25, 1.0), (0.25, 0.25, 0.0), (0.625, 0.25, 0.5), (0.0, 0.5, -1.0), (0.3, 0.0, 0.3)],
)
def test_chance_is_zero_and_perfect_is_one(score: float, chance: float, corrected: float) -> None:
    assert chance_corrected(score, chance) == corrected

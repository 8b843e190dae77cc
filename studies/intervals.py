"""Intervals over seeds: how often does each hold the mean that it is of, where a seed may fail?

    rulekeep study intervals build|check

No run is read: seeds are made up, by fixed random numbers. A seed that fails scores like guessing,
one that learns almost 1. Beside the interval of tables, Student's t, stand others of the field, and
what is printed beside a mean. Fills docs/methods.md and README.

    bootstrap       percentile and BCa (Efron 1987), of `scipy.stats.bootstrap`
    logit t         Student's t of the logits
    share and t     the exact interval of the share that learned, times Student's t of those
    Hoeffding 1963, Anderson 1969, betting (Waudby-Smith and Ramdas 2023)
                    for any figures from 0 to 1, no shape assumed
"""

import math
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from rulekeep.analysis.rows import Rows
from rulekeep.analysis.summary import (
    LEARNED_RETENTION,
    LEVEL,
    Summary,
    exact_share,
    failing_not_excluded,
    paired_difference,
    summarise_scores,
)
from rulekeep.printable import markdown_table
from rulekeep.study import Claim, Study

Values = np.ndarray[Any, np.dtype[np.float64]]
Ends = tuple[Values, Values]

SEED_COUNTS = (5, 10)
FAILING = (0.05, 0.1, 0.2)
TIMES = 1000
ALPHA = 1 - LEVEL
# Where a seed has learned nothing: about the chance level of `recite`.
CHANCE = 0.033


class Population(NamedTuple):
    """What a seed scores: uniform numbers, a column each, to figures; and the mean of them."""

    draw: Callable[[Values, Values], Values]
    mean: float


def learns(u: Values) -> Values:
    """Almost 1, with a tail down: a miss in 500 on average."""
    return 1 + 0.002 * np.log1p(-u)


def fails(share: float) -> Population:
    """One of so many seeds fails."""

    def draw(first: Values, second: Values) -> Values:
        return np.where(first < share, CHANCE * 2 * second, learns(second))

    return Population(draw, share * CHANCE + (1 - share) * 0.998)


def smooth(a: float, b: float) -> Population:
    """A beta distribution with one peak."""
    return Population(lambda _, second: stats.beta.ppf(second, a, b), a / (a + b))


POPULATIONS = {
    **{f"{share:.0%} fail": fails(share) for share in FAILING},
    "one peak, 0.7 ± 0.1": smooth(14, 6),
    "none fails, at the ceiling": fails(0.0),
}


@cache
def drawn(name: str, seeds: int) -> Values:
    """So many seeds of a population, a row each time."""
    first, second = np.random.default_rng(1).random((2, TIMES, seeds))
    return POPULATIONS[name].draw(first, second)


# --- intervals -----------------------------------------------------------------------------------


def student(x: Values, level: float = LEVEL) -> Ends:
    """Student's t, cut to 0 and 1."""
    n = x.shape[-1]
    half = stats.t.ppf((1 + level) / 2, n - 1) * x.std(-1, ddof=1) / math.sqrt(n)
    return np.maximum(x.mean(-1) - half, 0.0), np.minimum(x.mean(-1) + half, 1.0)


def resampled(method: str) -> Callable[[Values], Ends]:
    """A bootstrap of the mean."""

    def interval(x: Values) -> Ends:
        # Seeds that are all alike have no spread to correct by: BCa has no interval there.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = stats.bootstrap(
                (x,), np.mean, axis=-1, n_resamples=400, batch=50, method=method,
                confidence_level=LEVEL, random_state=np.random.default_rng(2),
            ).confidence_interval  # fmt: skip
        mean = x.mean(-1)
        return (
            np.where(np.isnan(found.low), mean, found.low),
            np.where(np.isnan(found.high), mean, found.high),
        )

    return interval


def logit_student(x: Values) -> Ends:
    """Student's t of the logits; of 1,024 examples one is half wrong where none is."""
    least = 1 / 2048
    logits = np.log(np.clip(x, least, 1 - least)) - np.log1p(-np.clip(x, least, 1 - least))
    n = x.shape[-1]
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * logits.std(-1, ddof=1) / math.sqrt(n)
    low, high = logits.mean(-1) - half, logits.mean(-1) + half
    return 1 / (1 + np.exp(-low)), 1 / (1 + np.exp(-high))


def share_and_student(x: Values) -> Ends:
    """Both at half the error: what fails has 0 at the low end, and 0.9 at the high one."""
    n = x.shape[-1]
    low, high = np.empty(len(x)), np.empty(len(x))
    for row, values in enumerate(x):
        kept = values[values >= LEARNED_RETENTION]
        least, most = exact_share(len(kept), n, 1 - ALPHA / 2)
        ends = np.array([LEARNED_RETENTION]), np.array([1.0])
        if len(kept) > 1:
            ends = student(kept[None], 1 - ALPHA / 2)
        low[row] = least * ends[0][0]
        high[row] = most * ends[1][0] + (1 - most) * LEARNED_RETENTION
    return low, high


def hoeffding(x: Values) -> Ends:
    """Hoeffding 1963: the mean ± √(ln(2 / α) / 2n)."""
    half = math.sqrt(math.log(2 / ALPHA) / (2 * x.shape[-1]))
    return np.maximum(x.mean(-1) - half, 0.0), np.minimum(x.mean(-1) + half, 1.0)


def anderson(x: Values) -> Ends:
    """Anderson 1969: the least and the largest mean of what lies in the band of Kolmogorov."""
    n = x.shape[-1]
    band = float(stats.ksone.ppf(1 - ALPHA / 2, n))

    def least(values: Values) -> Values:
        """The mean if so much of the weight of the largest stood at 0."""
        weights = np.diff(np.clip(np.arange(n + 1) / n, 0, 1 - band))
        return np.sort(values, -1) @ weights

    return least(x), 1 - least(1 - x)


def betting(x: Values) -> Ends:
    """Waudby-Smith and Ramdas 2023, the hedged capital: means against which no bet wins 1 / α."""
    n, means = x.shape[-1], np.linspace(0, 1, 201)[1:-1]
    rising = np.zeros((len(x), len(means)))
    falling = np.zeros((len(x), len(means)))
    total, squares = np.full(len(x), 0.5), np.full(len(x), 0.25)
    for place in range(n):
        value = x[:, place]
        bet = np.sqrt(2 * math.log(2 / ALPHA) / (n * squares / (place + 1)))[:, None]
        apart = value[:, None] - means
        rising += np.log1p(np.minimum(bet, 0.5 / means) * apart)
        falling += np.log1p(-np.minimum(bet, 0.5 / (1 - means)) * apart)
        total = total + value
        squares = squares + (value - total / (place + 2)) ** 2
    inside = np.maximum(rising, falling) < math.log(2 / ALPHA)
    width = means[1] - means[0]
    low = means[inside.argmax(-1)] - width
    return low, means[len(means) - 1 - inside[:, ::-1].argmax(-1)] + width


INTERVALS: Mapping[str, Callable[[Values], Ends]] = {
    "Student t": student,
    "bootstrap, percentile": resampled("percentile"),
    "bootstrap, BCa": resampled("BCa"),
    "logit t": logit_student,
    "share and t": share_and_student,
    "Hoeffding": hoeffding,
    "Anderson": anderson,
    "betting": betting,
}


@cache
def coverage(interval: str, population: str, seeds: int) -> float:
    """How often an interval holds the mean of the population."""
    low, high = INTERVALS[interval](drawn(population, seeds))
    mean = POPULATIONS[population].mean
    return float(np.mean((low <= mean + 1e-12) & (mean <= high + 1e-12)))


def after_all_learned(interval: str, seeds: int) -> tuple[float, float]:
    """What it is, in the middle, where no seed fails."""
    low, high = INTERVALS[interval](drawn("none fails, at the ceiling", seeds))
    return float(np.median(low)), float(np.median(high))


def covered(seeds: int) -> Callable[[Rows], str]:
    """How often each interval holds the mean, and what it is where every seed learned."""

    def table(_: Rows) -> str:
        head = [f"{seeds} seeds", *POPULATIONS, f"where {seeds} of {seeds} learned"]
        body = []
        for name in INTERVALS:
            low, high = after_all_learned(name, seeds)
            shares = [f"{coverage(name, one, seeds):.0%}" for one in POPULATIONS]
            body.append([name, *shares, f"{low:.2f} to {high:.2f}"])
        return markdown_table(head, body)

    return table


# --- what tables print ---------------------------------------------------------------------------


@cache
def printed(population: str, seeds: int) -> float:
    """How often the interval that a cell prints holds the mean of the seeds that learn.

    It is that of the upper group where seeds lie in two groups, else that of all. Cells without an
    interval are left out.
    """
    failing = next((one for one in FAILING if population == f"{one:.0%} fail"), None)
    mean = 0.998 if failing else POPULATIONS[population].mean
    held = []
    for values in drawn(population, seeds).tolist():
        summary = summarise_scores(values)
        cell = summary.upper or summary
        if cell.low is not None and max(values) >= LEARNED_RETENTION * bool(failing):
            held.append(cell.low <= mean <= cell.high)
    return sum(held) / len(held)


def share_held(failing: float, seeds: int) -> float:
    """How often the exact interval of the share that learned holds it; no number is drawn."""
    share = 1 - failing
    chances = stats.binom.pmf(np.arange(seeds + 1), seeds, share)
    ends = [exact_share(count, seeds) for count in range(seeds + 1)]
    return float(
        sum(p for p, (low, high) in zip(chances, ends, strict=True) if low <= share <= high)
    )


def differences(population: str, seeds: int) -> list[Summary]:
    """Ours and theirs of one population, paired by seed: the true difference is 0."""
    ours = drawn(population, seeds).tolist()
    theirs = ours[1:] + ours[:1]
    return [
        paired_difference(dict(enumerate(one)), dict(enumerate(other)))
        for one, other in zip(ours, theirs, strict=True)
    ]


@cache
def without_zero(population: str, seeds: int) -> float:
    """How often the interval of a difference leaves out 0 where the true one is 0."""
    return sum((one.p or 0.0) < ALPHA for one in differences(population, seeds)) / TIMES


def half_fails(seeds: int) -> float:
    """How often the interval of a difference holds it where one side alone fails, one in ten."""
    ours = drawn("none fails, at the ceiling", seeds).tolist()
    theirs = drawn("10% fail", seeds)[::-1].tolist()
    mean = 0.1 * (0.998 - CHANCE)
    found = [
        paired_difference(dict(enumerate(one)), dict(enumerate(other)))
        for one, other in zip(ours, theirs, strict=True)
    ]
    return sum(one.low <= mean <= one.high for one in found) / TIMES


def of_cells(_: Rows) -> str:
    """The three things that tables print, by population."""
    head = ["printed", "seeds", *POPULATIONS]
    body = []
    for seeds in SEED_COUNTS:
        count = str(seeds)
        body += [
            ["share that learned, exact", count,
             *(f"{share_held(one, seeds):.0%}" for one in FAILING), "–", "–"],
            ["mean of those that learned, t", count,
             *(f"{printed(one, seeds):.0%}" for one in POPULATIONS)],
            ["difference of two alike, t", count,
             *(f"{1 - without_zero(one, seeds):.0%}" for one in POPULATIONS)],
        ]  # fmt: skip
    return markdown_table(head, body)


def shares(_: Rows) -> str:
    """The exact interval of each share of five seeds and ten."""
    body = [
        [f"{count} of {seeds}", f"{low:.2f} to {high:.2f}"]
        for seeds in SEED_COUNTS
        for count in range(seeds, -1, -1)
        for low, high in [exact_share(count, seeds)]
    ]
    return markdown_table(["seeds that learned", "share, exact 95 %"], body)


# --- claims --------------------------------------------------------------------------------------


def per_cent(value: float) -> Claim:
    """A share as a document says it."""
    return Claim(lambda _: f"{value:.0%}".replace("%", " %"))


def covers_and_is_wide(_: Rows) -> bool:
    """Whether what covers in each case is wide where all learned, and what is not wide does not."""
    for seeds in SEED_COUNTS:
        for name in INTERVALS:
            least = min(coverage(name, one, seeds) for one in POPULATIONS)
            if (least >= NEEDED) != (after_all_learned(name, seeds)[0] < 1 - needed_reach(seeds)):
                return False
    return True


def needed_reach(seeds: int) -> float:
    """What any interval must reach below 1 where all learned, to cover 90 %."""
    return 1 - NEEDED_MISSED ** (1 / seeds)


NEEDED, NEEDED_MISSED = 0.9, 0.1

STUDY = Study(
    question="How often does an interval over seeds hold the mean, where a seed may fail?",
    variants={},
    settings=[],
    context=0,
    tables={
        **{f"covered-{seeds}": covered(seeds) for seeds in SEED_COUNTS},
        "cells": of_cells,
        "shares": shares,
    },
    claims={
        "clipped": Claim(
            lambda _: f"{coverage('Student t', '10% fail', 5):.0%}".replace("%", " %"),
            holds=covers_and_is_wide,
        ),
        "reach_5": Claim(lambda _: 1 - needed_reach(5), 2),
        "reach_10": Claim(lambda _: 1 - needed_reach(10), 2),
        "five": per_cent(failing_not_excluded(5)),
        "ten": per_cent(failing_not_excluded(10)),
        "half_fails": Claim(lambda _: f"{half_fails(5):.0%}".replace("%", " %")),
    },
)

"""Statistics over the seeds of a cell: means, intervals, shares and differences.

Pure functions over plain values: no file, no torch. With n seeds, mean m and standard
deviation s (n - 1 in the denominator):

    Student t (1908)            m ± t(0.975, n - 1) s / √n, tested by t = √n m / s
    Clopper and Pearson (1934)  the exact interval of a share of seeds
    Wilson (1927)               (p + z²/2n ± z √(p (1 - p)/n + z²/4n²)) / (1 + z²/n), z = 1.96

No useful interval holds the mean of seeds of which some fail, where none has failed yet
(studies/intervals.py). So two things stand apart: how many seeds learned, and the mean of those.

A run that diverged is a result: give every function one figure for each seed of the cell,
non-finite (NaN) if it diverged, and filter nothing. A diverged seed cannot enter a mean; it is
counted in `diverged`, which every `text` prints. Where it can be ranked it is the worst: it did
not learn.

    >>> summarise_scores([0.9, 0.7, 0.8, 0.9, 0.7, float("nan")]).text()
    '0.800 (0.676 to 0.924; 1 of 6 diverged)'
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal, NamedTuple, TypeVar

from rulekeep.printable import counted

LEVEL = 0.95
_Key = TypeVar("_Key", str, int)
ENOUGH_SEEDS = 5
LEARNED_RETENTION = 0.9
# Seeds so far apart, with none between, lie in two groups: those that learned, and the others.
APART = 0.5


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its interval: a mean, or a median between its quartiles."""

    mean: float
    low: float
    high: float

    def text(self, form: str = ".3f", ends: str = "", to: str = " to ") -> str:
        """The figure, and in brackets the ends, by default in the same form."""
        low, high = (format(end, ends or form) for end in (self.low, self.high))
        return f"{self.mean:{form}} ({low}{to}{high})"


class Summary(NamedTuple):
    """One figure over the seeds of a cell, in the figure's own unit.

    `seeds` gave a finite figure and `diverged` did not. The mean speaks for the `seeds` only:
    show it with `text`, or with `diverged` beside it. From one seed there is neither deviation
    nor interval, and from none (all diverged) no mean either: None.
    `upper` are the seeds that learned, of scores that lie in two groups.
    """

    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None
    seeds: int
    diverged: int
    upper: "Summary | None" = None

    def __neg__(self) -> "Summary":
        """The difference the other way round."""
        mean, low, high = (
            None if end is None else -end for end in (self.mean, self.low, self.high)
        )
        return self._replace(mean=mean, low=high, high=low)

    @property
    def p(self) -> float | None:
        """How probable so large a mean is where it is 0 (t-test, two-sided); None of one seed.

        1 where a seed diverged: the mean of the others is not its own.
        """
        if self.mean is None or self.deviation is None:
            return None
        if self.diverged or self.mean == 0:
            return 1.0
        if self.deviation == 0:
            return 0.0
        from scipy import stats

        score = math.sqrt(self.seeds) * abs(self.mean) / self.deviation
        return 2 * float(stats.t.sf(score, self.seeds - 1))

    @property
    def few(self) -> bool:
        """Fewer than 5 seeds carry the mean: marked wherever it is shown."""
        return self.seeds < ENOUGH_SEEDS

    def text(self, digits: int = 3) -> str:
        """Mean, interval, and what a reader must know beside them."""
        if self.mean is None:
            return f"no figure ({self.diverged} of {self.diverged} diverged)"
        span = None if self.low is None else f"{self.low:.{digits}f} to {self.high:.{digits}f}"
        if (kept := self.upper) is not None:
            ends = "" if kept.low is None else f", {kept.low:.{digits}f} to {kept.high:.{digits}f}"
            span = f"{kept.seeds} of {self.seeds} seeds: {kept.mean:.{digits}f}{ends}"
        every = self.seeds + self.diverged
        few = f"{counted(self.seeds, 'seed')}: few" if self.few else None
        lost = f"{self.diverged} of {every} diverged" if self.diverged else None
        notes = "; ".join(note for note in (span, few, lost) if note)
        return f"{self.mean:.{digits}f} ({notes})" if notes else f"{self.mean:.{digits}f}"


def summarise(values: Sequence[float]) -> Summary:
    """Mean, deviation and interval of losses, seconds, differences: any unit, not clipped."""
    finite = _finite(values)
    n = len(finite)
    diverged = len(values) - n
    # Exact sums: the order of the seeds changes no bit, and equal seeds have no deviation.
    mean = statistics.mean(finite) if finite else None
    if mean is None or n == 1:
        return Summary(mean, None, None, None, n, diverged)
    deviation = statistics.stdev(finite)
    half = _quantile(n - 1) * deviation / math.sqrt(n)
    return Summary(mean, deviation, mean - half, mean + half, n, diverged)


def summarise_scores(values: Sequence[float]) -> Summary:
    """As `summarise`, for shares from 0 to 1: the interval is clipped to that range.

    Where the seeds lie in two groups, half of the scale or more apart, and the best has 0.9,
    `upper` has the group that learned. Chance-corrected scores may be negative: `summarise` them.
    """
    ranked = sorted(_finite(values))
    gap, first = max(
        ((high - low, place) for place, (low, high) in enumerate(pairwise(ranked), 1)),
        default=(0.0, 0),
    )
    learned = gap >= APART and ranked[-1] >= LEARNED_RETENTION
    upper = _clipped(summarise(ranked[first:])) if learned else None
    return _clipped(summarise(values))._replace(upper=upper)


def _clipped(summary: Summary) -> Summary:
    if summary.low is None or summary.high is None:
        return summary
    return summary._replace(low=max(0.0, summary.low), high=min(1.0, summary.high))


def learned_share(retentions: Sequence[float]) -> Interval:
    """The share of seeds that learned the task, with its exact 95 % interval.

    Retention (0 to 1, not chance-corrected) is 0.9 there; a seed that diverged did not learn.
    """
    learned = sum(value >= LEARNED_RETENTION for value in _finite(retentions))
    n = len(retentions)
    return Interval(learned / n, *exact_share(learned, n))


@cache
def exact_share(count: float, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share by Clopper and Pearson: it covers `level` or more of any share."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = float(betaincinv(count, trials - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, trials - count, 1 - tail)) if count < trials else 1.0
    return low, high


def failing_not_excluded(seeds: int) -> float:
    """The largest share of seeds that may fail where so many all learned: one-sided, 95 %."""
    return 1.0 - float((1 - LEVEL) ** (1 / seeds))


def wilson(share: float, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share, from 0 to 1, of so many trials.

    Of a mean of shares, one a trial, it is no narrower than its own would be.
    """
    # Where it is needed: it takes most of a second to load, and what lists presets needs none.
    from scipy import stats

    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    spread = math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    half = z * spread / (1 + z**2 / trials)
    # Rounding must not put the share outside its own interval.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Summary:
    """Values minus baseline over the seeds that both have; the interval is not clipped.

    Both map a seed to a figure in the same unit, non-finite for a seed that diverged. So is the
    difference of a seed that diverged on either side.
    """
    both = sorted(values.keys() & baseline.keys())
    if not both:
        raise ValueError(
            f"no seed in common, {sorted(values)} and {sorted(baseline)}: run both on the same"
        )
    return summarise([values[seed] - baseline[seed] for seed in both])


Edge = Literal["lowest", "highest", "only"]


# The rule of the protocol, as reports and the board say it.
RATE_RULE = (
    "Validation alone chooses: the rate with the highest retention; of those that tie, the highest "
    "exact; of those that tie again, the lowest loss, then the lowest rate. A score ties with the "
    "highest if it is in the Wilson interval that so many validation examples give the highest. "
    "Means are over the lengths and seeds that all rates have. A rate with a diverged run never "
    "wins."
)


class ValidationScores(NamedTuple):
    """Retention and exact of a rate on so many validation examples, means over seeds."""

    retention: float
    exact: float
    examples: int


def mean_scores(scores: Sequence[ValidationScores]) -> ValidationScores:
    """Means of runs alike, over the examples of all."""
    retentions, exacts, examples = zip(*scores, strict=True)
    return ValidationScores(statistics.fmean(retentions), statistics.fmean(exacts), sum(examples))


class TriedRate(NamedTuple):
    """A learning rate of a grid, its validation losses in nats, and their mean (None: diverged)."""

    rate: float
    losses: tuple[float, ...]
    mean: float | None
    scores: ValidationScores | None = None


@dataclass(frozen=True, kw_only=True)
class RateChoice:
    """The chosen learning rate, and the whole grid in rising order.

    `rate` is None if every rate diverged. `edge` is the end of the grid at which the choice lies
    ("only": a grid of one rate). `extension` is the rate to run next, or None. A choice with an
    `edge` and no `extension` may not be the best.
    """

    rate: float | None
    grid: tuple[TriedRate, ...]
    edge: Edge | None
    extension: float | None


def choose_learning_rate(
    runs: Mapping[float, Sequence[tuple[float, ValidationScores | None]]], *, extended: bool
) -> RateChoice:
    """The best rate on the validation set, by `RATE_RULE`.

    Takes the validation loss (nats a token) and the scores of each run of a rate, over the same
    seeds and training lengths. Where a stable rate lacks scores, the loss alone decides. A rate
    with one non-finite loss has diverged and never wins. If all have diverged, the grid is extended
    downwards. `extended` says that the grid holds its extension already; there is no second one.
    """
    grid = tuple(_tried(rate, runs[rate]) for rate in sorted(runs))
    rates = [tried.rate for tried in grid]
    best = _best(grid)
    edge: Edge | None = None
    extension = None
    if len(rates) == 1:
        edge = "only"
    elif best is None or best == rates[0]:
        edge, extension = "lowest", rates[0] / (rates[1] / rates[0])
    elif best == rates[-1]:
        edge, extension = "highest", rates[-1] * (rates[-1] / rates[-2])
    # The rate enters a spec and its hash: 0.0003, not 0.00030000000000000003.
    extension = None if extended or extension is None else float(f"{extension:.6g}")
    return RateChoice(rate=best, grid=grid, edge=edge, extension=extension)


def _best(grid: Sequence[TriedRate]) -> float | None:
    stable = [tried for tried in grid if tried.mean is not None]
    scored = {tried.rate: tried.scores for tried in stable if tried.scores is not None}
    if len(scored) == len(stable):
        for figure in ("retention", "exact"):
            values = {tried.rate: getattr(scored[tried.rate], figure) for tried in stable}
            top = max(values, key=values.__getitem__, default=math.nan)
            if len(values) > 1:
                low, _ = wilson(values[top], scored[top].examples)
                stable = [tried for tried in stable if values[tried.rate] >= low]
    return min(((tried.mean or 0.0, tried.rate) for tried in stable), default=(0.0, None))[1]


def chance_corrected(score: float, chance: float) -> float:
    """(x - c) / (1 - c): 1 is perfect, 0 is chance, negative is worse; NaN stays NaN."""
    return (score - chance) / (1 - chance)


def _tried(rate: float, runs: Sequence[tuple[float, ValidationScores | None]]) -> TriedRate:
    losses, scored = [loss for loss, _ in runs], [own for _, own in runs if own]
    scores = mean_scores(scored) if len(scored) == len(runs) else None
    finite = _finite(losses)
    mean = statistics.mean(finite) if len(finite) == len(losses) else None
    return TriedRate(float(rate), tuple(float(loss) for loss in losses), mean, scores)


@cache
def _quantile(degrees: int) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + LEVEL) / 2, degrees))


def _finite(values: Sequence[float]) -> list[float]:
    if len(values) == 0:
        raise ValueError("no values (0 given); give one for each run, NaN if it diverged")
    return [float(value) for value in values if math.isfinite(value)]


def p_text(p: float) -> str:
    """A p as tables show it."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def holm(tested: Mapping[_Key, float]) -> dict[_Key, float]:
    """Each p, by name, corrected for all of them (Holm 1979)."""
    least, result = 0.0, {}
    for place, (name, p) in enumerate(sorted(tested.items(), key=lambda one: one[1])):
        # None may be less probable than one with a smaller p.
        least = max(least, min(1.0, (len(tested) - place) * p))
        result[name] = least
    return result

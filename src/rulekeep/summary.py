"""Figures over seeds: mean and a 95 % interval (Student t), never a mean alone."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean over seeds and its 95 % interval; no interval (None) from a single seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: int


def score_interval(values: Sequence[float]) -> Interval:
    """Mean of scores from 0 to 1, the interval clipped to that range."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, None, None, n)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * deviation / math.sqrt(n)
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half), n)

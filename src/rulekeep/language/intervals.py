"""Means over prompts or families, with their intervals: a bootstrap that draws prompts anew.

    drawn = resampled(len(prompts))                 # a row a draw; the first is the sample itself
    interval(shares, drawn)                         # an Interval: mean, low, high

`shares` has a row for each draw too: where a fit is made anew in each, a prompt's share changes.
Where all prompts have 0, or 1, the interval is exact (Clopper and Pearson). No torch.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Float

from rulekeep.analysis.summary import LEVEL, Interval
from rulekeep.seeds import named_seed

DRAWS = 400


@cache
def resampled(prompts: int) -> Float[np.ndarray, "draws prompts"]:
    """How often each prompt is drawn, in each draw of the bootstrap; the first has each once."""
    stream = np.random.default_rng(named_seed("bootstrap", prompts))
    drawn = stream.multinomial(prompts, np.full(prompts, 1 / prompts), DRAWS)
    return np.concatenate([np.ones((1, prompts)), drawn])


def interval(
    shares: Float[np.ndarray, "draws prompts"],
    drawn: Float[np.ndarray, "draws prompts"],
    least: float = 0.0,
) -> Interval:
    """The mean over prompts of what is from `least` to 1, with a percentile interval.

    Where all prompts are 0, or at an end, the bootstrap would draw nothing else: the interval is of
    the most prompts that can be otherwise, as far as can be (Clopper-Pearson of shares). Other
    values that all prompts have are ties, which are no chance.
    """
    own = shares[0][~np.isnan(shares[0])]
    plain = _at_an_end(own, least) or percentiles(shares, drawn)
    return Interval(plain.mean, max(least, plain.low), min(1.0, plain.high))


def of_shares(shares: Float[np.ndarray, " n"]) -> Interval:
    """The mean of one share a prompt, or a history, with its interval."""
    drawn = resampled(len(shares))
    return interval(np.repeat(shares[None], len(drawn), 0), drawn)


def _at_an_end(own: Float[np.ndarray, " n"], least: float = 0.0) -> Interval | None:
    mean = float(own[0])
    if not (own == mean).all() or mean not in (least, 0.0, 1.0):
        return None
    others = 1 - ((1 - LEVEL) / 2) ** (1 / len(own))
    return Interval(mean, mean - others * (mean - least), mean + others * (1 - mean))


def percentiles(
    shares: Float[np.ndarray, "draws prompts"], drawn: Float[np.ndarray, "draws prompts"]
) -> Interval:
    """The mean over prompts, with the percentiles of the draws; the first draw is the sample.

    A fit of fewer different prompts is worse, so draws lie lower: they are moved to the mean.
    """
    means = means_of(shares, drawn)
    moved = means[1:] - np.nanmean(means[1:]) + means[0]
    low, high = np.nanquantile(moved, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(means[0]), float(low), float(high))


def means_of(
    shares: Float[np.ndarray, "draws prompts"], drawn: Float[np.ndarray, "draws prompts"]
) -> Float[np.ndarray, " draws"]:
    """The mean over the prompts of each draw; NaN of a draw that holds none that is known."""
    known = ~np.isnan(shares[0])
    weights = drawn[:, known]
    with np.errstate(invalid="ignore"):
        return np.asarray((weights * shares[:, known]).sum(1) / weights.sum(1))


def over_families(shares: Sequence[float]) -> Interval:
    """The mean over families, with a t interval of which families are the unit."""
    from scipy.special import stdtrit

    own = np.asarray(shares)
    if len(own) == 1:
        return Interval(float(own[0]), 0.0, 1.0)
    mean = float(own.mean())
    reach = stdtrit(len(own) - 1, (1 + LEVEL) / 2) * own.std(ddof=1) / len(own) ** 0.5
    plain = Interval(mean, max(0.0, mean - reach), min(1.0, mean + reach))
    return _at_an_end(own) or plain

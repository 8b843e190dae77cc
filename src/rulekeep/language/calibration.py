"""Which rules are followed: each option's score against what it scores by itself.

    judged = Judged(choices, keys_of(choices))
    right, gain = judged.right(judged.drawn)        # of each draw and rule, and of each rule
    judged.share()                                  # an Interval: the share of rules followed

A rule counts as followed where its option gains most among its family's. An option's gain is its
log-likelihood less what it scores in the other prompts of the cell that do not state it. What it
scores there is an additive fit, s[prompt, option] = a[prompt] + b[option], by least squares: some
prompts make all options likely. The prompt that is scored is left out of the fit.

All rules of families with as many options are fitted side by side, and all cells that ask alike
share what no score is in. A written reply follows its rule
where it shows the right option alone. No torch.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from rulekeep.analysis.summary import Interval
from rulekeep.language.intervals import interval, resampled
from rulekeep.records.record import Choice

# Options so near are told apart by rounding alone: a text without rules scores all alike.
TIE_NATS = 1e-3
# Other prompts that must score an option without stating it, or a rule counts in no figure.
LEAST_SAMPLES = 2
# Of a fit: with less, its options are told apart by rounding.
LEAST_PIVOT = 1e-6
# Sums of so many stay in the processor's cache.
DRAWS_AT_ONCE = 32
WRITTEN = "written"


def name_of(row: Choice) -> tuple[int, str, int | None]:
    """A rule's prompt, family and option: the same rule in another cell has the same name."""
    return row.prompt, row.family, row.option


def keys_of(choices: Iterable[Choice]) -> list[tuple[str, int]]:
    """The prompts of some rows, by split and number."""
    # Validation first: resampling draws prompts by their places.
    every = {(row.split, row.prompt) for row in choices}
    return sorted(every, key=lambda prompt: (prompt[0] == "test", prompt[1]))


class Asked(NamedTuple):
    """A row without its scores: its prompt, its rule's number (-1: not scored), and its family.

    `option` is the one that is stated, of so many; None of a family that is not.
    """

    prompt: int
    rule: int
    family: str
    option: int | None
    options: int


class Judged:
    """The rules of one compression and one way of asking, and what all their options score.

    `keys` are the prompts that are resampled, by split and number. `rules` are those that are
    scored, in the order of their prompts and families.
    """

    def __init__(
        self,
        choices: Iterable[Choice],
        keys: Sequence[tuple[str, int]],
        split: str = "test",
        among: Collection[tuple[int, str, int | None]] | None = None,
    ) -> None:
        """Takes every row of one compression and one way of asking.

        All of them calibrate. Scored are the rules of a split, of these names if given (`name_of`).
        """
        at = {key: place for place, key in enumerate(keys)}
        rows = sorted(choices, key=lambda row: (row.split == "test", row.prompt, row.family))
        self.rules, self.asked = list[Choice](), list[Asked]()
        for row in rows:
            is_rule = row.split == split and row.option is not None
            is_rule = is_rule and (among is None or name_of(row) in among)
            rule = len(self.rules) if is_rule else -1
            prompt = at[row.split, row.prompt]
            self.asked.append(Asked(prompt, rule, row.family, row.option, len(row.scores)))
            self.rules += [row] if is_rule else []
        self.scores = [row.scores for row in rows]
        self.is_written = any(row.judged == WRITTEN for row in rows)
        place = np.array([row.prompt for row in self.asked if row.rule >= 0], dtype=int)
        self.starts = np.flatnonzero(np.diff(place, prepend=-1))
        self.prompts, self.of = place[self.starts], len(keys)

    def right(
        self, weights: Float[np.ndarray, "draws prompts"]
    ) -> tuple[Float[np.ndarray, "draws rules"], Float[np.ndarray, " rules"]]:
        """Whether each rule is followed, ties shared, and its gain; NaN where that is not known.

        The first row of weights is the sample, and the gain is that of it.
        """
        return followed([self], weights)[0]

    @property
    def chance(self) -> float:
        """What a guess among the options of each rule gets right."""
        return float(np.mean([1 / len(rule.scores) for rule in self.rules]))

    @property
    def drawn(self) -> Float[np.ndarray, "draws prompts"]:
        """How often each prompt is drawn in each draw of the bootstrap, the sample first."""
        return resampled(self.of)

    def share(self, right: Float[np.ndarray, "draws rules"] | None = None) -> Interval:
        """The share of rules followed, over prompts; NaN where that is known of no rule."""
        if right is None:
            right, _ = self.right(self.drawn)
        if np.isnan(right[0]).all():
            return Interval(np.nan, np.nan, np.nan)
        return interval(self.by_prompt(right), self.drawn.take(self.prompts, 1))

    def by_prompt(
        self, values: Float[np.ndarray, "draws rules"], *, whole: bool = False
    ) -> Float[np.ndarray, "draws prompts"]:
        """The mean over the rules of each prompt, or whether all are right; NaN of none."""
        known = ~np.isnan(values[0])
        counts = np.add.reduceat(known, self.starts, dtype=float)
        counts[counts == 0] = np.nan
        if whole:
            every = np.multiply.reduceat(np.where(known, values, 1.0), self.starts, axis=1)
            return np.where(np.isnan(counts), np.nan, every)
        return np.asarray(
            np.add.reduceat(np.where(known, values, 0.0), self.starts, axis=1) / counts
        )


def followed(
    judged: Sequence[Judged], weights: Float[np.ndarray, "draws prompts"]
) -> list[tuple[Float[np.ndarray, "draws rules"], Float[np.ndarray, " rules"]]]:
    """What `Judged.right` says, of each: those that ask alike share their fits."""
    values, alike = [], defaultdict[object, list[int]](list)
    for number, one in enumerate(judged):
        right = np.full((len(weights), len(one.rules)), np.nan)
        values.append((right, np.full(len(one.rules), np.nan)))
        if one.is_written:
            right[:] = [shows_right(rule) for rule in one.rules]
        else:
            alike[tuple(one.asked)].append(number)
    for numbers in alike.values():
        asked = judged[numbers[0]].asked
        for rows in _by_options(asked):
            fit = Fit.of([asked[row] for row in rows], weights.shape[1])
            every = [fit.scored([judged[number].scores[row] for row in rows]) for number in numbers]
            for start in range(0, len(weights), DRAWS_AT_ONCE):
                part = slice(start, start + DRAWS_AT_ONCE)
                found = fit.gains(weights[part], every)
                for number, (right, gain) in zip(numbers, found, strict=True):
                    values[number][0][part, fit.rules] = right
                    if start == 0:
                        values[number][1][fit.rules] = gain
    # A draw that tells nothing of a rule leaves it as it is.
    for right, _ in values:
        np.copyto(right, right[:1], where=np.isnan(right) | np.isnan(right[:1]))
    return values


def _by_options(asked: Sequence[Asked]) -> Iterator[list[int]]:
    """Rows of families with as many options, by family: of each, as most of its rows have."""
    counts = defaultdict[str, Counter[int]](Counter)
    for row in asked:
        counts[row.family][row.options] += 1
    sizes = {family: max(of, key=lambda size: of[size]) for family, of in counts.items()}
    for options in sorted({*sizes.values()}):
        rows = [at for at, row in enumerate(asked) if row.options == sizes[row.family] == options]
        yield sorted(rows, key=lambda at: asked[at].family)


class Scored(NamedTuple):
    """Scores of each option in each own rule, and what rows add to the right side of the fit."""

    own: Float[np.ndarray, "own options"]
    parts: Float[np.ndarray, "parts own"]
    tables: Float[np.ndarray, "parts prompts families"]


@dataclass(frozen=True)
class Fit:
    """The fits of families with as many options, whatever these score.

    `tables` has what each prompt adds to each family's sums: how many of each option are scored
    and not stated, and the normal matrix without the first option.
    """

    # Of each rule that is scored, by family: its number, its prompt, and the option that is right.
    rules: Int[np.ndarray, " own"]
    prompts: Int[np.ndarray, " own"]
    stated: Int[np.ndarray, " own"]
    # How many of them each family has.
    each: Int[np.ndarray, " families"]
    parts: Float[np.ndarray, "parts own"]
    tables: Float[np.ndarray, "parts prompts families"]
    # Of every row: whether it is such a rule, where its sums go, and which options it tells of.
    own: Bool[np.ndarray, " rows"]
    places: tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]
    counts: Float[np.ndarray, "rows options"]

    @classmethod
    def of(cls, asked: Sequence[Asked], prompts: int) -> "Fit":
        """Of rows with as many options, and the number of prompts."""
        options = asked[0].options
        _, families = np.unique([row.family for row in asked], return_inverse=True)
        stated = np.array([-1 if row.option is None else row.option for row in asked])
        # The score of an option that is stated tells nothing of what it scores otherwise.
        counts = (np.arange(options) != stated[:, None]).astype(float)
        each = counts.sum(1, keepdims=True)
        normal = counts[:, :, None] * (np.eye(options) - counts[:, None, :] / each[:, :, None])
        # Only differences between options matter: the first one's is 0.
        parts = np.concatenate([counts.T, normal[:, 1:, 1:].reshape(len(asked), -1).T])
        places = np.array([row.prompt for row in asked]), families
        rules = np.array([row.rule for row in asked])
        own = rules >= 0
        return cls(
            rules[own], places[0][own], stated[own], np.bincount(families, own).astype(int),
            parts[:, own], _summed(parts, places, prompts), own, places, counts,
        )  # fmt: skip

    def scored(self, rows: Sequence[Sequence[float]]) -> Scored:
        """What each row scores."""
        scores, counts = np.array(rows, dtype=float), self.counts
        each = counts.sum(1, keepdims=True)
        wanted = counts * (scores - (counts * scores).sum(1, keepdims=True) / each)
        parts = wanted[:, 1:].T
        tables = _summed(parts, self.places, self.tables.shape[1])
        return Scored(scores[self.own], parts[:, self.own], tables)

    def gains(
        self, weights: Float[np.ndarray, "draws prompts"], every: Sequence[Scored]
    ) -> Iterator[tuple[Float[np.ndarray, "draws own"], Float[np.ndarray, " own"]]]:
        """Whether each own rule's option gains most, and by how much at first.

        Both are from a fit without that rule.
        """
        options, less = self.counts.shape[1], weights.take(self.prompts, 1)

        def without(tables: np.ndarray, parts: np.ndarray) -> list[np.ndarray]:
            """Sums over the prompts of each draw, less the rule's own."""
            return [
                np.repeat(weights @ table, self.each, 1) - less * part
                for table, part in zip(tables, parts, strict=True)
            ]

        others = without(self.tables, self.parts)
        samples, rest = np.min(others[:options], axis=0), iter(others[options:])
        normal = [[next(rest) for _ in range(1, options)] for _ in range(1, options)]
        pivot = eliminated(normal)
        known = (samples > LEAST_SAMPLES - 0.5) & (pivot > LEAST_PIVOT)
        is_stated = [self.stated == at for at in range(options)]
        for one in every:
            fitted = solved(normal, without(one.tables, one.parts))
            gains = [np.broadcast_to(one.own[:, 0], less.shape)]
            gains += [score - fit for score, fit in zip(one.own.T[1:], fitted, strict=True)]
            mine, best = gains[0], gains[0]
            for gain, own in zip(gains[1:], is_stated[1:], strict=True):
                mine, best = np.where(own, gain, mine), np.maximum(best, gain)
            best = best - TIE_NATS
            ties = sum((gain >= best).view(np.int8) for gain in gains)
            rivals = (sum(gain[0] for gain in gains) - mine[0]) / (options - 1)
            right = (mine >= best) / ties
            yield np.where(known, right, np.nan), np.where(known[0], mine[0] - rivals, np.nan)


def _summed(
    parts: Float[np.ndarray, "parts rows"],
    places: tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]],
    prompts: int,
) -> Float[np.ndarray, "parts prompts families"]:
    """What rows add, by prompt and family."""
    tables = np.zeros((len(parts), prompts, places[1].max() + 1))
    for table, part in zip(tables, parts, strict=True):
        np.add.at(table, places, part)
    return tables


def eliminated(normal: list[list[np.ndarray]]) -> np.ndarray:
    """Eliminates many small positive systems side by side, in place: ratios stay below.

    `normal` has a row of arrays for each unknown. Returns the least pivot of each system: 0 where
    it has no single solution.
    """
    least = np.full(normal[0][0].shape, np.inf)
    for at, row in enumerate(normal):
        least = np.minimum(least, row[at])
        row[at] = np.where(row[at] > LEAST_PIVOT, row[at], 1.0)
        for below in normal[at + 1 :]:
            below[at] /= row[at]
            for column in range(at + 1, len(normal)):
                below[column] -= below[at] * row[column]
    return least


def solved(normal: Sequence[Sequence[np.ndarray]], wanted: list[np.ndarray]) -> list[np.ndarray]:
    """The unknowns of systems that `eliminated` has; `wanted` has an array for each."""
    for at in range(len(normal)):
        for below in range(at + 1, len(normal)):
            wanted[below] -= normal[below][at] * wanted[at]
    for at in reversed(range(len(normal))):
        for above in range(at + 1, len(normal)):
            wanted[at] -= normal[at][above] * wanted[above]
        wanted[at] /= normal[at][at]
    return wanted


def shows_right(rule: Choice) -> bool:
    """Whether a written reply shows the right option, and no other."""
    assert rule.option is not None
    return sum(rule.scores) == rule.scores[rule.option] == 1

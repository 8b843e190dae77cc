"""Which rules are followed: each option's score against what it scores by itself.

    judged = Judged(choices, keys_of(choices))
    right, gain = judged.right(resampled(len(keys)))    # of each draw and rule

A rule counts as followed where its option gains most among its family's. An option's gain is its
log-likelihood less what it scores in the other prompts of the cell that do not state it. What it
scores there is an additive fit, s[prompt, option] = a[prompt] + b[option], by least squares: some
prompts make all options likely. The prompt that is scored is left out of the fit.

All rules of families with as many options are fitted side by side. A written reply follows its rule
where it shows the right option alone. No torch.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

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


class Judged:
    """The rules of one compression and one way of asking: which are followed, under any weights.

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
        is_rule = np.array(
            [
                row.split == split
                and row.option is not None
                and (among is None or name_of(row) in among)
                for row in rows
            ],
            dtype=bool,
        )
        places = np.array([at[row.split, row.prompt] for row in rows], dtype=int)
        self.rules = [row for row, scored in zip(rows, is_rule, strict=True) if scored]
        place = places[is_rule]
        self.starts = np.flatnonzero(np.diff(place, prepend=-1))
        self.prompts = place[self.starts]
        self.is_written = any(row.judged == WRITTEN for row in rows)
        rules = np.where(is_rule, np.cumsum(is_rule) - 1, -1)
        sizes = _options([] if self.is_written else rows)
        self._fits = [
            Fit.of([rows[i] for i in own], places[own], rules[own], len(keys))
            for own in (
                [i for i, row in enumerate(rows) if len(row.scores) == sizes.get(row.family) == k]
                for k in sorted({*sizes.values()})
            )
        ]

    def right(
        self, weights: Float[np.ndarray, "draws prompts"]
    ) -> tuple[Float[np.ndarray, "draws rules"], Float[np.ndarray, "draws rules"]]:
        """Whether each rule is followed, ties shared, and its gain; NaN where that is not known.

        The first row of weights is the sample.
        """
        right = np.full((len(weights), len(self.rules)), np.nan)
        gain = right.copy()
        if self.is_written:
            right[:] = [shows_right(rule) for rule in self.rules]
            return right, gain
        for start in range(0, len(weights), DRAWS_AT_ONCE):
            part = slice(start, start + DRAWS_AT_ONCE)
            for fit in self._fits:
                right[part, fit.rules], gain[part, fit.rules] = fit.gains(weights[part])
        # A draw that tells nothing of a rule leaves it as it is.
        for drawn in (right, gain):
            np.copyto(drawn, drawn[:1], where=np.isnan(drawn) | np.isnan(drawn[:1]))
        return right, gain

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


def _options(rows: Iterable[Choice]) -> dict[str, int]:
    """How many options each family has: as most of its rows."""
    counts = defaultdict[str, Counter[int]](Counter)
    for row in rows:
        counts[row.family][len(row.scores)] += 1
    return {family: max(sizes, key=lambda size: sizes[size]) for family, sizes in counts.items()}


@dataclass(frozen=True)
class Fit:
    """The scores of families with as many options, and each row's part of the normal equations.

    `tables` has what each prompt adds to each family's sums: how many of each option are scored
    and not stated, the normal matrix, and its right side, each without the first option.
    """

    # Of each rule that is scored: its number, its prompt, its family, and the option that is right.
    rules: Int[np.ndarray, " own"]
    prompts: Int[np.ndarray, " own"]
    families: Int[np.ndarray, " own"]
    stated: Int[np.ndarray, " own"]
    scores: Float[np.ndarray, "own options"]
    parts: Float[np.ndarray, "parts own"]
    tables: Float[np.ndarray, "parts prompts families"]

    @classmethod
    def of(
        cls,
        rows: Sequence[Choice],
        prompts: Int[np.ndarray, " rows"],
        rules: Int[np.ndarray, " rows"],
        keys: int,
    ) -> "Fit":
        """Of rows with their prompts, and the number of each rule that is scored; of others -1."""
        options = len(rows[0].scores)
        names, families = np.unique([row.family for row in rows], return_inverse=True)
        stated = np.array([-1 if row.option is None else row.option for row in rows])
        scores = np.array([row.scores for row in rows], dtype=float)
        # The score of an option that is stated tells nothing of what it scores otherwise.
        counts = (np.arange(options) != stated[:, None]).astype(float)
        each = counts.sum(1, keepdims=True)
        normal = counts[:, :, None] * (np.eye(options) - counts[:, None, :] / each[:, :, None])
        wanted = counts * (scores - (counts * scores).sum(1, keepdims=True) / each)
        # Only differences between options matter: the first one's is 0.
        parts = np.concatenate(
            [counts.T, normal[:, 1:, 1:].reshape(len(rows), -1).T, wanted[:, 1:].T]
        )
        tables = np.zeros((len(parts), keys, len(names)))
        for row in range(len(rows)):
            tables[:, prompts[row], families[row]] += parts[:, row]
        own = rules >= 0
        return cls(
            rules[own], prompts[own], families[own], stated[own], scores[own], parts[:, own], tables
        )

    def gains(
        self, weights: Float[np.ndarray, "draws prompts"]
    ) -> tuple[Float[np.ndarray, "draws own"], Float[np.ndarray, "draws own"]]:
        """Whether each own rule's option gains most, and by how much, from a fit without it."""
        options, less = self.scores.shape[1], weights[:, self.prompts]
        others = [
            (weights @ table)[:, self.families] - less * part
            for table, part in zip(self.tables, self.parts, strict=True)
        ]
        counts, unknowns = others[:options], options - 1
        rest = iter(others[options:])
        normal = [[next(rest) for _ in range(unknowns)] for _ in range(unknowns)]
        fitted, pivot = solved(normal, [*rest])
        known = (np.min(counts, axis=0) > LEAST_SAMPLES - 0.5) & (pivot > LEAST_PIVOT)
        first = np.zeros_like(pivot)
        gains = np.stack([self.scores[:, at] - fit for at, fit in enumerate([first, *fitted])])
        best = gains >= gains.max(0) - TIE_NATS
        own = self.stated[None, None]
        right = np.take_along_axis(best, own, 0)[0] / best.sum(0)
        mine = np.take_along_axis(gains, own, 0)[0]
        rivals = (gains.sum(0) - mine) / (len(gains) - 1)
        return np.where(known, right, np.nan), np.where(known, mine - rivals, np.nan)


def solved(
    normal: list[list[np.ndarray]], wanted: list[np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Solves many small positive systems side by side, by elimination, in place.

    `normal` has a row of arrays for each unknown, `wanted` an array. Returns the unknowns, and the
    least pivot of each system: 0 where it has no single solution.
    """
    least = np.full(wanted[0].shape, np.inf)
    for at, row in enumerate(normal):
        least = np.minimum(least, row[at])
        row[at] = np.where(row[at] > LEAST_PIVOT, row[at], 1.0)
        for below in range(at + 1, len(normal)):
            ratio = normal[below][at] / row[at]
            for column in range(at + 1, len(normal)):
                normal[below][column] = normal[below][column] - ratio * row[column]
            wanted[below] = wanted[below] - ratio * wanted[at]
    for at in reversed(range(len(normal))):
        for above in range(at + 1, len(normal)):
            wanted[at] = wanted[at] - normal[at][above] * wanted[above]
        wanted[at] = wanted[at] / normal[at][at]
    return wanted, least


def shows_right(rule: Choice) -> bool:
    """Whether a written reply shows the right option, and no other."""
    assert rule.option is not None
    return sum(rule.scores) == rule.scores[rule.option] == 1

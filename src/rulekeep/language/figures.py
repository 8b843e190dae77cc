"""What a cell of rules in words says: which rules a model follows under each compression.

    kept = cell(record)
    kept["snapkv@0.25"].retention           # an Estimate: mean, low, high

A rule counts as followed where its option gains most among its family's. An option's gain is its
log-likelihood less what it scores in the other prompts of the cell that do not state it. What it
scores there is an additive fit, s[prompt, option] = a[prompt] + b[option], by least squares: some
prompts make all options likely. The prompt that is scored is left out of the fit.

With every option mentioned in the text retention is `binding`: a word that merely stands in the
cache is not enough. A written reply follows its rule where it shows the right option alone.

Intervals are of a bootstrap over prompts in which the fits are made anew, each without any copy of
the prompt that is scored; where all prompts have 0, or 1, exact ones. No torch.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from rulekeep.analysis.summary import LEVEL, exact_share
from rulekeep.records.record import Choice, Record
from rulekeep.seeds import named_seed

DRAWS = 400
# Options so near are told apart by rounding alone: a text without rules scores all alike.
TIE_NATS = 1e-3
# Other prompts that must score an option without stating it, or a rule counts in no figure.
LEAST_SAMPLES = 2
# Of a fit: with less, its options are told apart by rounding.
LEAST_PIVOT = 1e-6
WRITTEN = "written"
_Key = TypeVar("_Key", str, int)


class Estimate(NamedTuple):
    """A mean with the ends of its interval."""

    mean: float
    low: float
    high: float

    def text(self) -> str:
        """As tables show it."""
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Followed:
    """The figures of one compression in one cell.

    `retention` has prompts as its unit, and `over_families` families: rules in general. `all_rules`
    is the share of prompts whose every rule is followed, `gain` the mean of the right option's gain
    less its rivals', in nats; None of written replies. `difference` is retention less that without
    compression, paired by prompt; None of the cache as it was read. `said` is the share of rules
    given back where they are asked for, `stored` the share whose option is left in shortened text;
    None where that was not measured. `rules_of` counts the rules of each family.
    """

    retention: Estimate
    over_families: Estimate
    all_rules: Estimate
    gain: Estimate | None
    difference: Estimate | None
    said: Estimate | None
    stored: Estimate | None
    by_family: Mapping[str, float]
    rules_of: Mapping[str, int]
    by_rank: Mapping[int, float]
    chance: float
    prompts: int


# Mentions of every rival and not of the rule's own option: no reader without rules is at chance.
RIVALS_ALONE = ", rivals alone"


def mentions_of(record: Record) -> str:
    """How options are mentioned in a cell, if they are; the form before version 3 by its name."""
    mentions, version = str(record.spec.rest.get("mentions", "?")), record.versions.get("protocol")
    former = mentions != "none" and isinstance(version, int) and version < 3
    return f"{mentions}{RIVALS_ALONE}" if former else mentions


class _Family(NamedTuple):
    """What a family scored in `n` prompts, and each prompt's part of the normal equations."""

    prompts: Int[np.ndarray, " n"]
    # Which of the scored rules each prompt states; -1 where it states none of this family.
    rules: Int[np.ndarray, " n"]
    stated: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, "n options"]
    counts: Float[np.ndarray, "n options"]
    normal: Float[np.ndarray, "n options options"]
    wanted: Float[np.ndarray, "n options"]


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

        def is_scored(row: Choice) -> bool:
            of_split = row.split == split and row.option is not None
            return of_split and (among is None or name_of(row) in among)

        at = {key: place for place, key in enumerate(keys)}
        rows = sorted(choices, key=lambda row: (row.split, row.prompt, row.family))
        self.rules = [row for row in rows if is_scored(row)]
        self._place = np.array([at[rule.split, rule.prompt] for rule in self.rules], dtype=int)
        self.starts = np.flatnonzero(np.diff(self._place, prepend=-1))
        self.prompts = self._place[self.starts]
        self.is_written = any(row.judged == WRITTEN for row in rows)
        by_family = defaultdict[str, list[tuple[Choice, int]]](list)
        rule = 0
        for row in rows:
            by_family[row.family].append((row, rule if is_scored(row) else -1))
            rule += is_scored(row)
        self._families = [] if self.is_written else [_family(of, at) for of in by_family.values()]

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
        for family in self._families:
            own = family.rules >= 0
            if own.any():
                right[:, family.rules[own]], gain[:, family.rules[own]] = _gains(
                    family, own, weights[:, family.prompts]
                )
        # A draw that tells nothing of a rule leaves it as it is.
        for drawn in (right, gain):
            drawn[1:] = np.where(np.isnan(drawn[1:]), drawn[0], drawn[1:])
        right[:, np.isnan(right[0])] = gain[:, np.isnan(gain[0])] = np.nan
        return right, gain

    def by_prompt(
        self, values: Float[np.ndarray, "draws rules"], *, whole: bool = False
    ) -> Float[np.ndarray, "draws prompts"]:
        """The mean over the rules of each prompt, or whether all are right; NaN of none."""
        known = ~np.isnan(values)
        counts = np.add.reduceat(known, self.starts, axis=1, dtype=float)
        counts[counts == 0] = np.nan
        if whole:
            every = np.multiply.reduceat(np.where(known, values, 1.0), self.starts, axis=1)
            return np.where(np.isnan(counts), np.nan, every)
        sums = np.add.reduceat(np.where(known, values, 0.0), self.starts, axis=1)
        return np.asarray(sums / counts)


def _family(of: Sequence[tuple[Choice, int]], at: Mapping[tuple[str, int], int]) -> _Family:
    sizes = Counter(len(row.scores) for row, _ in of)
    options = max(sizes, key=lambda size: sizes[size])
    whole = [(row, rule) for row, rule in of if len(row.scores) == options]
    stated = np.array([-1 if row.option is None else row.option for row, _ in whole])
    scores = np.array([row.scores for row, _ in whole], dtype=float)
    # The score of an option that is stated tells nothing of what it scores otherwise.
    counts = (np.arange(options) != stated[:, None]).astype(float)
    each = counts.sum(1, keepdims=True)
    normal = counts[:, :, None] * (np.eye(options) - counts[:, None, :] / each[:, :, None])
    wanted = counts * (scores - (counts * scores).sum(1, keepdims=True) / each)
    return _Family(
        np.array([at[row.split, row.prompt] for row, _ in whole]),
        np.array([rule for _, rule in whole]), stated, scores, counts, normal, wanted,
    )  # fmt: skip


def _gains(
    family: _Family, own: Bool[np.ndarray, " n"], weights: Float[np.ndarray, "draws n"]
) -> tuple[Float[np.ndarray, "draws own"], Float[np.ndarray, "draws own"]]:
    """Whether each own prompt's option gains most, and by how much, from a fit without it."""
    options = range(family.scores.shape[1])
    less, stated = weights[:, own], family.stated[own]

    def others(part: Float[np.ndarray, " n"]) -> Float[np.ndarray, "draws own"]:
        return np.asarray((weights @ part)[:, None] - less * part[own])

    fewest = np.min([others(family.counts[:, at]) for at in options], axis=0)
    # Only differences between options matter: the first one's is 0.
    fitted, pivot = solved(
        [[others(family.normal[:, row, at]) for at in options[1:]] for row in options[1:]],
        [others(family.wanted[:, at]) for at in options[1:]],
    )
    known = (fewest > LEAST_SAMPLES - 0.5) & (pivot > LEAST_PIVOT)
    first = np.zeros_like(fewest)
    gains = np.stack([family.scores[own, at] - fit for at, fit in enumerate([first, *fitted])])
    best = gains >= gains.max(0) - TIE_NATS
    places = np.arange(len(stated))
    right = best[stated, :, places].T / best.sum(0)
    mine = gains[stated, :, places].T
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


def name_of(row: Choice) -> tuple[int, str, int | None]:
    """A rule's prompt, family and option: the same rule in another cell has the same name."""
    return row.prompt, row.family, row.option


def keys_of(choices: Iterable[Choice]) -> list[tuple[str, int]]:
    """The prompts of some rows, by split and number."""
    return sorted({(row.split, row.prompt) for row in choices})


def resampled(prompts: int) -> Float[np.ndarray, "draws prompts"]:
    """How often each prompt is drawn, in each draw of the bootstrap; the first has each once."""
    stream = np.random.default_rng(named_seed("bootstrap", prompts))
    drawn = stream.multinomial(prompts, np.full(prompts, 1 / prompts), DRAWS)
    return np.concatenate([np.ones((1, prompts)), drawn])


def cell(record: Record) -> dict[str, Followed]:
    """Each compression of a record, in the order that was asked for."""
    by_name = defaultdict[tuple[str, str], list[Choice]](list)
    for choice in record.choices:
        by_name[choice.compress, choice.how].append(choice)
    keys = keys_of(record.choices)
    weights = resampled(len(keys))
    judged = {name: Judged(choices, keys) for name, choices in by_name.items()}
    right = {name: found.right(weights) for name, found in judged.items() if found.rules}
    counted = [name for name, (known, _) in right.items() if not np.isnan(known[0]).all()]
    return {
        name: _followed(judged, right, name, weights) for name, how in counted if how == "obeyed"
    }


def _followed(
    judged: Mapping[tuple[str, str], Judged],
    right: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    name: str,
    weights: np.ndarray,
) -> Followed:
    own, (values, gains) = judged[name, "obeyed"], right[name, "obeyed"]
    shares, drawn = own.by_prompt(values), weights[:, own.prompts]
    difference = gain = said = None
    if name != "none" and ("none", "obeyed") in right:
        whole = judged["none", "obeyed"].by_prompt(right["none", "obeyed"][0])
        difference = interval(shares - whole, drawn, least=-1.0)
    if not own.is_written:
        gain = percentiles(own.by_prompt(gains), drawn)
    if (name, "said") in right:
        back = judged[name, "said"]
        said = interval(back.by_prompt(right[name, "said"][0]), weights[:, back.prompts])
    rules = [rule for rule, known in zip(own.rules, values[0], strict=True) if known == known]
    shown = values[0][~np.isnan(values[0])]
    by_family = shares_of(zip([rule.family for rule in rules], shown, strict=True))
    return Followed(
        retention=interval(shares, drawn),
        over_families=over_families([*by_family.values()]),
        all_rules=interval(own.by_prompt(values, whole=True), drawn),
        gain=gain,
        difference=difference,
        said=said,
        stored=_stored(own, drawn),
        by_family=by_family,
        rules_of=Counter(rule.family for rule in rules),
        by_rank=shares_of(zip([rule.rank for rule in rules], shown, strict=True)),
        chance=float(np.mean([1 / len(rule.scores) for rule in rules])),
        prompts=int((~np.isnan(shares[0])).sum()),
    )


def _stored(own: Judged, drawn: np.ndarray) -> Estimate | None:
    known = [np.nan if rule.stored is None else float(rule.stored) for rule in own.rules]
    if np.isnan(known).all():
        return None
    return interval(np.repeat(own.by_prompt(np.array([known])), len(drawn), 0), drawn)


def shares_of(pairs: Iterable[tuple[_Key, float]]) -> dict[_Key, float]:
    """The mean of each key's values, in the order of the keys."""
    values = defaultdict[_Key, list[float]](list)
    for key, right in pairs:
        values[key].append(right)
    return {key: float(np.mean(rights)) for key, rights in sorted(values.items())}


def interval(
    shares: Float[np.ndarray, "draws prompts"],
    drawn: Float[np.ndarray, "draws prompts"],
    least: float = 0.0,
) -> Estimate:
    """The mean over prompts of what is from `least` to 1, with a percentile interval.

    Where all prompts are 0, or at an end, the bootstrap would draw nothing else: the interval is of
    the most prompts that can be otherwise, as far as can be (Clopper-Pearson of shares). Other
    values that all prompts have are ties, which are no chance.
    """
    own = shares[0][~np.isnan(shares[0])]
    plain = _at_an_end(own, least) or percentiles(shares, drawn)
    return Estimate(plain.mean, max(least, plain.low), min(1.0, plain.high))


def _at_an_end(own: Float[np.ndarray, " n"], least: float = 0.0) -> Estimate | None:
    mean = float(own[0])
    if not (own == mean).all() or mean not in (least, 0.0, 1.0):
        return None
    others = 1 - ((1 - LEVEL) / 2) ** (1 / len(own))
    return Estimate(mean, mean - others * (mean - least), mean + others * (1 - mean))


def percentiles(
    shares: Float[np.ndarray, "draws prompts"], drawn: Float[np.ndarray, "draws prompts"]
) -> Estimate:
    """The mean over prompts, with the percentiles of the draws; the first draw is the sample.

    A fit of fewer different prompts is worse, so draws lie lower: they are moved to the mean.
    """
    means = means_of(shares, drawn)
    moved = means[1:] - np.nanmean(means[1:]) + means[0]
    low, high = np.nanquantile(moved, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(means[0]), float(low), float(high))


def means_of(
    shares: Float[np.ndarray, "draws prompts"], drawn: Float[np.ndarray, "draws prompts"]
) -> Float[np.ndarray, " draws"]:
    """The mean over the prompts of each draw; NaN of a draw that holds none that is known."""
    known = ~np.isnan(shares[0])
    weights = drawn[:, known]
    with np.errstate(invalid="ignore"):
        return np.asarray((weights * shares[:, known]).sum(1) / weights.sum(1))


def over_families(shares: Sequence[float]) -> Estimate:
    """The mean over families, with a t interval of which families are the unit."""
    from scipy.stats import t

    own = np.asarray(shares)
    if len(own) == 1:
        return Estimate(float(own[0]), 0.0, 1.0)
    mean = float(own.mean())
    reach = t.ppf((1 + LEVEL) / 2, len(own) - 1) * own.std(ddof=1) / len(own) ** 0.5
    plain = Estimate(mean, max(0.0, mean - reach), min(1.0, mean + reach))
    return _at_an_end(own) or plain


class Unread(NamedTuple):
    """What a reader of everything but the rules gets right, of one family or of all.

    The interval of a family is exact, and wide enough that all families of a cell hold at once.
    Chance must be in it; written replies may be below chance too.
    """

    family: str
    share: float
    low: float
    high: float
    chance: float
    is_at_chance: bool

    @property
    def text(self) -> str:
        """As a table shows it."""
        return f"{self.share:.3f} ({self.low:.3f} to {self.high:.3f})"


def without_rules(record: Record, kept: Mapping[str, Followed] | None = None) -> list[Unread]:
    """The certificate of a cell with the control `no_rules`: all families, then each one.

    `kept` is `cell(record)`, where that is known.
    """
    whole = (cell(record) if kept is None else kept).get("none")
    if whole is None:
        return []
    allowed = any(row.judged == WRITTEN for row in record.choices)
    own, chance = whole.retention, whole.chance
    fits = own.low <= chance and (allowed or chance <= own.high)
    unread = [Unread("all families", *own, chance, fits)]
    options = {row.family: len(row.scores) for row in record.choices}
    level = 1 - (1 - LEVEL) / len(whole.by_family)
    for family, share in whole.by_family.items():
        n, chance = whole.rules_of[family], 1 / options[family]
        low, high = exact_share(share * n, n, level)
        fits = low <= chance and (allowed or chance <= high)
        unread.append(Unread(family, share, low, high, chance, fits))
    return unread


class LeftOut(NamedTuple):
    """Rules of a cell that no figure counts, of how many, and their families."""

    rules: int
    of: int
    families: tuple[str, ...]


def left_out(record: Record) -> LeftOut:
    """What a cell leaves out: rules whose options too few other prompts score without stating."""
    first = record.choices[0].compress
    rows = [row for row in record.choices if row.how == "obeyed" and row.compress == first]
    own, right = _once(rows)
    lacking = [rule.family for rule, known in zip(own.rules, right, strict=True) if known != known]
    return LeftOut(len(lacking), len(own.rules), tuple(sorted({*lacking})))


def _once(rows: Sequence[Choice], split: str = "test") -> tuple[Judged, np.ndarray]:
    """Some rules, and whether each is followed."""
    keys = keys_of(rows)
    own = Judged(rows, keys, split)
    return own, own.right(np.ones((1, len(keys))))[0][0]


def admitted(record: Record) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Families that a model follows without chat between, on validation prompts; and the others.

    It must follow half of a family's rules, and half as many again as by chance.
    """
    rows = [row for row in record.choices if row.compress == "none" and row.how == "obeyed"]
    own, right = _once(rows, "dev")
    shares = shares_of(
        (rule.family, share) for rule, share in zip(own.rules, right, strict=True) if share == share
    )
    least = {row.family: max(0.5, 1.5 / len(row.scores)) for row in rows if row.split == "dev"}
    kept = tuple(name for name in sorted(least) if shares.get(name, 0.0) >= least[name])
    return kept, tuple(name for name in sorted(least) if name not in kept)

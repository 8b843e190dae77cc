"""What a cell of rules in words says: which rules a model follows under each compression.

    kept = cell(record)
    kept["snapkv@0.25"].retention           # an Interval: mean, low, high

With every option mentioned in the text retention is `binding`: a word that merely stands in the
cache is not enough. Intervals draw prompts anew, and fits are made anew in each draw, without any
copy of the prompt that is scored (`rulekeep.language.calibration`). No torch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from rulekeep.analysis.summary import LEVEL, Interval, exact_share
from rulekeep.language.calibration import Judged, followed, keys_of
from rulekeep.language.intervals import interval, over_families, resampled
from rulekeep.records.record import Choice, Record

_Key = TypeVar("_Key", str, int)


@dataclass(frozen=True)
class Followed:
    """The figures of one compression in one cell.

    `retention` has prompts as its unit, and `over_families` families: rules in general. `all_rules`
    is the share of prompts whose every rule is followed, `gain` the mean of the right option's gain
    less its rivals', in nats; None of written replies. `difference` is retention less that without
    compression, paired by prompt; None of the cache as it was read. `said_share` is the share of
    rules given back where they are asked for, `stored` the share whose option is left in shortened
    text; None where that was not measured. `rules_of` counts the rules of each family, and
    `chances` has what a guess among its options gets right.
    """

    retention: Interval
    over_families: Interval
    all_rules: Interval
    gain: float | None
    difference: Interval | None
    back: Judged | None
    said_share: float | None
    stored: Interval | None
    by_family: Mapping[str, float]
    rules_of: Mapping[str, int]
    chances: Mapping[str, float]
    by_rank: Mapping[int, float]
    chance: float
    prompts: int

    @property
    def said(self) -> Interval | None:
        """`said_share` with its interval, whose fits take as long as all other figures."""
        return self.back.share() if self.back else None


def cell(record: Record) -> dict[str, Followed]:
    """Each compression of a record, in the order that was asked for."""
    by_name = defaultdict[tuple[str, str], list[Choice]](list)
    for choice in record.choices:
        by_name[choice.compress, choice.how].append(choice)
    keys = keys_of(record.choices)
    obeyed, said = (
        {
            name: one
            for (name, of), choices in by_name.items()
            if of == how and (one := Judged(choices, keys)).rules
        }
        for how in ("obeyed", "said")
    )
    drawn = resampled(len(keys))
    right = dict(zip(obeyed, followed([*obeyed.values()], drawn), strict=True))
    back = dict(zip(said, followed([*said.values()], drawn[:1]), strict=True))
    whole = obeyed["none"].by_prompt(right["none"][0]) if "none" in obeyed else None
    every = {}
    for name, own in obeyed.items():
        values, gains = right[name]
        if np.isnan(values[0]).all():
            continue
        shares, weights = own.by_prompt(values), drawn.take(own.prompts, 1)
        rules = [rule for rule, known in zip(own.rules, values[0], strict=True) if known == known]
        shown = values[0][~np.isnan(values[0])]
        by_family = shares_of(zip([rule.family for rule in rules], shown, strict=True))
        told = name in said and not np.isnan(back[name][0]).all()
        every[name] = Followed(
            retention=interval(shares, weights),
            over_families=over_families([*by_family.values()]),
            all_rules=interval(own.by_prompt(values, whole=True), weights),
            gain=None if own.is_written else float(np.nanmean(own.by_prompt(gains[None]))),
            difference=None
            if name == "none" or whole is None
            else interval(shares - whole, weights, least=-1.0),
            back=said[name] if told else None,
            said_share=float(np.nanmean(said[name].by_prompt(back[name][0]))) if told else None,
            stored=_stored(own, weights),
            by_family=by_family,
            rules_of=Counter(rule.family for rule in rules),
            chances={rule.family: 1 / len(rule.scores) for rule in rules},
            by_rank=shares_of(zip([rule.rank for rule in rules], shown, strict=True)),
            chance=float(np.mean([1 / len(rule.scores) for rule in rules])),
            prompts=int((~np.isnan(shares[0])).sum()),
        )
    return every


def _stored(own: Judged, drawn: np.ndarray) -> Interval | None:
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


class Unread(NamedTuple):
    """What a reader of everything but the rules gets right, of one family or of all.

    The interval of a family is exact, and wide enough that all families of a cell hold at once.
    Chance must be in it; written replies may be below chance too.
    """

    family: str
    share: Interval
    chance: float
    is_at_chance: bool


def without_rules(whole: Followed) -> list[Unread]:
    """The certificate of a cell with the control `no_rules`: all families, then each one.

    It takes the figures of the cell without compression.
    """
    level = 1 - (1 - LEVEL) / len(whole.by_family)
    every = {"all families": (whole.retention, whole.chance)}
    for family, share in whole.by_family.items():
        n = whole.rules_of[family]
        found = Interval(share, *exact_share(share * n, n, level))
        every[family] = (found, whole.chances[family])
    # Without a rule a written reply names no option: it has no gain, and may be below chance.
    return [
        Unread(family, of, chance, of.low <= chance and (whole.gain is None or chance <= of.high))
        for family, (of, chance) in every.items()
    ]


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
    own, right = _once(rows, "validation")
    shares = shares_of(
        (rule.family, share) for rule, share in zip(own.rules, right, strict=True) if share == share
    )
    least = {
        row.family: max(0.5, 1.5 / len(row.scores)) for row in rows if row.split == "validation"
    }
    kept = tuple(name for name in sorted(least) if shares.get(name, 0.0) >= least[name])
    return kept, tuple(name for name in sorted(least) if name not in kept)

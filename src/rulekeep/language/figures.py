"""What a cell of rules in words says: which rules a model follows under each compression.

    found = cell(record)
    found["snapkv@0.25"].retention           # an Estimate: mean, low, high

A rule counts as followed where its option scores highest among its family's, each option's score
taken less what it scores on validation prompts of the same cell in which it is a rival. With every
rival mentioned in the text this is `binding`: a word that merely stands in the cache is not enough.
A written reply follows its rule where it shows the right option alone, with nothing taken off.
Intervals are of a bootstrap over prompts, since the rules of one prompt share a text; where all
prompts have 0, or 1, exact ones. No torch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from rulekeep.records.record import Choice, Record
from rulekeep.seeds import named_seed

DRAWS = 2000
LEVEL = 0.95
# Options so near are told apart by rounding alone: a text without rules scores all alike.
TIE_NATS = 1e-3
WRITTEN = "written"
_Key = TypeVar("_Key", str, int)


class Estimate(NamedTuple):
    """A mean over prompts with the ends of its interval."""

    mean: float
    low: float
    high: float

    def text(self) -> str:
        """As tables show it."""
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Followed:
    """The figures of one compression in one cell.

    `all_rules` is the share of prompts whose every rule is followed, `gain` the mean of the right
    option's calibrated score less its rivals', in nats; None of written replies. `difference` is
    retention less that without compression, paired by prompt; None of the cache as it was read.
    `said` is the share of rules given back where they are asked for, `stored` the share whose
    option is left in shortened text; None where that was not measured. `rules_of` counts the rules
    of each family.
    """

    retention: Estimate
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


class _Judged(NamedTuple):
    choice: Choice
    # 1 where the rule is followed; options that tie share it.
    right: float
    gain: float | None


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


def without_rules(record: Record) -> list[Unread]:
    """The certificate of a cell with the control `no_rules`: all families, then each one."""
    from scipy.stats import beta

    choices = [one for one in record.choices if one.compress == "none" and one.how == "obeyed"]
    judged = judge(choices)
    if not judged:
        return []
    allowed = all(one.choice.judged == WRITTEN for one in judged)
    whole = cell(record)["none"]
    own, chance = whole.retention, whole.chance
    fits = own.low <= chance and (allowed or chance <= own.high)
    found = [Unread("all families", *own, chance, fits)]
    by_family: dict[str, list[_Judged]] = defaultdict(list)
    for one in judged:
        by_family[one.choice.family].append(one)
    tail = (1 - LEVEL) / 2 / len(by_family)
    for family, rules in sorted(by_family.items()):
        n, right = len(rules), sum(one.right for one in rules)
        low = float(beta.ppf(tail, right, n - right + 1)) if right else 0.0
        high = float(beta.ppf(1 - tail, right + 1, n - right)) if right < n else 1.0
        level = 1 / len(rules[0].choice.scores)
        fits = low <= level and (allowed or level <= high)
        found.append(Unread(family, right / n, low, high, level, fits))
    return found


def cell(record: Record) -> dict[str, Followed]:
    """Each compression of a record, in the order that was asked for."""
    by_name: dict[tuple[str, str], list[Choice]] = defaultdict(list)
    for choice in record.choices:
        by_name[choice.compress, choice.how].append(choice)
    judged = {key: judge(choices) for key, choices in by_name.items()}
    full = judged.get(("none", "obeyed"))
    return {
        name: _followed(
            found, None if name == "none" else full, judged.get((name, "said"), []), record.id
        )
        for (name, how), found in judged.items()
        if found and how == "obeyed"
    }


def judge(choices: Iterable[Choice], split: str = "test") -> list[_Judged]:
    """Whether each rule of a split is followed; families that validation lacks are left out."""
    every = list(choices)
    baselines = baselines_of(one for one in every if one.split == "dev")
    found = []
    for one in every:
        if one.judged == WRITTEN:
            if one.split == split:
                found.append(_Judged(one, shows_right(one), None))
            continue
        baseline = baselines.get(one.family)
        if one.split != split or baseline is None or len(baseline) != len(one.scores):
            continue
        score = np.array(one.scores) - baseline
        best = score >= score.max() - TIE_NATS
        right = best[one.option] / best.sum()
        rivals = np.delete(score, one.option)
        found.append(_Judged(one, float(right), float(score[one.option] - rivals.mean())))
    return found


def shows_right(one: Choice) -> bool:
    """Whether a written reply shows the right option, and no other."""
    return sum(one.scores) == one.scores[one.option] == 1


def baselines_of(choices: Iterable[Choice]) -> dict[str, np.ndarray]:
    """What each option scores as a rival, mean over prompts; families without every option not."""
    sums: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    sizes = {}
    for one in choices:
        sizes[one.family] = len(one.scores)
        for option, score in enumerate(one.scores):
            if option != one.option:
                sums[one.family][option].append(score)
    return {
        family: np.array([np.mean(of[option]) for option in range(sizes[family])])
        for family, of in sums.items()
        if len(of) == sizes[family]
    }


class LeftOut(NamedTuple):
    """Test rules of a cell that no figure counts, of how many, and their families."""

    rules: int
    of: int
    families: tuple[str, ...]


def left_out(record: Record) -> LeftOut:
    """What a cell leaves out: families with an option that is a rival in no validation prompt."""
    rows = [
        one
        for one in record.choices
        if one.how == "obeyed" and one.compress == record.choices[0].compress
    ]
    asked = [one.family for one in rows if one.split == "test"]
    counted = {one.choice.family for one in judge(rows)}
    lacking = [family for family in asked if family not in counted]
    return LeftOut(len(lacking), len(asked), tuple(sorted({*lacking})))


def admitted(record: Record) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Families that a model follows without chat between, on validation prompts; and the others.

    It must follow half of a family's rules, and half as many again as by chance. Each prompt is
    held against what the others say of an option (leave one out).
    """
    rows = [
        one
        for one in record.choices
        if one.split == "dev" and one.compress == "none" and one.how == "obeyed"
    ]
    hits: dict[str, list[bool]] = defaultdict(list)
    for one in rows:
        if one.judged == WRITTEN:
            hits[one.family].append(shows_right(one))
            continue
        others = (other for other in rows if other.prompt != one.prompt)
        baseline = baselines_of(others).get(one.family)
        if baseline is not None:
            hits[one.family].append(int((np.array(one.scores) - baseline).argmax()) == one.option)
    names = sorted({one.family for one in rows})
    least = {one.family: max(0.5, 1.5 / len(one.scores)) for one in rows}
    kept = tuple(name for name in names if hits[name] and np.mean(hits[name]) >= least[name])
    return kept, tuple(name for name in names if name not in kept)


def _followed(
    found: Sequence[_Judged], full: Sequence[_Judged] | None, said: Sequence[_Judged], name: str
) -> Followed:
    by_prompt = _by_prompt(found)
    prompts = sorted(by_prompt)
    shares = [_share(by_prompt[p]) for p in prompts]
    difference = None
    if full is not None:
        whole = {p: _share(of) for p, of in _by_prompt(full).items()}
        paired = [share - whole[p] for p, share in zip(prompts, shares, strict=True) if p in whole]
        difference = estimate(paired, name, least=-1.0)
    return Followed(
        retention=estimate(shares, name),
        said=estimate([_share(of) for of in _by_prompt(said).values()], name) if said else None,
        stored=_stored(by_prompt.values(), name),
        all_rules=estimate(
            [float(np.prod([one.right for one in by_prompt[p]])) for p in prompts], name
        ),
        gain=_gain(by_prompt.values(), name),
        difference=difference,
        by_family=_shares((one.choice.family, one.right) for one in found),
        rules_of=Counter(one.choice.family for one in found),
        by_rank=_shares((one.choice.rank, one.right) for one in found),
        chance=float(np.mean([1 / len(one.choice.scores) for one in found])),
        prompts=len(prompts),
    )


def _by_prompt(found: Iterable[_Judged]) -> dict[int, list[_Judged]]:
    by_prompt: dict[int, list[_Judged]] = defaultdict(list)
    for one in found:
        by_prompt[one.choice.prompt].append(one)
    return dict(sorted(by_prompt.items()))


def _share(found: Sequence[_Judged]) -> float:
    return float(np.mean([one.right for one in found]))


def _gain(prompts: Iterable[Sequence[_Judged]], name: str) -> Estimate | None:
    known = [[one.gain for one in found if one.gain is not None] for found in prompts]
    return _bootstrap([float(np.mean(gains)) for gains in known], name) if all(known) else None


def _stored(prompts: Iterable[Sequence[_Judged]], name: str) -> Estimate | None:
    shares = []
    for found in prompts:
        known = [one.choice.stored for one in found if one.choice.stored is not None]
        if known:
            shares.append(float(np.mean(known)))
    return estimate(shares, name) if shares else None


def _shares(pairs: Iterable[tuple[_Key, float]]) -> dict[_Key, float]:
    found: dict[_Key, list[float]] = defaultdict(list)
    for key, right in pairs:
        found[key].append(right)
    return {key: float(np.mean(rights)) for key, rights in sorted(found.items())}


def estimate(
    values: Sequence[float | np.floating | bool], name: str, least: float = 0.0
) -> Estimate:
    """The mean over prompts of what is from `least` to 1, with a percentile interval.

    It is that of a bootstrap. Where all are 0, or at an end, it would draw nothing else: the
    interval is of the most prompts that can be otherwise, as far as can be (Clopper-Pearson of
    shares). Other values that all prompts have are ties, which are no chance.
    """
    mean = float(values[0])
    if {*values} != {mean} or mean not in (least, 0.0, 1.0):
        return _bootstrap(values, name)
    others = 1 - ((1 - LEVEL) / 2) ** (1 / len(values))
    return Estimate(mean, mean - others * (mean - least), mean + others * (1 - mean))


def _bootstrap(values: Sequence[float | np.floating | bool], name: str) -> Estimate:
    own = np.asarray(values, dtype=float)
    stream = np.random.default_rng(named_seed("bootstrap", name))
    means = own[stream.integers(0, len(own), (DRAWS, len(own)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(own.mean()), float(low), float(high))

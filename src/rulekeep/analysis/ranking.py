"""Ranks variants by what they keep at the longest length compared, beside the strongest attention.

    ranking = ranked(grouped(runs))
    ranking.rows[0].label, ranking.baseline, ranking.rows[0].difference

A variant with several task settings is ranked by its mean over them, seed by seed, with chance
taken out: 0.033 and 0.5 do not average. One with a diverged seed comes last. The baseline is the
attention that keeps most there on the test set.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rulekeep.analysis.groups import BySeed, Group, mean_of, strength, trained_alike
from rulekeep.analysis.summary import Summary, paired_difference, summarise, summarise_scores

# Lines of one figure: those of the user, attention, and the best of the others.
_OWN_SHOWN, _BASELINES_SHOWN, _OTHERS_SHOWN = 3, 2, 3
_USUAL = "attention, rotary"
# What a row of the ranking costs, and whether it grows with the text.
_COSTS = {"state_bytes": True, "decode_ms_per_token": True, "train_seconds": False,
          "parameters": False}  # fmt: skip


class Setting(NamedTuple):
    """A task setting for comparison: variants trained at one length, tested at another.

    `untested` are those that ran beside them, and have no figure there.
    """

    task: str
    context: int
    test: int
    groups: Mapping[str, Group]
    untested: tuple[str, ...]


class Ranked(NamedTuple):
    """A variant: what it keeps, as a mean over task settings, and what it costs.

    `by_seed`, `kept`, `lowest` and `difference` are of what is ranked (`Ranking.figure`),
    `retention` is not corrected. `lowest` is the lowest seed of any setting, NaN if one diverged.
    `costs` are means by their names in records; what grows with the text is at the length compared.
    `place` counts from 1, and equal figures share one; those with a diverged seed come after all
    others. None if it was not run on all settings.
    `difference` is to the baseline, paired by seed; None if it was not trained alike, or shares no
    seed.
    """

    label: str
    group: Group
    place: int | None
    by_seed: BySeed
    kept: Summary
    retention: Summary
    lowest: float
    by_task: Mapping[str, float]
    costs: Mapping[str, float | None]
    difference: Summary | None = None


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """All variants: those of the user first, then by what they keep.

    The means are over `settings`; `left` names the others. `is_corrected` says whether chance is
    taken out of them. `baseline` is the strongest attention.
    `has_strong` says whether an attention with a convolution was trained alike, and in no seed
    diverged.
    """

    settings: tuple[Setting, ...]
    left: tuple[str, ...]
    rows: tuple[Ranked, ...]
    baseline: str | None
    has_strong: bool
    is_corrected: bool

    @property
    def figure(self) -> str:
        """What variants are ranked by."""
        return "retention, corrected for chance" if self.is_corrected else "retention"

    @property
    def shown(self) -> tuple[str, ...]:
        """At most eight labels for a figure: the user's own, baselines, and three others."""
        placed = [row for row in self.rows if row.place is not None and row.kept.mean is not None]
        own = [row.label for row in placed if row.group.is_own]
        attention = [row.label for row in placed if row.group.is_attention]
        # The strongest first, then the usual one.
        attention.sort(key=lambda label: (label != self.baseline, label != _USUAL))
        # Of several variants of a mixer the best: the others would lie on it.
        best: dict[str, str] = {}
        for row in placed:
            if row.label not in (*own, *attention):
                best.setdefault(row.group.first.mixer, row.label)
        others = [*best.values()][:_OTHERS_SHOWN]
        return (*own[:_OWN_SHOWN], *attention[:_BASELINES_SHOWN], *others)

    @property
    def at(self) -> str:
        """The lengths compared, as one says them."""
        lengths = sorted({setting.test for setting in self.settings})
        ends = dict.fromkeys([lengths[0], lengths[-1]])
        return " to ".join(f"{length:,}" for length in ends) + " tokens"

    def over(self, label: str) -> dict[int, BySeed]:
        """What is ranked by, of each seed by test length, as the mean over the settings.

        Nothing for a variant that was not run on all of them.
        """
        groups = [one.groups[label] for one in self.settings if label in one.groups]
        if len(groups) < len(self.settings):
            return {}
        shared = sorted(set.intersection(*(set(group.test_contexts) for group in groups)))
        found = {
            at: averaged(kept(g, at, corrects=self.is_corrected) for g in groups) for at in shared
        }
        return {at: by_seed for at, by_seed in found.items() if by_seed}

    def chance(self, test: int | None = None) -> float | None:
        """The chance level of what is ranked by, at a length or where each is compared.

        The mean over the settings where it could not be taken out.
        """
        if self.is_corrected:
            return 0.0
        levels = []
        for one in self.settings:
            each = (g.chance("retention", test or one.test) for g in one.groups.values())
            levels.append(next((level for level in each if level), None))
        known = [level for level in levels if level is not None]
        return sum(known) / len(known) if len(known) == len(levels) else None


def ranked(groups: Sequence[Group]) -> Ranking | None:
    """The variants in order; None where nothing was tested."""
    by_task: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_task[group.task].append(group)
    tested = [place for one in by_task.values() if (place := _setting(one)) is not None]
    if not tested:
        return None
    settings = _shared(tested)
    whole = _whole(settings)
    corrects = len(settings) > 1 and all(map(_has_chance, settings))
    every = dict.fromkeys(label for one in settings for label in one.groups)
    rows = [_row(label, settings, is_whole=label in whole, corrects=corrects) for label in every]
    base = _baseline([row for row in rows if row.place is not None])
    rows = [row._replace(difference=_difference(row, base)) for row in rows]
    # One with a diverged seed comes last: the mean of the others is not its own.
    rows.sort(key=lambda row: (row.place is None, math.isnan(row.lowest), -_mean(row), row.label))
    # Equal as they are shown.
    worth = [(math.isnan(row.lowest), round(_mean(row), 3)) for row in rows]
    rows = [
        row if row.place is None else row._replace(place=1 + worth.index(shown))
        for row, shown in zip(rows, worth, strict=True)
    ]
    return Ranking(
        settings=tuple(settings),
        left=tuple(one.task for one in tested if one not in settings),
        rows=tuple(sorted(rows, key=lambda row: not row.group.is_own)),
        baseline=base and base.label,
        has_strong=base is not None
        and any(
            row.group.is_strong and trained_alike(row.group, base.group)
            for row in rows
            if row.place is not None and not math.isnan(row.lowest)
        ),
        is_corrected=corrects,
    )


def kept(group: Group, test: int, *, corrects: bool) -> BySeed:
    """Retention of each seed, with chance taken out or not; NaN for one that diverged."""
    by_seed = group.by_seed("retention", test)
    if not corrects:
        return by_seed
    found = group.by_seed("retention", test, "corrected")
    return {seed: found.get(seed, math.nan) for seed in by_seed}


def averaged(several: Iterable[BySeed]) -> dict[int, float]:
    """The mean of each seed over several settings, of the seeds that all have."""
    each = list(several)
    seeds = set.intersection(*(set(one) for one in each)) if each else set[int]()
    return {seed: sum(one[seed] for one in each) / len(each) for seed in sorted(seeds)}


def compared_at(groups: Sequence[Group], own: Group | None = None) -> int:
    """The longest context at which half of the mixers, and two at least, were tested; or 0.

    At longer contexts few mixers would stand alone. For one mixer, its longest. If one is named,
    only contexts at which it was tested count; every one if all its seeds diverged.
    """
    tested: dict[int, set[str]] = defaultdict(set)
    for group in groups:
        for context in group.test_contexts:
            if group.finite("retention", context):
                tested[context].add(group.label)
    if own is not None:
        mine = {context: labels for context, labels in tested.items() if own.label in labels}
        tested = mine or tested
    every = {label for labels in tested.values() for label in labels}
    several = [context for context, labels in tested.items() if len(labels) > 1]
    most = [context for context in several if 2 * len(tested[context]) >= len(every)]
    return max(most or several or tested, default=0)


def _setting(groups: Sequence[Group]) -> Setting | None:
    """A task at the longest length trained at that has a figure; of the user's own, if any."""
    lengths = {group.context for group in groups}
    own = {group.context for group in groups if group.is_own}
    # Where all of the user's own diverged, the others are compared.
    for context in [*sorted(own, reverse=True), *sorted(lengths - own, reverse=True)]:
        here = [group for group in groups if group.context == context]
        first = next((group for group in here if group.is_own), None)
        if test := compared_at(here, first):
            known = {group.label: group for group in here if group.by_seed("retention", test)}
            untested = tuple(group.label for group in here if group.label not in known)
            return Setting(groups[0].task, context, test, known, untested)
    return None


def _shared(tested: Sequence[Setting]) -> list[Setting]:
    """The settings to compare over: as many as leave many variants that were run on all.

    With the user's own among these variants, and attention, wherever that can be.
    """
    order = sorted(
        tested,
        key=lambda one: (not any(g.is_own for g in one.groups.values()), -len(one.groups)),
    )

    def worth(count: int) -> tuple[bool, bool, int]:
        labels = _whole(order[:count])
        kinds = [order[0].groups[label] for label in labels]
        return (
            any(group.is_own for group in kinds), any(group.is_attention for group in kinds),
            count * len(labels),
        )  # fmt: skip

    chosen = order[: max(range(1, len(order) + 1), key=worth)]
    return [one for one in tested if one in chosen]


def _whole(settings: Sequence[Setting]) -> list[str]:
    """The variants that were run on all settings."""
    first, *others = settings
    return [label for label in first.groups if all(label in one.groups for one in others)]


def _has_chance(one: Setting) -> bool:
    """Whether every figure compared has a chance level beside it."""
    return all(
        group.finite("retention", one.test).keys()
        == group.by_seed("retention", one.test, "corrected").keys()
        for group in one.groups.values()
    )


def _row(label: str, settings: Sequence[Setting], *, is_whole: bool, corrects: bool) -> Ranked:
    """A variant on the settings that it has; its place and its difference come later."""
    here = [(one, one.groups[label]) for one in settings if label in one.groups]
    raw = [group.by_seed("retention", one.test) for one, group in here]
    each = [kept(group, one.test, corrects=corrects) for one, group in here]
    every = [value for one in each for value in one.values()]

    def cost(figure: str, *, grows: bool) -> float | None:
        of_each = [group.cost(figure, one.test if grows else None) for one, group in here]
        means = [mean_of(by_seed) for by_seed in of_each if by_seed]
        return sum(means) / len(means) if means else None

    return Ranked(
        label=label,
        group=here[0][1],
        place=1 if is_whole else None,
        by_seed=averaged(each),
        kept=(summarise if corrects else summarise_scores)(_over(each)),
        retention=summarise_scores(_over(raw)),
        lowest=math.nan if any(map(math.isnan, every)) else min(every),
        by_task={one.task: mean_of(by) for (one, _), by in zip(here, raw, strict=True)},
        costs={figure: cost(figure, grows=grows) for figure, grows in _COSTS.items()},
    )


def _over(each: Sequence[BySeed]) -> list[float]:
    """The mean over settings of each seed; settings without a seed in common have a mean alone."""
    return [*averaged(each).values()] or [sum(mean_of(one) for one in each) / len(each)]


def _baseline(rows: Sequence[Ranked]) -> Ranked | None:
    """The attention that ranks first; of those trained as the user's own mixer, if there is one."""
    attention = [row for row in rows if row.group.is_attention]
    if (mine := next((row for row in rows if row.group.is_own), None)) is not None:
        attention = [row for row in attention if trained_alike(row.group, mine.group)]
    finite = [row for row in attention if not all(map(math.isnan, row.by_seed.values()))]
    return max(
        finite, key=lambda row: (not math.isnan(row.lowest), strength(row.by_seed)), default=None
    )


def _difference(row: Ranked, base: Ranked | None) -> Summary | None:
    if row.place is None or base is None or row is base:
        return None
    is_paired = row.by_seed.keys() & base.by_seed.keys() and trained_alike(base.group, row.group)
    return paired_difference(row.by_seed, base.by_seed) if is_paired else None


def _mean(row: Ranked) -> float:
    return -math.inf if row.kept.mean is None else row.kept.mean

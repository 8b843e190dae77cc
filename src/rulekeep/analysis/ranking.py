"""Ranks variants by what they keep at the longest length compared, beside the strongest attention.

    ranking = ranked(contests(runs))
    ranking.rows[0].label, ranking.baseline, ranking.rows[0].difference

A variant with several task settings is ranked by its mean over them, seed by seed, with chance
taken out: 0.033 and 0.5 do not average. One with a diverged seed comes last. The baseline is the
attention that keeps most there on the test set.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rulekeep.analysis.cells import (
    Contest,
    Group,
    compared_at,
    has_diverged,
    mean_of,
    trained_alike,
)
from rulekeep.analysis.summary import Summary, paired_difference, summarise, summarise_scores

# Lines of one figure: those of the user, attention, and the best of the others.
_OWN_SHOWN, _BASELINES_SHOWN, _OTHERS_SHOWN = 3, 2, 3
_USUAL = "attention, rotary"


class Setting(NamedTuple):
    """A task setting for comparison: its variants trained at one length, tested at another."""

    contest: Contest
    context: int
    test: int
    groups: Mapping[str, Group]

    @property
    def task(self) -> str:
        """The task with its difficulty."""
        return self.contest.task


class Ranked(NamedTuple):
    """A variant: what it keeps, as a mean over task settings, and what it costs.

    `kept`, `lowest` and `difference` are of what is ranked (`Ranking.figure`), `retention` is not
    corrected.
    `place` counts from 1, and equal figures share one; those with a diverged seed come after all
    others. None if it was not run on all settings.
    `lowest` is the lowest seed of any setting, NaN if one diverged. `is_alike` says whether it was
    trained as the baseline was. `difference` is to the baseline, paired by seed; None if it is not
    alike, or shares no seed.
    """

    label: str
    mixer: str
    is_own: bool
    is_attention: bool
    place: int | None
    kept: Summary
    retention: Summary
    lowest: float
    by_task: Mapping[str, float]
    is_alike: bool
    difference: Summary | None
    state_bytes: float | None
    train_seconds: float | None
    decode_ms: float | None
    parameters: float | None


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
        ranked = [row for row in self.rows if row.place is not None and row.kept.mean is not None]
        own = [row.label for row in ranked if row.is_own]
        usual = [row.label for row in ranked if row.label == _USUAL]
        attention = [row.label for row in ranked if row.is_attention]
        base = dict.fromkeys([*([self.baseline] if self.baseline else []), *usual, *attention])
        # Of several variants of a mixer the best: the others would lie on it.
        best: dict[str, str] = {}
        for row in ranked:
            if not row.is_own and not row.is_attention:
                best.setdefault(row.mixer, row.label)
        others = [*best.values()]
        return (
            *own[:_OWN_SHOWN], *[*base][:_BASELINES_SHOWN], *others[:_OTHERS_SHOWN],
        )  # fmt: skip

    @property
    def at(self) -> str:
        """The lengths compared, as one says them."""
        lengths = sorted({setting.test for setting in self.settings})
        ends = dict.fromkeys([lengths[0], lengths[-1]])
        return " to ".join(f"{length:,}" for length in ends) + " tokens"

    def groups(self, label: str) -> list[Group]:
        """The groups of a variant on the settings that the means are over; all, or none."""
        found = [one.groups.get(label) for one in self.settings]
        kept = [group for group in found if group is not None]
        return kept if len(kept) == len(found) else []

    def over(self, label: str) -> dict[int, dict[int, float]]:
        """What is ranked by, of each seed by test length, as the mean over the settings."""
        groups = self.groups(label)
        lengths = [set(group.test_contexts) for group in groups]
        shared = sorted(set.intersection(*lengths)) if lengths else []
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
        each = [
            next(
                (c for g in one.groups.values() if (c := g.chance("retention", test or one.test))),
                None,
            )
            for one in self.settings
        ]
        known = [level for level in each if level is not None]
        return sum(known) / len(known) if known and len(known) == len(each) else None


def ranked(found: Sequence[Contest]) -> Ranking | None:
    """The variants in order; None where nothing was tested."""
    places = [place for contest in found if (place := _setting(contest)) is not None]
    if not places:
        return None
    settings = _shared(places)
    whole = _whole(settings)
    own = [label for label in whole if _any(settings, label).is_own]
    corrects = len(settings) > 1 and all(map(_has_chance, settings))
    baseline = _baseline(settings, whole, own, corrects)
    strong = [
        group
        for label in whole
        if (group := _any(settings, label)).is_strong and not _has_diverged(settings, label)
    ]
    every = dict.fromkeys(label for one in settings for label in one.groups)
    rows = [_row(label, settings, baseline, label in whole, corrects) for label in every]
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
        left=tuple(place.task for place in places if place not in settings),
        rows=tuple(sorted(rows, key=lambda row: not row.is_own)),
        baseline=baseline,
        has_strong=baseline is not None
        and any(trained_alike(one, _any(settings, baseline)) for one in strong),
        is_corrected=corrects,
    )


def kept(group: Group, test: int, *, corrects: bool) -> dict[int, float]:
    """Retention of each seed, with chance taken out or not; NaN for one that diverged."""
    by_seed = group.by_seed("retention", test)
    if not corrects:
        return by_seed
    found = group.corrected("retention", test)
    return {seed: found.get(seed, math.nan) for seed in by_seed}


def _has_chance(one: Setting) -> bool:
    """Whether every figure compared has a chance level beside it."""
    return all(
        group.finite("retention", one.test).keys() == group.corrected("retention", one.test).keys()
        for group in one.groups.values()
    )


def averaged(several: Iterable[Mapping[int, float]]) -> dict[int, float]:
    """The mean of each seed over several settings, of the seeds that all have."""
    each = list(several)
    seeds = set.intersection(*(set(one) for one in each)) if each else set[int]()
    return {seed: sum(one[seed] for one in each) / len(each) for seed in sorted(seeds)}


def _setting(contest: Contest) -> Setting | None:
    """A task at the longest length trained at that has a figure; of the user's own, if any."""
    lengths = {group.context for group in contest.groups}
    own = {group.context for group in contest.groups if group.is_own}
    # Where all of the user's own diverged, the others are compared.
    for context in [*sorted(own, reverse=True), *sorted(lengths - own, reverse=True)]:
        groups = contest.at(context)
        first = next((group for group in groups if group.is_own), None)
        if test := compared_at(groups, first):
            figures = {g.label: g for g in groups if g.summary("retention", test) is not None}
            return Setting(contest, context, test, figures)
    return None


def _shared(places: Sequence[Setting]) -> list[Setting]:
    """The settings to compare over: as many as leave many variants that were run on all.

    With the user's own among these variants, and attention, wherever that can be.
    """
    order = sorted(
        places,
        key=lambda one: (not any(g.is_own for g in one.groups.values()), -len(one.groups)),
    )

    def worth(count: int) -> tuple[bool, bool, int]:
        some = order[:count]
        labels = _whole(some)
        kinds = [_any(some, label) for label in labels]
        return (
            any(group.is_own for group in kinds), any(group.is_attention for group in kinds),
            count * len(labels),
        )  # fmt: skip

    chosen = order[: max(range(1, len(order) + 1), key=worth)]
    return [place for place in places if place in chosen]


def _whole(settings: Sequence[Setting]) -> list[str]:
    """The variants that were run on all settings."""
    first, *others = settings
    return [label for label in first.groups if all(label in one.groups for one in others)]


def _any(settings: Sequence[Setting], label: str) -> Group:
    return next(one.groups[label] for one in settings if label in one.groups)


def _baseline(
    settings: Sequence[Setting], whole: Sequence[str], own: Sequence[str], corrects: bool
) -> str | None:
    """The attention that ranks first; of those trained as the user's own mixer, if there is one."""
    attention = [label for label in whole if _any(settings, label).is_attention]
    if own:
        mine = _any(settings, own[0])
        alike = [one for one in attention if trained_alike(_any(settings, one), mine)]
        attention = alike
    means = {label: _averaged(settings, label, corrects) for label in attention}
    finite = {
        label: mean_of(known)
        for label, by_seed in means.items()
        if (known := {s: v for s, v in by_seed.items() if math.isfinite(v)})
    }
    # As in the ranking, one with a diverged seed comes after all others.
    finite = {k: mean for k, mean in finite.items() if not _has_diverged(settings, k)} or finite
    return max(finite, key=lambda label: finite[label], default=None)


def _has_diverged(settings: Sequence[Setting], label: str) -> bool:
    """Whether a seed of a variant diverged on any setting."""
    here = (one.groups[label].by_seed("retention", one.test) for one in settings)
    return any(map(has_diverged, here))


def _averaged(settings: Sequence[Setting], label: str, corrects: bool) -> dict[int, float]:
    return averaged(
        kept(one.groups[label], one.test, corrects=corrects)
        for one in settings
        if label in one.groups
    )


def _row(
    label: str, settings: Sequence[Setting], baseline: str | None, whole: bool, corrects: bool
) -> Ranked:
    here = [(one, one.groups[label]) for one in settings if label in one.groups]
    each = [kept(group, one.test, corrects=corrects) for one, group in here]
    by_seed = _averaged(settings, label, corrects)
    difference, is_alike = None, False
    if baseline is not None and whole and label != baseline:
        is_alike = trained_alike(_any(settings, baseline), here[0][1])
        theirs = _averaged(settings, baseline, corrects)
        if is_alike and by_seed.keys() & theirs.keys():
            difference = paired_difference(by_seed, theirs)
    raw = [group.by_seed("retention", one.test) for one, group in here]
    every = [value for one in each for value in one.values()]
    summary = summarise if corrects else summarise_scores
    return Ranked(
        label=label,
        mixer=here[0][1].mixer,
        is_own=here[0][1].is_own,
        is_attention=here[0][1].is_attention,
        place=1 if whole else None,
        kept=summary(_over(each)),
        retention=summarise_scores(_over(raw)),
        lowest=math.nan if any(map(math.isnan, every)) else min(every),
        by_task={one.task: mean_of(by) for (one, _), by in zip(here, raw, strict=True)},
        is_alike=is_alike,
        difference=difference,
        state_bytes=_mean_cost(here, lambda group, test: group.state_bytes(test)),
        train_seconds=_mean_cost(here, lambda group, _: group.cost("train_seconds")),
        decode_ms=_mean_cost(here, lambda group, test: group.decode_ms(test)),
        parameters=_mean_cost(here, lambda group, _: group.cost("parameters")),
    )


def _over(each: Sequence[Mapping[int, float]]) -> list[float]:
    """The mean over settings of each seed; settings without a seed in common have a mean alone."""
    return [*averaged(each).values()] or [sum(mean_of(one) for one in each) / len(each)]


def _mean_cost(
    here: Sequence[tuple[Setting, Group]], cost: Callable[[Group, int], Mapping[int, float]]
) -> float | None:
    each = [mean_of(known) for one, group in here if (known := cost(group, one.test))]
    return sum(each) / len(each) if each else None


def _mean(row: Ranked) -> float:
    return -math.inf if row.kept.mean is None else row.kept.mean

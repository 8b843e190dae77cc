"""The summary: three plain sentences, each computed and each with its uncertainty.

A mechanism from outside has one of its own, wherever it stands: a user looks for it first.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from rulekeep.analysis.cells import Contest, Group, compared_at, spoken
from rulekeep.analysis.reading import Run
from rulekeep.analysis.summary import ENOUGH_SEEDS, Summary

# More than these are told by the winners, and not one by one.
_TASKS_NAMED = 3
# What `rulekeep article --leak` shows, from 20 tokens of context up.
LEAK = (
    "Its validation examples are its test too, and its data leaks: a reader of only the last 6 "
    "tokens before the target, without memory, scores 0.781 rule accuracy and 0.562 retention."
)


def sentences(runs: Sequence[Run], found: Sequence[Contest]) -> list[str]:
    """What kept most, what came from outside, how all compares, and how far to trust it."""
    return [_best(found), *_from_outside(found), _compared(found), _trust(runs, found)]


def _longest(contest: Contest) -> list[tuple[Group, int, Summary]]:
    # After training at the longest length with which any has a figure.
    found = (_compared_among(contest.at(context)) for context in reversed(contest.contexts))
    return next(filter(None, found), [])


def _compared_among(
    groups: Sequence[Group], own: Group | None = None
) -> list[tuple[Group, int, Summary]]:
    # At the longest test length that can be compared, with one of them if it is named.
    test = compared_at(groups, own)
    found = ((group, test, group.summary("retention", test)) for group in groups)
    return [(group, test, s) for group, test, s in found if s is not None and s.mean is not None]


class _Winner(NamedTuple):
    """What kept most of a task's rules, at the longest context that can be compared."""

    group: Group
    test: int
    summary: Summary
    # All that were compared, itself among them.
    rows: list[tuple[Group, int, Summary]]

    @property
    def among(self) -> int:
        """How many there were to choose from."""
        return len(self.rows)

    @property
    def mean(self) -> float:
        """The share of rules that it keeps, over the seeds."""
        return self.summary.mean or 0.0

    @property
    def kept(self) -> str:
        return f"{self.summary.text()} of the rules of {self.group.task}"

    @property
    def chance(self) -> str | None:
        """The chance level of what it keeps, in words."""
        level = self.group.chance("retention", self.test)
        return None if level is None else f"chance {level:.3f}"


def _winners(found: Sequence[Contest]) -> list[_Winner]:
    return [_winner(rows) for contest in found if (rows := _longest(contest))]


def _winner(rows: list[tuple[Group, int, Summary]]) -> _Winner:
    # The first of equals in the order of names.
    return _Winner(*max(rows, key=lambda row: row[2].mean or 0.0), rows)


def _best(found: Sequence[Contest]) -> str:
    winners = _winners(found)
    if not winners:
        return "No run has a test retention yet, so nothing can be said about what is kept."
    several = any(winner.among > 1 for winner in winners)
    where = "that several mixers were tested at" if several else "tested"
    say = _one_by_one if len(winners) <= _TASKS_NAMED else _by_mixer
    return f"At the longest context {where}, {say(winners)}."


def _one_by_one(winners: Sequence[_Winner]) -> str:
    parts = []
    for winner in winners:
        among = f"best of {winner.among}" if winner.among > 1 else "the only mixer"
        aside = ", ".join(filter(None, (among, winner.chance, winner.group.trained)))
        parts.append(
            f"{spoken(winner.group.label)} keeps {winner.kept} at {winner.test} tokens ({aside})"
        )
    return "; ".join(parts)


def _by_mixer(winners: Sequence[_Winner]) -> str:
    """Who keeps most how often, and the least and the most of it."""
    by_label: dict[str, list[_Winner]] = {}
    for winner in winners:
        by_label.setdefault(winner.group.label, []).append(winner)
    parts = []
    for label, won in sorted(by_label.items(), key=lambda item: -len(item[1])):
        won.sort(key=lambda winner: winner.mean)
        said = [f"{one.kept} ({one.chance})" if one.chance else one.kept for one in won]
        ends = f"from {said[0]} to {said[-1]}" if len(won) > 1 else said[0]
        most = "keeps most" if any(winner.among > 1 for winner in won) else "is the only mixer"
        parts.append(f"{spoken(label)} {most} in {len(won)} of {len(winners)} tasks, {ends}")
    lengths = sorted({winner.test for winner in winners})
    at = f"{lengths[0]} tokens" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]} tokens"
    return f"{at}: {'; '.join(parts)}"


def _from_outside(found: Sequence[Contest]) -> list[str]:
    """Of each mechanism from outside: what it keeps beside what keeps most."""
    by_label: dict[str, list[tuple[_Winner, _Winner]]] = {}
    for contest in found:
        outside = {group.label: group for group in contest.groups if ":" in group.mixer}
        # Each at the longest length that it was trained at itself, beside what was too.
        for label, last in outside.items():
            if rows := _compared_among(contest.at(last.context), last):
                own = next(_Winner(*row, rows) for row in rows if row[0] is last)
                by_label.setdefault(label, []).append((own, _winner(rows)))
    return [_beside_best(label, pairs) for label, pairs in by_label.items()]


def _beside_best(label: str, pairs: Sequence[tuple[_Winner, _Winner]]) -> str:
    """One by one where there are few, else where it comes nearest to the most and least near."""
    said = [
        f"{own.kept} at {own.test} tokens, {own.group.trained} "
        f"({', '.join(filter(None, (_most(own, best), own.chance)))})"
        for own, best in pairs
    ]
    if len(pairs) <= _TASKS_NAMED:
        return f"{spoken(label)} keeps {'; '.join(said)}."
    short = [best.mean - own.mean for own, best in pairs]
    near, far = said[short.index(min(short))], said[short.index(max(short))]
    return (
        f"{spoken(label)}, of {len(pairs)} tasks, is nearest to the most with {near}, least near "
        f"with {far}."
    )


def _most(own: _Winner, best: _Winner) -> str:
    if best.among == 1:
        return "beside nothing else"
    return f"the most is {best.mean:.3f}" if best.mean > own.mean else "nothing keeps more"


def _compared(found: Sequence[Contest]) -> str:
    verdicts: Counter[str] = Counter()
    largest: tuple[float, str] | None = None
    for contest in found:
        for group, test, _ in _longest(contest):
            difference = contest.against_baseline(group, "retention", test)
            if difference is None or difference.summary.mean is None:
                continue
            summary = difference.summary
            if summary.low is None or summary.high is None:
                verdicts["single"] += 1
            elif summary.low > 0:
                verdicts["above"] += 1
            elif summary.high < 0:
                verdicts["below"] += 1
            else:
                verdicts["open"] += 1
            mean = difference.summary.mean
            if largest is None or abs(mean) > abs(largest[0]):
                sign = "+" if mean >= 0 else ""
                largest = (mean, f"{spoken(group.label)} on {contest.task}, {sign}{summary.text()}")
    total = sum(verdicts.values())
    if not total or largest is None:
        return (
            "No mixer shares a seed with attention at that context, so none is compared with it "
            "there."
        )
    single = f" and {verdicts['single']} from a single seed" if verdicts["single"] else ""
    return (
        f"Paired by seed with attention at that context, {verdicts['above']} of {total} "
        f"differences in retention are above zero with their whole 95 % interval, "
        f"{verdicts['below']} below, {verdicts['open']} undecided{single}; the largest is "
        f"{largest[1]}."
    )


def _trust(runs: Sequence[Run], found: Sequence[Contest]) -> str:
    cells = [
        len(group.finite("retention", test))
        for contest in found
        for group in contest.groups
        for test in group.test_contexts
        if not group.is_undefined(test)
    ]
    few = sum(seeds < ENOUGH_SEEDS for seeds in cells)
    statuses = Counter(run.status for run in runs)
    ended = statuses["done"] + statuses["diverged"]
    return (
        f"This rests on {_plural(len(runs), 'run')}, of which {statuses['done']:,} ended, "
        f"{statuses['diverged']:,} diverged and {len(runs) - ended:,} failed; {few:,} of "
        f"{len(cells):,} cells have fewer than {ENOUGH_SEEDS} seeds and are marked."
    )


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"

"""The summary: three plain sentences, each computed and each with its uncertainty."""

from collections import Counter
from collections.abc import Sequence

from rulekeep.report.cells import Contest, Group, compared_at
from rulekeep.report.reading import Run
from rulekeep.summary import ENOUGH_SEEDS, Summary

_TASKS_NAMED = 3
# What `rulekeep article --leak` shows, from 20 tokens of context up.
LEAK = (
    "Its validation examples are its test too, and its data leaks: a reader of only the last 6 "
    "tokens before the target, without memory, scores 0.781 rule accuracy and 0.562 retention."
)


def sentences(runs: Sequence[Run], found: Sequence[Contest]) -> list[str]:
    """What kept most, how it compares with attention, and how far to trust it."""
    return [_best(found), _compared(found), _trust(runs, found)]


def _longest(contest: Contest) -> list[tuple[Group, int, Summary]]:
    # The longest test length that can be compared, after training at the longest length.
    if not contest.contexts:
        return []
    groups = contest.at(max(contest.contexts))
    test = compared_at(groups)
    found = ((group, test, group.summary("retention", test)) for group in groups)
    return [(group, test, s) for group, test, s in found if s is not None and s.mean is not None]


def _best(found: Sequence[Contest]) -> str:
    parts: list[str] = []
    skipped, several = 0, False
    for contest in found:
        rows = _longest(contest)
        if not rows:
            continue
        if len(parts) == _TASKS_NAMED:
            skipped += 1
            continue
        # The first of equals in the order of names.
        group, test, summary = max(rows, key=lambda row: row[2].mean or 0.0)
        chance = group.chance("retention", test)
        level = "" if chance is None else f", chance {chance:.3f}"
        several |= len(rows) > 1
        among = f"best of {len(rows)}" if len(rows) > 1 else "the only mixer"
        parts.append(
            f"{group.label} keeps {summary.text()} of the rules of {contest.task} at {test} tokens "
            f"({among}{level}, trained at {group.context})"
        )
    if not parts:
        return "No run has a test retention yet, so nothing can be said about what is kept."
    more = f"; {skipped} more tasks are in the table" if skipped else ""
    where = "that several mixers were tested at" if several else "tested"
    return f"At the longest context {where}, {'; '.join(parts)}{more}."


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
                largest = (mean, f"{group.label} on {contest.task}, {sign}{summary.text()}")
    total = sum(verdicts.values())
    if not total or largest is None:
        return "No mixer shares a seed with attention, so none is compared with it."
    single = f" and {verdicts['single']} from a single seed" if verdicts["single"] else ""
    return (
        f"Paired by seed with attention at that context, {verdicts['above']} of {total} "
        f"differences in retention are above zero with their whole 95 % interval, "
        f"{verdicts['below']} below, {verdicts['open']} undecided{single}; the largest is "
        f"{largest[1]}."
    )


def _trust(runs: Sequence[Run], found: Sequence[Contest]) -> str:
    cells = [
        len([v for v in group.by_seed("retention", test).values() if v == v])
        for contest in found
        for group in contest.groups
        for test in group.test_contexts
    ]
    few = sum(seeds < ENOUGH_SEEDS for seeds in cells)
    statuses = Counter(run.status for run in runs)
    ended = statuses["done"] + statuses["diverged"]
    return (
        f"This rests on {_plural(len(runs), 'run')}, of which {statuses['done']:,} ended, "
        f"{statuses['diverged']:,} diverged and {len(runs) - ended:,} failed; {few:,} of "
        f"{_plural(len(cells), 'cell')} have fewer than {ENOUGH_SEEDS} seeds and are marked."
    )


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"

"""The answer in three short sentences: what keeps most, against attention, and on how many runs.

A gain over attention is said where a strong attention ran beside it on five seeds or more, and the
difference is shown: by Holm over all of the user's own, or over all others. On fewer seeds it is a
lead.
"""

from collections import Counter
from collections.abc import Sequence

from rulekeep.analysis.groups import Group, trained_alike
from rulekeep.analysis.ranking import Ranked, Ranking
from rulekeep.analysis.summary import ENOUGH_SEEDS, LEVEL, holm
from rulekeep.analysis.table import Run
from rulekeep.printable import counted

# The field's fairness: parameters within so much of each other.
_ALIKE = 0.05


def sentences(runs: Sequence[Run], groups: Sequence[Group], ranking: Ranking | None) -> list[str]:
    """What is best, or what the user's own keeps; its distance to attention; how many runs."""
    if ranking is None:
        return ["No run has a test retention yet: nothing is compared.", _trust(runs, groups)]
    placed = [row for row in ranking.rows if row.place is not None]
    # Of several mixers of the user's own the best: they stand first.
    others = [row for row in placed if not row.group.is_attention]
    (row, *_) = others or placed or ranking.rows
    return [_kept(row, ranking), _against(row, ranking), _trust(runs, groups)]


def _kept(row: Ranked, ranking: Ranking) -> str:
    first, *others = ranking.settings
    where = f", the mean of {1 + len(others)} task settings" if others else f" of {first.task}"
    if ranking.is_corrected:
        where += f" ({row.kept.mean or 0.0:.3f} with chance taken out)"
    placed = sum(one.place is not None for one in ranking.rows)
    of = f" (place {row.place} of {placed})" if placed > 1 and row.place is not None else ""
    mean, chance = row.kept.mean, ranking.chance()
    kept = "no share" if row.retention.mean is None else f"{row.retention.mean:.3f}"
    guessed = ""
    if mean is not None and chance is not None and round(mean, 3) <= round(chance, 3):
        guessed = f", no more than by guessing: chance is {chance:.3f}"
    return f"{row.label} keeps {kept} of the rules at {ranking.at}{where}{of}{guessed}."


def _against(row: Ranked, ranking: Ranking) -> str:
    """How far it is from the strongest attention, and whether that is shown."""
    if ranking.baseline is None:
        return "No attention was trained alike on the same tasks and ended: it has no rival here."
    if row.label == ranking.baseline:
        return "It is the strongest attention here."
    if row.difference is None or row.difference.mean is None:
        why = f"shares no seed with {ranking.baseline}"
        if row.difference is not None:
            why = f"shares with {ranking.baseline} no seed that ended in both"
        elif not trained_alike(row.group, _base(ranking).group):
            why = f"was not trained as {ranking.baseline} was"
        return f"It {why}: it is compared with none."
    weak = ""
    if not ranking.has_strong:
        weak = (
            "; no attention with a convolution was trained alike and ended in all seeds, so this "
            "is no win over attention"
        )
    lost = row.difference.diverged
    diverged = f"; {counted(lost, 'seed')} diverged" if lost else ""
    open_ends = f"{weak}{_unequal(row, ranking)}{diverged}"
    return f"{_verdict(row, ranking, bool(open_ends))}{open_ends}."


def _verdict(row: Ranked, ranking: Ranking, is_open: bool) -> str:
    difference, name = row.difference, ranking.baseline
    assert difference is not None
    mean, low, high = difference.mean or 0.0, difference.low, difference.high
    on = f"on {counted(difference.seeds, 'seed')}"
    if difference.seeds < ENOUGH_SEEDS or low is None or high is None:
        lead = f"It has a lead of {mean:.3f} over {name}"
        if round(abs(mean), 3) == 0:
            return f"It keeps as much as {name} {on}"
        return f"{lead} {on}" if mean > 0 else f"It is {-mean:.3f} behind {name} {on}"
    span = f"{mean:+.3f} ({low:+.3f} to {high:+.3f}) {on}"
    tested = _tested(row, ranking)
    if tested[row.label] >= 1 - LEVEL:
        several = f", tested with {counted(len(tested) - 1, 'other')}" if len(tested) > 1 else ""
        return f"It cannot be told from {name}: {span}{several}"
    if mean > 0:
        return f"It {'is above' if is_open else 'gains on'} {name}: {span}"
    return f"It is below {name}: {span}"


def _tested(row: Ranked, ranking: Ranking) -> dict[str, float]:
    """How probable each difference is where there is none, by Holm over what is tested together."""
    kind = row.group.is_own, row.group.is_attention
    found = {
        one.label: one.difference.p
        for one in ranking.rows
        if one.difference and (one.group.is_own, one.group.is_attention) == kind
    }
    return holm({label: p for label, p in found.items() if p is not None})


def _base(ranking: Ranking) -> Ranked:
    return next(row for row in ranking.rows if row.label == ranking.baseline)


def _unequal(row: Ranked, ranking: Ranking) -> str:
    own, others = (one.costs["parameters"] for one in (row, _base(ranking)))
    if not own or not others:
        return ""
    more = own / others - 1
    return f"; it has {more:+.0%} parameters" if abs(more) > _ALIKE else ""


def _trust(runs: Sequence[Run], groups: Sequence[Group]) -> str:
    cells = [
        len(group.finite("retention", test))
        for group in groups
        for test in group.test_contexts
        if not group.is_undefined(test)
    ]
    few = sum(seeds < ENOUGH_SEEDS for seeds in cells)
    statuses = Counter(run.record.status for run in runs)
    odd, diverged = statuses["not_finite"], statuses["diverged"]
    ended = statuses["done"] + odd
    some_odd = f" ({odd:,} with outputs that are not finite at some length)" if odd else ""
    rest = counted(len(cells), "figure rests", "figures rest")
    steps = sorted(
        {found for run in runs if isinstance(found := run.record.spec.rest.get("steps"), int)}
    )
    unlike = ""
    if len(steps) > 1:
        unlike = f" They were trained for {steps[0]:,} to {steps[-1]:,} steps, so not alike."
    return (
        f"{counted(len(runs), 'run')}: {ended:,} ended{some_odd}, {diverged:,} diverged, "
        f"{len(runs) - ended - diverged:,} failed; {few:,} of {rest} on fewer than {ENOUGH_SEEDS} "
        f"seeds.{unlike}"
    )

"""What compaction leaves: shares of rules by round, kind and place, with their intervals.

    survival = cells(records)[place]
    survival.kept[-1]               # an Interval of the share of rules left after the last round
    survival.by_group["limit"][0]   # the same of one kind, after the first

Histories are the unit: a bootstrap draws them anew, with all their rules. Where each has one rule,
the interval is exact (Clopper and Pearson). A call that failed has kept nothing. No torch.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rulekeep.analysis.summary import Interval, exact_share
from rulekeep.compaction.history import FACTS, HOLDING
from rulekeep.compaction.verdicts import KEPT
from rulekeep.language.calibration import Judged, keys_of
from rulekeep.language.comparing import Comparison, of_prompts
from rulekeep.language.intervals import of_shares, resampled
from rulekeep.printable import name, one_line
from rulekeep.records import Record
from rulekeep.records.record import Choice, Kept, Round
from rulekeep.specs import CompactionSpec

# Of the label of what is asked with the rule said again.
RESTATED = ", restated"
ROUND = "round "
# Between floor and bound, for a share between them to say anything.
LEAST_APART = 0.2


class Place(NamedTuple):
    """What a cell was asked for; `rest` tells apart what is called alike."""

    compactor: str
    model: str
    budget: float
    guard: str
    style: str
    tokens: int
    control: str
    rest: str


@dataclass(frozen=True)
class Survival:
    """One cell, a value a round: what is left of rules that hold, and what it cost.

    `kept` is the share of them that stands word for word or in other words, `misled` the share of
    withdrawn and quoted rules that stand as if they held, and `facts` that of the task's facts.
    `reached` is the share of rules that a summarizing model was given; None where none was asked.
    `left` is what is left for each token of the budget, `unpaired` the share of histories with a
    call or result alone, `longer` of those in which more was left than before, `changed` of those
    in which the compactor altered what it was given, `failed` of those in which it has failed, and
    `failure` the first reason. Where no rule was stated, if that was run: `floor` is `kept`, and
    `invented` the share of histories in which the compactor's own words give a rule. `each` has
    every rule that holds, with what it comes to after each round.
    """

    kept: Sequence[Interval]
    by_group: Mapping[str, Sequence[Interval]]
    by_place: Mapping[str, Sequence[Interval]]
    verdicts: Mapping[str, Sequence[float]]
    misled: Sequence[Interval]
    reached: Sequence[float] | None
    facts: Sequence[float]
    left: Sequence[float]
    own: Sequence[float]
    unpaired: Sequence[float]
    longer: Sequence[float]
    changed: Sequence[float]
    failed: Sequence[float]
    seconds: Sequence[float]
    invented: Sequence[float] | None
    failure: str
    histories: int
    rules: int
    each: Sequence[Kept]
    floor: Sequence[Interval] | None = None


def is_compaction(record: Record) -> bool:
    """Whether a record is of compaction."""
    return record.spec.kind == CompactionSpec.kind


def cells(records: Iterable[Record]) -> dict[Place, Survival]:
    """Each cell with rules; beside it the floor, of the cell that differs in its control alone."""
    found = {
        place_of(record): survival(record.rules, record.rounds)
        for record in sorted(records, key=lambda record: record.id)
        if is_compaction(record) and record.rules
    }
    floors = {at: of for at, of in found.items() if at.control == "no_rules"}
    every = {}
    for at, of in sorted(found.items()):
        bare = floors.get(at._replace(control="no_rules"))
        if at.control == "none":
            every[at] = replace(of, floor=bare.kept, invented=bare.invented) if bare else of
    return every or floors


def place_of(record: Record) -> Place:
    """What a record was asked for."""
    rest = record.spec.rest
    asked = [f"{key} {rest.get(key)}" for key in ("seed", "rounds", "histories", "summary_prompt")]
    return Place(
        compactor=one_line(str(rest.get("compactor", "?")), 200),
        model=name(rest.get("model"), ""),
        budget=float(str(rest.get("budget", 1))),
        guard=name(rest.get("guard"), "none"),
        style="own" if rest.get("chat") else name(rest.get("style"), "?"),
        tokens=record.spec.context,
        control=name(rest.get("control"), "none"),
        rest=", ".join([*asked, *(f"{key} {value}" for key, value in record.versions.items())]),
    )


def survival(rules: Sequence[Kept], every: Iterable[Round]) -> Survival:
    """The figures of one cell."""
    holding = [row for row in rules if row.place in HOLDING]
    others = [row for row in rules if row.place not in HOLDING]
    by_round = defaultdict[int, list[Round]](list)
    for one in every:
        by_round[one.round].append(one)
    rounds = [by_round[number] for number in sorted(by_round)]

    def mean(of: Callable[[Round], float]) -> list[float]:
        return [float(np.mean([of(one) for one in every])) for every in rounds]

    verdicts = sorted({verdict for row in holding for verdict in row.verdicts})
    return Survival(
        kept=_over_rounds(holding, is_kept),
        by_group=_by(holding, lambda row: row.group),
        by_place=_by(holding, lambda row: row.place),
        verdicts={verdict: _means(holding, verdict.__eq__) for verdict in verdicts},
        misled=_over_rounds(others, lambda said: said in ("stale", "promoted")),
        reached=[*np.mean([row.reached for row in holding], axis=0).tolist()]
        if holding[0].reached
        else None,
        facts=mean(lambda one: one.facts / FACTS),
        left=mean(lambda one: one.left / one.budget),
        own=mean(lambda one: one.own),
        unpaired=mean(lambda one: one.unpaired > 0),
        longer=mean(lambda one: one.left > one.before),
        changed=mean(lambda one: one.changed),
        failed=mean(lambda one: bool(one.failure)),
        seconds=mean(lambda one: one.seconds),
        invented=None if rounds[0][0].invented is None else mean(lambda one: bool(one.invented)),
        failure=next((one.failure for of in rounds for one in of if one.failure), ""),
        histories=len({row.history for row in rules}),
        rules=len(holding),
        each=holding,
    )


def compare(first: Sequence[Kept], second: Sequence[Kept]) -> Comparison | None:
    """Compares what two cells keep of the same rules in the end; None where they share none."""
    sides = [
        {
            (row.history, row.place, row.family, row.option): float(is_kept(row.verdicts[-1]))
            for row in rows
            if row.place in HOLDING
        }
        for rows in (first, second)
    ]
    keys = sorted(sides[0].keys() & sides[1].keys())
    if not keys:
        return None
    kept = np.array([[side[key] for key in keys] for side in sides])
    histories = np.array([key[0] for key in keys])
    alike = [histories == history for history in np.unique(histories)]
    shares = np.array([[side[among].mean() for among in alike] for side in kept])
    changes = [(key[2], change) for key, change in zip(keys, kept[1] - kept[0], strict=True)]
    drawn = resampled(len(alike))
    return of_prompts(
        [np.repeat(side[None], len(drawn), 0) for side in shares], shares == 1, drawn, changes
    )


def is_kept(verdict: str) -> bool:
    """Whether a rule stands."""
    return verdict in KEPT


def _by(rows: Sequence[Kept], key: Callable[[Kept], str]) -> dict[str, list[Interval]]:
    every = defaultdict[str, list[Kept]](list)
    for row in rows:
        every[key(row)].append(row)
    return {named: _over_rounds(of, is_kept) for named, of in sorted(every.items())}


def _over_rounds(rows: Sequence[Kept], right: Callable[[str], bool]) -> list[Interval]:
    """The share of rows whose verdict is right, after each round."""
    return [*map(share_of, _values(rows, right))]


def _means(rows: Sequence[Kept], right: Callable[[str], bool]) -> list[float]:
    """The same without intervals."""
    return [float(_shares(values).mean()) for values in _values(rows, right)]


def _values(rows: Sequence[Kept], right: Callable[[str], bool]) -> list[list[tuple[int, float]]]:
    """Of each round, the history of each row and whether its verdict is right."""
    rounds = range(len(rows[0].verdicts))
    return [[(row.history, float(right(row.verdicts[at]))) for row in rows] for at in rounds]


def share_of(values: Sequence[tuple[int, float]]) -> Interval:
    """The mean over histories of their means, with its interval; each value has its history."""
    by_history = _shares(values)
    if len(values) == len(by_history):
        right = float(by_history.sum())
        return Interval(float(by_history.mean()), *exact_share(right, len(by_history)))
    return of_shares(by_history)


def _shares(values: Sequence[tuple[int, float]]) -> Float[np.ndarray, " histories"]:
    """The mean of each history's values."""
    by_history = defaultdict[int, list[float]](list)
    for history, value in values:
        by_history[history].append(value)
    return np.array([fmean(of) for of in by_history.values()])


class Read(NamedTuple):
    """What a model makes of what is left after a round, or of the whole history under `called`.

    That is "none", or how its cache is compressed: the rules all stand in the text.

    `bound` is `obeyed` with each rule said again before its request, `floor` what a guess among
    the options obeys, and `effective` where `obeyed` lies between them: from 0 to 1, where they are
    0.2 apart or more.
    """

    called: str
    stored: float
    obeyed: Interval
    tempted: Interval | None
    said: Interval | None
    bound: Interval | None
    floor: float
    effective: float | None


def readings(record: Record) -> list[Read]:
    """What the model of a record made of each round that it was asked about."""
    by_name = defaultdict[tuple[str, str], list[Choice]](list)
    for row in record.choices:
        by_name[row.compress, row.how].append(row)
    keys = keys_of(record.choices)
    judged = {asked: Judged(rows, keys) for asked, rows in by_name.items()}
    shares = {asked: one.share() for asked, one in judged.items()}
    floors = {called: one.chance for (called, how), one in judged.items() if how == "obeyed"}
    stored = _means([row for row in record.rules if row.place in HOLDING], is_kept)
    every = []
    for called, floor in floors.items():
        if not called.endswith(RESTATED):
            obeyed, bound = shares[called, "obeyed"], shares.get((called + RESTATED, "obeyed"))
            between = None
            if bound and bound.mean - floor >= LEAST_APART:
                between = (obeyed.mean - floor) / (bound.mean - floor)
            at = int(called.rpartition(" ")[2]) if called.startswith(ROUND) else 1
            every.append(
                Read(
                    called, stored[at - 1], obeyed, shares.get((called, "tempted")),
                    shares.get((called, "said")), bound, floor, between,
                )
            )  # fmt: skip
    return every

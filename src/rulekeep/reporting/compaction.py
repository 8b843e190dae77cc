"""Compaction: which rules are left after each round, which kinds go first, and what helps.

Records in, tables and charts out; no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from rulekeep.analysis.charts import Chart, Panel, Point, Series, styles
from rulekeep.analysis.summary import Interval
from rulekeep.compaction.compactors import SHOWN
from rulekeep.compaction.figures import Place, Survival
from rulekeep.compaction.verdicts import SHOWN as VERDICTS
from rulekeep.records import Record
from rulekeep.reporting.tables import Cell, Table, number_cell

Cells: TypeAlias = Mapping[Place, Survival]
# Below it a kind counts as lost.
LINE = 0.9
_MOST_LINES = 40


def label(at: Place) -> str:
    """A compactor with its model and guard, as tables and charts show it."""
    model = f", {at.model} model" if at.model else ""
    guard = "" if at.guard == "none" else f", {_guard(at.guard)}"
    name = at.compactor.removeprefix("saved:")
    shown = SHOWN.get(name, name) if name == at.compactor else f"output in {Path(name).name}"
    return f"{shown}{model}{guard}"


def _guard(guard: str) -> str:
    return {
        "system": "system prompt pinned", "reread": "rules file read again", "ends": "ends kept",
        "restate": "rules restated", "rules": "rules pinned",
    }.get(guard, guard)  # fmt: skip


def sentences(found: Cells) -> list[str]:
    """How many rules are left, and which kind goes first, of the best and the worst cell."""
    ranked = sorted(found, key=lambda at: -found[at].kept[-1].mean)
    said = []
    for at in dict.fromkeys((*ranked[:1], *ranked[-1:])):
        of = found[at]
        rounds = f"after {len(of.kept)} compactions" if len(of.kept) > 1 else "after one compaction"
        first = min(of.by_group, key=lambda group: of.by_group[group][-1].mean)
        said.append(
            f"{label(at)} at {at.budget:.0%} of {at.tokens:,} tokens keeps "
            f"{of.kept[-1].mean:.2f} of the rules {rounds}; of the kind {first} "
            f"{of.by_group[first][-1].mean:.2f}."
        )
    return said


def tables(found: Cells, records: Sequence[Record] = ()) -> list[Table]:
    """What is left of rules, by cell, by kind and by place, and what the verdicts rest on."""
    if not found:
        return []
    made = [_cells(found), _parts("kinds", found), _parts("places", found), _verdicts(found)]
    return [*made, *([_lines(records)] if records else [])]


def _cells(found: Cells) -> Table:
    rows = [
        {
            **_named(at),
            "after 1": number_cell(of.kept[0].mean, 2),
            f"after {len(of.kept)}": _interval(of.kept[-1]),
            "floor": number_cell(of.floor[-1].mean if of.floor else None, 2),
            "misled": number_cell(of.misled[-1].mean, 2),
            "invented": number_cell(max(of.invented) if of.invented else None, 2),
            "reached": number_cell(of.reached[0] if of.reached else None, 2),
            "facts": number_cell(of.facts[-1], 2),
            "tokens/budget": number_cell(max(of.left), 2),
            "unpaired": number_cell(max(of.unpaired), 2),
            "own words": number_cell(of.own[0], 0),
            "failed": number_cell(of.failed[-1], 2),
            "ms": number_cell(1000 * max(of.seconds), 1),
            "histories": number_cell(of.histories, 0),
        }
        for at, of in _ranked(found)
    ]
    return Table.of(
        "compaction", "Rules left after compaction",
        "Share of rules that hold and are left, word for word or in other words; best first. "
        "Floor: the same where no rule was stated. Misled: withdrawn and quoted rules that stand "
        "as if they held. Invented: histories without rules in which the compactor's own words "
        "give one. Reached: rules that the summarizing model was given in the first round. "
        "Facts: of the task, left at the end. Tokens/budget: what is left for each token asked "
        "for, at most over rounds. Unpaired: histories with a tool call or result alone. Own "
        "words: tokens that the compactor wrote itself. Failed: histories in which it failed. "
        "Intervals: 95 %, histories are the unit.", rows,
    )  # fmt: skip


def _ranked(found: Cells) -> list[tuple[Place, Survival]]:
    return sorted(found.items(), key=lambda cell: (-cell[1].kept[-1].mean, -cell[1].facts[-1]))


def _named(at: Place) -> dict[str, Cell]:
    return {
        "compactor": Cell(label(at)), "budget": number_cell(at.budget, 2),
        "histories of": Cell(at.style), "tokens": number_cell(at.tokens, 0),
    }  # fmt: skip


def _parts(which: str, found: Cells) -> Table:
    """A line a cell, a column a kind of rule or a place: after the first round and the last."""
    rows = []
    for at, of in _ranked(found):
        parts = of.by_group if which == "kinds" else of.by_place
        values = {name: _first_last(every) for name, every in parts.items()}
        rows.append({**_named(at), **values})
    title = "Which kinds go first" if which == "kinds" else "Which places go first"
    return Table.of(which, title, "Share left after the first round and after the last.", rows)


def _first_last(every: Sequence[Interval]) -> Cell:
    if len(every) == 1:
        return number_cell(every[0].mean, 2)
    return Cell(f"{every[0].mean:.2f} → {every[-1].mean:.2f}", every[-1].mean)


def _verdicts(found: Cells) -> Table:
    names = [name for name in VERDICTS if any(name in of.verdicts for of in found.values())]
    rows = [
        {
            **_named(at),
            **{VERDICTS[name]: _shares(of.verdicts.get(name)) for name in names},
        }
        for at, of in _ranked(found)
    ]
    meaning = (
        "Of rules that hold, after the first round and after the last. Weakened: the option "
        "stands without the force of a rule. Stale: the version before a revision."
    )
    return Table.of("verdicts", "What is left of a rule", meaning, rows)


def _shares(every: Sequence[float] | None) -> Cell:
    if every is None:
        return number_cell(0.0, 2)
    return Cell(f"{every[0]:.2f} → {every[-1]:.2f}", every[-1])


def _lines(records: Sequence[Record]) -> Table:
    """The lines on which verdicts rest that are not word for word."""
    rows = [
        {
            "compactor": record.spec.rest.get("compactor", "?"), "history": row.history,
            "round": at, "family": row.family, "place": row.place,
            "verdict": VERDICTS[verdict], "said by": role, "line": line,
        }
        for record in records
        for row in record.rules
        for at, (verdict, role, line) in enumerate(
            zip(row.verdicts, row.roles, row.lines, strict=True), 1
        )
        if line
    ]  # fmt: skip
    texts = [{key: str(value) for key, value in row.items()} for row in rows[:_MOST_LINES]]
    return Table.of("lines", "What verdicts rest on", f"The first {_MOST_LINES}.", texts)


def _interval(of: Interval) -> Cell:
    return Cell(of.text(".2f"), of.mean)


def charts(found: Cells) -> list[Chart]:
    """Rules left over rounds, a panel a budget and kind of history."""
    panels = [*_over_rounds(found)]
    caption = "Share of rules left after each compaction; bars are 95 % intervals over histories."
    if not panels:
        return []
    return [
        Chart(
            key="compaction", title="Rules left, round after round", caption=caption, panels=panels
        )
    ]


def _over_rounds(found: Cells) -> Iterator[Panel]:
    look = styles([label(at) for at, _ in _ranked(found)])
    for budget, style, tokens in dict.fromkeys((at.budget, at.style, at.tokens) for at in found):
        lines = [
            Series(
                label=label(at), style=look[label(at)],
                points=[Point(n, one.mean, one.low, one.high) for n, one in enumerate(of.kept, 1)],
            )
            for at, of in _ranked(found)
            if (at.budget, at.style, at.tokens) == (budget, style, tokens)
        ]  # fmt: skip
        yield Panel(
            title=f"{budget:.0%} of {tokens:,} tokens, {style}", x_label="compactions",
            y_label="rules left", series=lines, score=True,
            x_ticks=[*range(1, 1 + max(len(line.points) for line in lines))],
        )  # fmt: skip

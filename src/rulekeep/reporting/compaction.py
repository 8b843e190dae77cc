"""Compaction: which rules are left after each round, which kinds go first, and what helps.

Records in, tables and charts out; no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from rulekeep.analysis.charts import Chart, Panel, Point, Series, styles
from rulekeep.analysis.summary import Interval
from rulekeep.compaction.compactors import SHOWN
from rulekeep.compaction.figures import Place, Survival, place_of, readings
from rulekeep.compaction.verdicts import SHOWN as VERDICTS
from rulekeep.records import Record
from rulekeep.reporting.page import FIRST, HELPS, LIMITS, SURVIVE, Answer
from rulekeep.reporting.tables import (
    MISSING_CELL,
    Cell,
    Table,
    interval_cell,
    number_cell,
    without_usual,
    words,
    words_list,
)
from rulekeep.specs.language import NO_COMPRESSION

Cells: TypeAlias = Mapping[Place, Survival]
# What keeps less has lost rules.
LINE = 0.9
_MOST_LINES = 40
_NOT_ASKED = "Whether a model obeys what is left was not asked."
_GUARDS = {
    "none": "", "system": "system pinned", "reread": "file read again", "ends": "ends kept",
    "restate": "rules restated", "rules": "rules pinned",
}  # fmt: skip
_STATED = {
    "system": "in the system prompt", "file": "in the rules file", "first": "at the start",
    "middle": "in the middle", "late": "near the end", "several": "in several turns",
    "revised": "and revised",
}  # fmt: skip
# Columns that are left out where they say this of every cell.
_USUAL = {"misled": "0.00", "invented": "0.00", "unpaired": "0.00", "failed": "0.00"}
_ASKED = ("budget", "histories of", "tokens")


def label(at: Place) -> str:
    """A compactor with its model and guard, as tables and charts show it."""
    return ", ".join(filter(None, (_compactor(at), _GUARDS.get(at.guard, at.guard))))


def _compactor(at: Place) -> str:
    name = at.compactor.removeprefix("saved:")
    shown = SHOWN.get(name, name) if name == at.compactor else f"output in {Path(name).name}"
    return f"{shown}, {at.model} model" if at.model else shown


def answers(found: Cells, records: Sequence[Record] = ()) -> list[Answer]:
    """What a builder asks, each with its sentences and its table or figure."""
    if not found:
        return []
    asked = any(record.choices for record in records)
    (best, kept), *_ = ranked = _ranked(found)
    alone = _alone(found)
    (worst, lost) = alone[-1]
    rounds = f"{len(kept.kept)} compactions" if len(kept.kept) > 1 else "one compaction"
    size = f"{worst.budget:.0%} of {worst.tokens:,} tokens"
    survive = [
        f"After {rounds} to {at.budget:.0%} of {at.tokens:,} tokens, {label(at)} keeps "
        f"{of.kept[-1].text('.2f')} of the rules."
        for at, of in dict([alone[0], alone[-1]]).items()
    ]
    kinds, places = (_least(parts) for parts in (lost.by_group, lost.by_place))
    gone = [f"rules of the kind {kinds}"] if kinds else []
    gone += [f"rules stated {places}"] if places else []
    first = [
        f"Under {label(worst)} to {size}, {' and '.join(gone)} go first."
        if gone
        else f"Under {label(worst)} to {size} no kind and no place goes before another.",
        "This is what the text has lost. "
        + ("What a model does with the rest, the table shows." if asked else _NOT_ASKED),
    ]
    enough = [(at, of) for at, of in ranked if of.kept[-1].mean >= LINE]
    if enough:
        # What drops the task to keep its rules is no help.
        least = LINE * max(of.facts[-1] for _, of in enough)
        at, of = min(
            (cell for cell in enough if cell[1].facts[-1] >= least),
            key=lambda one: max(one[1].left),
        )
        helps = [
            f"The cheapest that keeps {LINE:g} of the rules: {label(at)}, with "
            f"{max(of.left):.2f} of the budget and {of.facts[-1]:.2f} of the task's facts."
        ]
    else:
        helps = [f"Nothing that was tried keeps {LINE:g} of the rules; {label(best)} keeps most."]
    return [
        Answer(SURVIVE, survive, ("figure-compaction",)),
        Answer(FIRST, first, ("first", "read") if asked else ("first",)),
        Answer(HELPS, helps, ("compaction",)),
        Answer(LIMITS, words_list("compaction_limits")),
    ]


def _least(parts: Mapping[str, Sequence[Interval]]) -> str:
    """The kinds or places of which least is left, with their shares; empty where all are alike."""
    left = {name: (every[-1].mean, every[0].mean) for name, every in parts.items()}
    least = [name for name, of in left.items() if of == min(left.values())]
    if len(least) == len(left):
        return ""
    shown = ", ".join(_STATED.get(name, name) for name in least)
    return f"{shown} ({_first_last(parts[least[0]]).text})"


def _alone(found: Cells) -> list[tuple[Place, Survival]]:
    """Cells without a guard, if there are some: what compactors do by themselves."""
    ranked = _ranked(found)
    return [cell for cell in ranked if cell[0].guard == "none"] or ranked


def tables(found: Cells, records: Sequence[Record] = ()) -> list[Table]:
    """What is left of rules, by cell, by kind and by place, and what the verdicts rest on."""
    if not found:
        return []
    made = [first(found), cells_table(found), _verdicts(found)]
    made += [read(records)] if any(record.choices for record in records) else []
    return [*made, *([_lines(records)] if records else [])]


def first(found: Cells) -> Table:
    """A line a kind and a place, a column a round; of several compactors a column each, at last."""
    alone, rows = _alone(found), list[dict[str, Cell]]()
    (_, leading), several = alone[-1], len(alone) > 1
    for which in ("by_group", "by_place"):
        for part in getattr(leading, which):
            every = {_short(at, dict(alone)): getattr(of, which).get(part) for at, of in alone}
            of = getattr(leading, which)[part]
            columns = (
                {name: _last(of) for name, of in every.items()}
                if several
                else {f"round {n}": number_cell(one.mean, 2) for n, one in enumerate(of, 1)}
            )
            rows.append(
                {"rule": Cell(f"stated {_STATED[part]}" if part in _STATED else part), **columns}
            )
    table = Table.of("first", *words("first", several=several), rows)
    return replace(table, shaded=frozenset(table.header[1:]))


def read(records: Sequence[Record]) -> Table:
    """A line a round that a model was asked about: stored, said and obeyed."""
    rows = [
        {
            **_named(place_of(record)), "control": Cell(place_of(record).control),
            "after": Cell("no compaction" if one.called == NO_COMPRESSION else one.called),
            "stored": number_cell(one.stored, 2), "obeyed": interval_cell(one.obeyed, 2),
            "tempted": interval_cell(one.tempted, 2), "said": interval_cell(one.said, 2),
            "bound": interval_cell(one.bound, 2), "floor": number_cell(one.floor, 2),
            "effective": number_cell(one.effective, 2),
        }
        for record in sorted(records, key=place_of)
        if record.choices
        for one in readings(record)
    ]  # fmt: skip
    return Table.of(
        "read", *words("read"), without_usual(rows, {**_usual(rows), "control": "none"})
    )


def _short(at: Place, found: Cells) -> str:
    """A compactor in few letters, with what else differs among the cells."""
    name = Path(at.compactor.removeprefix("saved:")).name.rpartition(":")[2]
    differing = [
        str(getattr(at, key))
        for key in ("guard", "budget", "style", "tokens")
        if len({getattr(other, key) for other in found}) > 1
    ]
    return " ".join(filter(None, [name, at.model, *differing]))


def _last(every: Sequence[Interval] | None) -> Cell:
    return number_cell(every[-1].mean, 2) if every else MISSING_CELL


def cells_table(found: Cells) -> Table:
    """A line a cell: what keeps most first, and of these what leaves least text."""
    rounds = {len(of.kept) for of in found.values()}
    last = f"after {max(rounds)}" if len(rounds) == 1 else "in the end"
    rows = [
        {
            **_named(at),
            last: interval_cell(of.kept[-1], 2, span=True),
            "facts": number_cell(of.facts[-1], 2),
            "of budget": number_cell(max(of.left), 2),
            "after 1": number_cell(of.kept[0].mean, 2),
            "floor": number_cell(of.floor[-1].mean if of.floor else None, 2),
            "misled": number_cell(of.misled[-1].mean, 2),
            "invented": number_cell(max(of.invented) if of.invented else None, 2),
            "reached": number_cell(of.reached[0] if of.reached else None, 2),
            "unpaired": number_cell(max(of.unpaired), 2),
            "failed": number_cell(of.failed[-1], 2),
            "own words": number_cell(of.own[0], 0),
            "ms": number_cell(1000 * max(of.seconds), 1),
            "histories": number_cell(of.histories, 0),
        }
        for at, of in _ranked(found)
    ]
    return Table.of("compaction", *words("compaction"), without_usual(rows, _usual(rows)))


def _usual(rows: Sequence[Mapping[str, Cell]]) -> dict[str, str]:
    """What to leave out: what is 0 in all cells, and what all cells were asked for alike."""
    alike = {column: rows[0][column].text for column in _ASKED if len(rows) > 1}
    return {"guard": "", **_USUAL, **alike}


def _ranked(found: Cells) -> list[tuple[Place, Survival]]:
    """What keeps most first; of equals, what keeps most facts, and then what leaves least text."""

    def key(cell: tuple[Place, Survival]) -> tuple[float, float, float]:
        _, of = cell
        return -round(of.kept[-1].mean, 2), -round(of.facts[-1], 2), max(of.left)

    return sorted(found.items(), key=key)


def _named(at: Place) -> dict[str, Cell]:
    return {
        "compactor": Cell(_compactor(at)), "guard": Cell(_GUARDS.get(at.guard, at.guard)),
        "budget": number_cell(at.budget, 2), "histories of": Cell(at.style),
        "tokens": number_cell(at.tokens, 0),
    }  # fmt: skip


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
    return Table.of("verdicts", *words("verdicts"), without_usual(rows, _usual(rows)))


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
    return Table.of("lines", *words("lines", most=_MOST_LINES), texts)


def charts(found: Cells) -> list[Chart]:
    """Rules left over rounds, a panel a budget and kind of history."""
    title, caption = words("compaction_rounds")
    panels = [*_over_rounds(dict(_alone(found)))] if found else []
    return [Chart(key="compaction", title=title, caption=caption, panels=panels)]


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

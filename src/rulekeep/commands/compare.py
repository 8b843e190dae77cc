"""`rulekeep compare`: two folders, or two compressions, of rules in words, prompt by prompt.

Folders of `rulekeep compact` too, history by history.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rulekeep.analysis.summary import p_text
from rulekeep.commands.options import Texts
from rulekeep.commands.printed import print_tables
from rulekeep.compaction.figures import compare as compare_kept
from rulekeep.compaction.figures import is_compaction, place_of
from rulekeep.console import EXIT_FAILED, say
from rulekeep.language import comparing
from rulekeep.language.cells import Place, grouped
from rulekeep.language.comparing import Comparison, worse
from rulekeep.records import Record
from rulekeep.records.record import Choice, Kept
from rulekeep.records.store import results
from rulekeep.reporting.language import USUAL
from rulekeep.reporting.tables import Cell, Table, Value, interval_cell, number_cell, words
from rulekeep.specs import UsageError

# What a cell is asked for, whatever reads it, as tables name it: cells that agree in these are
# compared.
_COLUMNS = {
    "mentions": "mentions", "distance": "distance", "placement": "rules at", "control": "control",
    "rules": "rules", "seed": "seed",
}  # fmt: skip
_COMPACTED = {
    "budget": "budget", "style": "histories of", "tokens": "tokens", "seed": "seed",
    "round": "round",
}  # fmt: skip
# What the cells of one folder must agree in.
_OF_A_SIDE = ("model", "families", "chat")
_MOST_FAMILIES = 5
# By what was asked for, then by compression.
Cells: TypeAlias = Mapping[tuple[str, ...], Mapping[str, Sequence[Any]]]


def compare(
    first: Path, second: Path | None = None, /, *, compress: Texts = (), fail_if_worse: bool = False
) -> int:
    """Compare what two runs of `rulekeep language` or `rulekeep compact` keep.

    Cells that were asked for alike are compared, rule by rule in the same prompts or histories;
    compactors after each round. Shown are the difference with its interval, prompts whose every
    rule is kept (McNemar's exact test), and the families that lose most.

    Parameters
    ----------
    first
        A folder of runs.
    second
        Another one; the same if left out.
    compress
        A compression or compactor to compare, or two between commas: that of the first folder, and
        that of the second. With a guard or model it is keep_last+system, or summary+copying. Each
        that both have if left out.
    fail_if_worse
        Exit code 1 where the second keeps fewer rules, of compactors after the last round. That is
        shown after Holm over all of these.
    """
    if len(compress) > 2:
        raise UsageError(f"--compress {','.join(compress)}: name one, or two")
    if second is None and len(compress) < 2:
        raise UsageError("give another folder, or two compressions, as in --compress none,h2o@0.25")
    records = [results(folder) if folder.is_dir() else [] for folder in (first, second or first)]
    compacted = [*map(_compacted, records)]
    has_rounds = any(compacted)
    columns, judge = (_COMPACTED, compare_kept) if has_rounds else (_COLUMNS, comparing.compare)
    cells = compacted if has_rounds else [*map(_cells, (first, second or first), records)]
    made = dict(_comparisons(cells[0], cells[1], compress, judge))
    if not made:
        raise UsageError(
            f"{first} and {second or first}: no cell of both has the same rules in the same texts; "
            "give both the same options but what is compared"
        )
    # Of the rounds of two compactors the last one counts.
    ends = {(cell[: -2 if has_rounds else -1], cell[-1]): cell for cell in made}
    last = {cell: made[cell] for cell in ends.values()}
    print_tables(_tables(made, last, (*columns.values(), "compared")))
    lost = worse([*last.values()])
    if lost:
        say(f"{len(lost)} of {len(last)} comparisons show that the second keeps fewer rules")
    return EXIT_FAILED if lost and fail_if_worse else 0


def _compacted(records: Sequence[Record]) -> Cells:
    """The rules of each compactor, with model and guard, in each cell and round; the most rules."""
    cells = defaultdict[tuple[str, ...], dict[str, Sequence[Kept]]](dict)
    for record in filter(is_compaction, records):
        place = place_of(record)
        if place.control == "none":
            guard = "" if place.guard == "none" else place.guard
            side = "+".join(filter(None, (place.compactor, place.model, guard)))
            for at in range(1, len(record.rules[0].verdicts) + 1):
                of = {**vars(record.spec), **place._asdict(), "round": at}
                cell = cells[tuple(str(of[key]) for key in _COMPACTED)]
                rules = [row._replace(verdicts=row.verdicts[:at]) for row in record.rules]
                cell[side] = max(rules, cell.get(side, ()), key=len)
    return cells


def _cells(folder: Path, records: Sequence[Record]) -> Cells:
    """The rows of each compression of each cell; of several those with most prompts.

    Raises:
        UsageError: there is none, or two of one cell are of different models or families.
    """
    cells, places = defaultdict[tuple[str, ...], dict[str, list[Choice]]](dict), dict[Any, Place]()
    for place, record in grouped(records).items():
        cell = tuple(str(getattr(place, key)) for key in _COLUMNS)
        other = places.setdefault(cell, place)
        if any(getattr(other, key) != getattr(place, key) for key in _OF_A_SIDE):
            raise UsageError(
                f"{folder}: has two models, families or chats; give each a folder of its own"
            )
        by_name = defaultdict[str, list[Choice]](list)
        for row in record.choices:
            by_name[row.compress].append(row)
        for name, rows in by_name.items():
            if len(rows) > len(cells[cell].get(name, ())):
                cells[cell][name] = rows
    if not cells:
        raise UsageError(f"{folder}: has no run of rulekeep language or compact; give its --out")
    return cells


def _comparisons(
    first: Cells, second: Cells, compress: Sequence[str], judge: Callable[..., Comparison | None]
) -> Iterator[tuple[tuple[str, ...], Comparison]]:
    for cell, mine in first.items():
        other = second.get(cell, {})
        pairs = [(compress[0], compress[-1])] if compress else [(name, name) for name in mine]
        if not compress and len(mine) == len(other) == 1:
            pairs = [*zip(mine, other, strict=True)]
        for before, after in pairs:
            if before in mine and after in other:
                compared = judge(mine[before], other[after])
                if compared is not None:
                    named = before if before == after else f"{before} → {after}"
                    yield (*cell, named), compared


def _tables(
    made: Mapping[tuple[str, ...], Comparison], last: Mapping[tuple[str, ...], Comparison],
    heads: Sequence[str],
) -> list[Table]:  # fmt: skip
    places = {cell: dict(zip(heads, cell, strict=True)) for cell in made}
    cells: Iterator[dict[str, Value]] = (
        {
            **places[cell],
            "first": interval_cell(found.first),
            "second": interval_cell(found.second),
            "second less first": interval_cell(found.difference),
            "p": Cell(p_text(found.p_value), found.p_value),
            "all rules, first": number_cell(found.all_first),
            "all rules, second": number_cell(found.all_second),
            "in first alone": number_cell(found.only_first, 0),
            "in second alone": number_cell(found.only_second, 0),
            "McNemar p": Cell(p_text(found.mcnemar), found.mcnemar),
            "prompts": number_cell(found.prompts, 0),
        }
        for cell, found in made.items()
    )
    families: Iterator[dict[str, Value]] = (
        {**places[cell], "family": family, "second less first": number_cell(change)}
        for cell, found in last.items()
        for family, change in [*found.by_family.items()][:_MOST_FAMILIES]
    )
    said = words("compared_families", most=_MOST_FAMILIES)
    shown = [Table.of("compared", cells), Table.of("families", families, said)]
    return [table.without({**USUAL, "mentions": "none"}) for table in shown]

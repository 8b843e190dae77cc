"""What a score is worth: every score with its chance taken out, and where retention is kept.

Means over the seeds that ended training; `tables.csv` has the same unrounded, with intervals.
"""

from collections.abc import Iterable, Mapping, Sequence

from rulekeep.analysis.cells import Contest, Group
from rulekeep.records.figures import SCORES
from rulekeep.records.record import PARTS, Part
from rulekeep.reporting.tables import MISSING, Cell, Table, mean_cell, place_cells, seeds_cell

# More are in the CSV: K may be 64.
_MOST_PARTS = 8


def corrected(found: Sequence[Contest]) -> Table:
    """Every score of every cell, 0 at chance and 1 where all is right."""
    rows = [
        {
            **place_cells(group, test),
            **{one.title: _corrected(group, figure, test) for figure, one in SCORES.items()},
            "seeds": seeds_cell(group.corrected("retention", test)),
        }
        for group, test in _cells(found)
    ]
    return Table.of(
        key="corrected",
        title="Scores corrected for chance",
        meaning="(score − chance) / (1 − chance): 0 is the best guess without the context, 1 is "
        "perfect. The chance level is in brackets. “All rules”: examples in which every first"
        " use of a rule is right.",
        rows=rows,
    )


def parts(found: Sequence[Contest]) -> Table:
    """Retention of every cell by output step, by rule position and by kind of rule."""
    rows = []
    for group, test in _cells(found):
        kept = {part: means(group, part, test) for part in PARTS}
        if not any(kept.values()):
            continue
        step, position, kind = (_listed(kept[part]) for part in PARTS)
        rows.append(
            {
                **place_cells(group, test),
                "by output step": step,
                "by rule position": position,
                "by kind": kind,
                "seeds": seeds_cell(group.finite("retention", test)),
            }
        )
    return Table.of(
        key="parts",
        title="Retention by output step, rule position and kind",
        meaning="Mean over seeds, the chance level in brackets. Steps and places count from 0. "
        "Without memory, prohibitions and requirements have a mean of at most a half. A "
        "default is what an attribute shows without a rule.",
        rows=rows,
    )


def means(group: Group, part: str, test: int) -> dict[str, Part]:
    """Mean retention and chance of each part over the seeds that have it."""
    by_label: dict[str, list[Part]] = {}
    for evaluation in group.tests(test).values():
        for label, one in evaluation.parts[part].items():
            by_label.setdefault(label, []).append(one)
    return {
        label: Part(*(sum(shares) / len(several) for shares in zip(*several, strict=True)))
        for label, several in by_label.items()
    }


def _cells(found: Sequence[Contest]) -> Iterable[tuple[Group, int]]:
    for contest in found:
        for group in contest.groups:
            for test in group.test_contexts:
                if group.tests(test):
                    yield group, test


def _corrected(group: Group, figure: str, test: int) -> Cell:
    cell = mean_cell(group.corrected(figure, test), 3)
    level = group.chance(figure, test)
    if cell.text == MISSING or level is None:
        return cell
    return cell._replace(text=f"{cell.text} ({level:.3f})")


def _listed(kept: Mapping[str, Part]) -> Cell:
    shown = [
        f"{label}: {one.retention:.3f} ({one.chance:.3f})"
        for label, one in list(kept.items())[:_MOST_PARTS]
    ]
    if len(kept) > _MOST_PARTS:
        shown.append(f"… {len(kept)} in all")
    return Cell("; ".join(shown) or MISSING)

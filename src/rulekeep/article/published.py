"""What the article published (wop, "An experiment with attention", May 2026; MIT licence).

The figures after step 80 at seed 7. A cell of ours is in tolerance when its token and rule
accuracy are within 0.01 and its validation loss is within 0.02 of them.
"""

from collections.abc import Mapping
from typing import NamedTuple

from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.specs import PUBLISHED_SEED, PUBLISHED_STEPS, ArticleCell

TOLERANCES = {"val_loss": 0.02, "token_accuracy": 0.01, "rule_accuracy": 0.01}
# Figures are published to three decimals: half of the last one is no deviation.
_ROUNDING = 0.0005
_SHOWN = {
    "val_loss": "loss", "token_accuracy": "token", "rule_accuracy": "rule",
    "retention": "retention", "exact": "exact",
}  # fmt: skip


class PublishedFigures(NamedTuple):
    """One row of the article's table, and the seconds it took on the author's GPU."""

    val_loss: float
    token_accuracy: float
    rule_accuracy: float
    elapsed_seconds: float


_FIGURES = {
    (64, "attention"): PublishedFigures(0.244, 0.938, 0.906, 2.6),
    (64, "compressed"): PublishedFigures(0.937, 0.699, 0.492, 13.7),
    (256, "attention"): PublishedFigures(0.709, 0.757, 0.581, 1.5),
    (256, "compressed"): PublishedFigures(1.095, 0.633, 0.358, 55.0),
    (1028, "attention"): PublishedFigures(0.990, 0.701, 0.492, 9.9),
    (1028, "compressed"): PublishedFigures(1.163, 0.577, 0.263, 229.4),
}


def published_figures(cell: ArticleCell) -> PublishedFigures | None:
    """The published row of a cell, or None where the article has none."""
    asked = (cell.seed, cell.steps, cell.decoys)
    if asked != (PUBLISHED_SEED, PUBLISHED_STEPS, "published"):
        return None
    return _FIGURES.get((cell.context, cell.model))


def comparison(records: Mapping[ArticleCell, Record]) -> tuple[str, str, list[str]]:
    """The table of ours beside published, what it comes to, and the cells out of tolerance.

    The table has a line a cell, the published figures in brackets.
    """
    body, failures, compared = [], [], 0
    for cell, record in records.items():
        model = f"{cell.model} (serial)" if cell.serial else cell.model
        line = [str(cell.context), model, str(cell.seed)]
        if not record.evaluations:
            failures.append(f"{cell.label}: {record.status}: {record.reason}")
            body.append([*line, *["–"] * len(_SHOWN), record.status])
            continue
        ours, published = record.evaluations[0].figures, published_figures(cell)
        theirs = {} if published is None else published._asdict()
        line += [
            f"{ours[name]:.3f}{f' ({theirs[name]:.3f})' if name in theirs else ''}"
            for name in _SHOWN
        ]
        differences = {name: ours[name] - theirs[name] for name in TOLERANCES if theirs}
        out = [
            f"{_SHOWN[name]} {difference:+.3f} (at most {TOLERANCES[name]})"
            for name, difference in differences.items()
            # What is no number is out of every tolerance.
            if not abs(difference) <= TOLERANCES[name] + _ROUNDING
        ]
        if out:
            failures.append(f"{cell.label}: {', '.join(out)}")
        compared += bool(theirs)
        body.append([*line, "out of tolerance" if out else "ok" if theirs else "–"])
    verdict = "no cell here has a published figure"
    if failures:
        verdict = f"NO, {len(failures)} of {len(records)} cells are out of tolerance"
    elif compared:
        verdict = f"yes, all {compared} published cells come out within tolerance"
    header = ["context", "model", "seed", *_SHOWN.values(), "verdict"]
    return markdown_table(header, body), verdict, failures

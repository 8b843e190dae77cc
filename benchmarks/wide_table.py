"""Does it hang on the exam's small model? Our memory and attention, seven times as large.

    rulekeep sweep wide --out results/wide
    python benchmarks/wide_table.py                       # of that folder
    python benchmarks/wide_table.py RUNS

`recite`, marked rules: retention and `exact` on test, trained up to 256 tokens; mean over the seeds
with its 95 % interval (Student t), and how much more our memory keeps, paired by seed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rungs import CONTEXTS, LONG, RANKED_AT, SHORT, Row, row_of

from rulekeep.article.report import markdown_table
from rulekeep.presets import WIDE, WIDE_SEEDS
from rulekeep.rows import text_of
from rulekeep.store import Record, read_runs
from rulekeep.summary import paired_difference

ROOT = Path(__file__).parent.parent / "results" / "wide"
CELL = ("recite", "marked")


def rows(records: Sequence[Record]) -> list[Row]:
    """Attention's row and our memory's, of who is run in full."""
    found = (row_of(one, records, *CELL, enough=len(WIDE_SEEDS)) for one in WIDE)
    return [row for row in found if row is not None]


def page(records: Sequence[Record]) -> str:
    """The table, as Markdown: who is run in full, and last the difference once both are."""
    asked = [("retention", at) for at in CONTEXTS] + [("exact", at) for at in (SHORT, LONG)]
    head = [", ".join(CELL), "parameters", f"KiB at {RANKED_AT}", "rate"]
    head += [*(f"{figure}, {at}" for figure, at in asked), f"each seed at {LONG}"]
    body = []
    found = rows(records)
    for row in found:
        cells = [text_of(getattr(row, figure)[at]) for figure, at in asked]
        beside = [f"{row.parameters:,}", f"{row.kib:,.1f}", f"{row.rate:.3g}"]
        body.append([row.name, *beside, *cells, row.by_seed(LONG)])
    if len(found) == len(WIDE):
        theirs, ours = found
        more = [paired_difference(ours.seeds[at], theirs.seeds[at]).summary for at in CONTEXTS]
        body.append(["difference", "", "", "", *(one.text() for one in more), "", "", ""])
    return markdown_table(head, body) + "\n"


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    sys.stdout.write(page(read_runs(root).records))

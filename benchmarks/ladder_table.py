"""The ladder of docs/evidence.md: from the article's slots to our memory, a named change a rung.

    python benchmarks/ladder_table.py                     # of results/catalogue
    python benchmarks/ladder_table.py RUNS

The runs of the preset `ladder`: retention on test and, at the longest length, `exact`: means over
the seeds with 95 % intervals (Student t), early and marked rules, each at the rate that dev chose;
and what retention gains there on the rung that it changes, paired by seed.
A rung with fewer than five seeds is named below as not run yet. First the short table of
docs/findings.md, retention at the longest length alone. Draws `ladder.png` beside them: a rung a
row, each seed a point, the interval a bar.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rungs import NOT_RUN, ROOT, Row, row_of

from rulekeep.analysis.plots import as_bytes, strips
from rulekeep.analysis.rows import text_of
from rulekeep.analysis.summary import paired_difference
from rulekeep.printable import markdown_table
from rulekeep.records.store import Record, read_runs, write_bytes
from rulekeep.sweeps.presets import LADDER, LADDER_ASIDE

PLACEMENTS = ("early", "marked")
# Within the lengths trained on, and where gates that leak a little, or less than that, are seen.
CONTEXTS = (256, 4096, 16384)
FIGURE = "ladder.png"
# What each rung of the preset changes, in its order.
RUNGS = (
    "the article's slots",
    "content-addressed write: linear attention",
    "a write erases what it replaces: delta rule",
    "earliness: how early a token is",
    "write gate clipped: exact zeros",
    "a shut gate still learns: straight-through",
    "the gate sees eight tokens, from zero",
    "reads before it writes",
    "a toll on open gates",
    "and on those that have only just shut",
    "the next without earliness",
    "the first 500 updates free of toll: sparse_delta",
)
# Beside the chain, under the rung that it differs from.
ASIDE, SIGMOID = 7, "the same with a sigmoid: no exact zeros"
# What a rung is held against where that is not the one above it.
BESIDE = {"7a": "7", "8": "7", "11": "12", "12": "10"}
NONE = "–"
STEPS = [(f"{place}", *rung) for place, rung in enumerate(zip(RUNGS, LADDER, strict=True), 1)]
STEPS.insert(ASIDE, (f"{ASIDE}a", SIGMOID, *LADDER_ASIDE))


def short(records: Sequence[Record]) -> str:
    """The rungs with retention at the longest length, both placements in one table."""
    by_placement = [_rows(records, placement) for placement in PLACEMENTS]
    head = ["", "what a rung changes", *(f"{placement} rules" for placement in PLACEMENTS)]
    body = []
    for rungs in zip(*by_placement, strict=True):
        number, rung, _ = rungs[0]
        kept = [text_of(row and row.retention[CONTEXTS[-1]]) for *_, row in rungs]
        body.append([number, rung, *kept])
    return markdown_table(head, body) + "\n"


def page(records: Sequence[Record]) -> str:
    """A table a placement, as Markdown, in the order of the rungs."""
    parts = []
    for placement in PLACEMENTS:
        head = ["", f"recite, {placement}", *(f"{at:,} tokens" for at in CONTEXTS)]
        head += [f"exact at {CONTEXTS[-1]:,}", "rate", f"gain at {CONTEXTS[-1]:,}", "over"]
        rungs = _rows(records, placement)
        rows = {number: row for number, _, row in rungs}
        body, missing = [], []
        for number, rung, row in rungs:
            if row is None:
                missing.append(number)
                continue
            cells = [text_of(row.retention[context]) for context in CONTEXTS]
            cells.append(text_of(row.exact[CONTEXTS[-1]]))
            over = beside(number)
            gained = gain(row, None if over is None else rows[over])
            # What was not compared is not named.
            said = over if over is not None and gained != NONE else NONE
            body.append([number, rung, *cells, f"{row.rate:g}", gained, said])
        if body:
            parts.append(markdown_table(head, body) + "\n")
        if missing:
            count = f"{len(missing)} of {len(STEPS)} rungs"
            named = f" ({', '.join(missing)})" if body else ""
            parts.append(f"Not run yet, {placement} rules: {count}{named}.\n")
    return "\n".join(parts)


def figure(records: Sequence[Record]) -> Figure:
    """A panel a placement: retention of each rung at every length tested."""
    panels = {
        f"recite, {placement} rules": [
            row.strip if row else NOT_RUN for *_, row in _rows(records, placement)
        ]
        for placement in PLACEMENTS
    }
    return strips(panels, [f"{rung}  {number}" for number, rung, _ in STEPS], CONTEXTS)


def beside(number: str) -> str | None:
    """The rung that one changes; None for the first."""
    numbers = [step[0] for step in STEPS]
    place = numbers.index(number)
    return BESIDE.get(number, numbers[place - 1] if place else None)


def gain(row: Row | None, over: Row | None) -> str:
    """What a row keeps more than another at the longest length, paired by seed."""
    mine, other = (None if one is None else one.seeds[CONTEXTS[-1]] for one in (row, over))
    # One may be of another preset, and not tested as far.
    return paired_difference(mine, other).summary.text() if mine and other else NONE


def _rows(records: Sequence[Record], placement: str) -> list[tuple[str, str, Row | None]]:
    return [
        (number, rung, row_of(one, records, "recite", placement, CONTEXTS))
        for number, rung, one in STEPS
    ]


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    kept = read_runs(root).records
    write_bytes(root / FIGURE, as_bytes(figure(kept), "png"))
    sys.stdout.write(f"{short(kept)}\n{page(kept)}")

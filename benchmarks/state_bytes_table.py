"""Retention against bytes of state: the curves of four mixers, as a table and a figure.

    python benchmarks/state_bytes_table.py                # of results/catalogue
    python benchmarks/state_bytes_table.py RUNS

The runs of the preset `state-bytes`: `recite`, early rules, retention on test at 4,096 tokens,
trained up to 256; mean over the seeds with its 95 % interval (Student t). Draws `state-bytes.png`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from catalogue_table import ROOT, Row, row_of
from matplotlib.figure import Figure

from rulekeep.article.report import markdown_table
from rulekeep.plots import COLOURS, as_bytes
from rulekeep.presets import STATE_BYTES
from rulekeep.rows import text_of
from rulekeep.store import Record, read_runs, write_bytes

TESTED = 4096
SIZES = (1, 4, 16, 64)
FIGURE = "state-bytes.png"


def curves(records: Sequence[Record]) -> dict[str, list[Row | None]]:
    """The rows of each mixer, a row a size in KiB a layer; None for one that was not run."""
    found: dict[str, list[Row | None]] = {}
    for one in STATE_BYTES:
        row = row_of(one, records, "recite", "early")
        found.setdefault(one.mixer, []).append(row)
    return found


def page(records: Sequence[Record]) -> str:
    """The table, as Markdown."""
    found = curves(records)
    head = [f"recite, early, {TESTED} tokens", *found]
    body = []
    for place, size in enumerate(SIZES):
        rows = [of[place] for of in found.values()]
        cells = [text_of(row and row.retention[TESTED]) for row in rows]
        body.append([f"{size} KiB a layer", *cells])
    return markdown_table(head, body)


def figure(records: Sequence[Record]) -> Figure:
    """A line a mixer through the means, a bar an interval, a point a seed."""
    drawn = Figure(figsize=(7, 4.5), layout="constrained")
    axes = drawn.subplots()
    for place, ((mixer, rows), colour) in enumerate(
        zip(curves(records).items(), COLOURS, strict=False)
    ):
        run = [row for row in rows if row is not None]
        # A little apart, so that one does not hide the other.
        x = [row.kib * 1.05 ** (place - 1.5) for row in run]
        summaries = [row.retention[TESTED] for row in run]
        for at, row, summary in zip(x, run, summaries, strict=True):
            values = list(row.seeds[TESTED].values())
            axes.plot([at] * len(values), values, ".", color=colour, alpha=0.4)
            if summary is not None and summary.low is not None:
                axes.plot([at, at], [summary.low, summary.high], color=colour, linewidth=1.2)
        means = [float("nan") if s is None or s.mean is None else s.mean for s in summaries]
        axes.plot(x, means, "o-", color=colour, label=mixer)
    axes.set_xscale("log", base=2)
    axes.set_xticks(SIZES, [f"{size}" for size in SIZES])
    axes.set(
        xlabel="KiB of state a layer", ylabel=f"retention at {TESTED:,} tokens", ylim=(-0.02, 1.02)
    )
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    return drawn


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    kept = read_runs(root).records
    write_bytes(root / FIGURE, as_bytes(figure(kept), "png"))
    sys.stdout.write(page(kept) + "\n")

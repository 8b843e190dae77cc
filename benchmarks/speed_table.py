"""The table of docs/speed.md, out of its records.

    python benchmarks/speed_table.py                      # of results/speed, our memory's own
    python benchmarks/speed_table.py RECORD.json RECORD.json

Of a second record what is not attention, in place of what has its name in the first.
Each mechanism's share of attention's time for a training step of the whole model, forward and
backward, on one thread; what a token costs in a long text, and what memory that takes; what
decoding costs after a long one.
"""

import sys
from pathlib import Path

from rulekeep.article.report import markdown_table
from rulekeep.specs.speed import BASELINE
from rulekeep.speed.figures import AIM_CONTEXTS, decode_times, memories, slopes, step_times
from rulekeep.speed.record import SpeedRecord, read_speed

RESULTS = Path(__file__).parent.parent / "results"
RECORD = RESULTS / "speed" / "speed.json"
# Our memory was given more taps and a toll after the others were measured.
LATER = RESULTS / "speed-sparse-delta" / "speed.json"


def page(*paths: Path) -> str:
    """The table, as Markdown: a row a mechanism, in the order of the records."""
    rows: dict[str, list[str]] = {}
    for path in paths:
        found = _rows(read_speed(path))
        if rows:
            # Each has attention, for its shares: the first stays.
            del found[BASELINE]
        renewed = {name.partition("[")[0] for name in found}
        rows = {name: row for name, row in rows.items() if name not in renewed} | found
    header = ["share of attention's step", *(f"{context:,} tokens" for context in AIM_CONTEXTS)]
    more = ["a token, long", "peak, MiB", "decode, ms", "late / early"]
    return markdown_table([*header, *more], [[name, *row] for name, row in rows.items()]) + "\n"


def _rows(record: SpeedRecord) -> dict[str, list[str]]:
    steps = {(row.mixer, row.context): row for row in step_times(record, "model", 1)}
    linear = {row.mixer: row for row in slopes(record)}
    peaks = {row.mixer: row for row in memories(record)}
    rows = {}
    for decoding in decode_times(record):
        mixer, cells = decoding.mixer, []
        for context in AIM_CONTEXTS:
            row = steps[mixer, context]
            assert row.share is not None
            aim = "" if row.aim is None else f" of {row.aim:g}" + ("" if row.met else " ✗")
            cells.append(f"{row.share.median:.3f}{aim}")
        ms = decoding.ms[max(decoding.ms)].median
        ratio = decoding.ratio.median
        slope, peak = linear[mixer], peaks[mixer]
        missed = " ✗" if slope.met is False else ""
        taken = f"{peak.bytes_at[max(peak.bytes_at)] / 2**20:.0f}"
        long = f"{slope.ratio.median:.2f}{missed}"
        rows[mixer] = [*cells, long, taken, f"{ms:.2f}", f"{ratio:.2f}"]
    return rows


if __name__ == "__main__":
    named = [Path(name) for name in sys.argv[1:]] or [RECORD, LATER]
    sys.stdout.write(page(*named))

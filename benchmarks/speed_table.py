"""The table of README on speed, out of its record.

    python benchmarks/speed_table.py                      # of results/speed
    python benchmarks/speed_table.py RECORD.json

Each mechanism's share of attention's time for a training step of the whole model, forward and
backward, on one thread; what a token costs in a long text, and what memory that takes; what
decoding costs after a long one.
"""

import sys
from pathlib import Path

from rulekeep.article.report import markdown_table
from rulekeep.speed.figures import AIM_CONTEXTS, decode_times, memories, slopes, step_times
from rulekeep.speed.record import read_speed

RECORD = Path(__file__).parent.parent / "results" / "speed" / "speed.json"


def page(path: Path) -> str:
    """The table, as Markdown: a row a mechanism, in the order of the record."""
    record = read_speed(path)
    steps = {(row.mixer, row.context): row for row in step_times(record, "model", 1)}
    linear = {row.mixer: row for row in slopes(record)}
    peaks = {row.mixer: row for row in memories(record)}
    body = []
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
        body.append([mixer, *cells, long, taken, f"{ms:.2f}", f"{ratio:.2f}"])
    header = ["share of attention's step", *(f"{context:,} tokens" for context in AIM_CONTEXTS)]
    more = ["a token, long", "peak, MiB", "decode, ms", "late / early"]
    return markdown_table([*header, *more], body) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(Path(sys.argv[1]) if len(sys.argv) > 1 else RECORD))

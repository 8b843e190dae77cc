"""The tables of docs/speed.md, out of its records.

    python benchmarks/speed_table.py                      # of results/speed, our memory's own
    python benchmarks/speed_table.py RECORD.json RECORD.json

Of a second record what is not attention, in place of what has its name in the first.
Each mechanism's share of attention's time for a training step of the whole model, forward and
backward, on one thread; what a token costs in a long text, and what memory that takes; what
decoding costs after a long one. Then those shares with their spread, on two threads and of the
mixer alone too, and operator calls.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from rulekeep.printable import markdown_table
from rulekeep.specs.speed import BASELINE
from rulekeep.speed.figures import (
    AIM_CONTEXTS,
    StepTime,
    decode_times,
    memories,
    slopes,
    step_times,
)
from rulekeep.speed.record import Part, SpeedRecord, read_speed

Row = TypeVar("Row")

RESULTS = Path(__file__).parent.parent / "results"
RECORD = RESULTS / "speed" / "speed.json"
# Our memory was given more taps and a toll after the others were measured.
LATER = RESULTS / "speed-sparse-delta" / "speed.json"


def page(*paths: Path) -> str:
    """The table, as Markdown: a row a mechanism, in the order of the records."""
    rows: dict[str, list[str]] = {}
    for path in paths:
        rows = _joined(rows, _rows(read_speed(path)))
    header = ["share of attention's step", *(f"{context:,} tokens" for context in AIM_CONTEXTS)]
    more = ["a token, long", "peak, MiB", "decode, ms", "late / early"]
    return markdown_table([*header, *more], [[name, *row] for name, row in rows.items()]) + "\n"


def details(*paths: Path) -> str:
    """Shares of attention's time with their quartiles, and operator calls, as Markdown."""
    records = [read_speed(path) for path in paths]
    parts: Mapping[Part, str] = {"model": "the whole model", "mixer": "the mixer alone"}
    tables = []
    for part, name in parts.items():
        for threads in (1, 2):
            said = f"{name}, {'one thread' if threads == 1 else 'two threads'}"
            tables.append(_by_context(records, said, part, threads, _share))
    tables.append(_by_context(records, "operator calls a step", "model", 1, _launches))
    return "\n".join(tables)


def _share(row: StepTime) -> str | None:
    return None if row.share is None or row.mixer == BASELINE else row.share.text(3)


def _launches(row: StepTime) -> str | None:
    return None if row.launches is None else f"{row.launches:,}"


def _by_context(
    records: Iterable[SpeedRecord],
    said: str,
    part: Part,
    threads: int,
    cell: Callable[[StepTime], str | None],
) -> str:
    rows: dict[str, dict[int, str]] = {}
    for record in records:
        found: dict[str, dict[int, str]] = {}
        for row in step_times(record, part, threads):
            if said_of := cell(row):
                found.setdefault(row.mixer, {})[row.context] = said_of
        rows = _joined(rows, found)
    header = [said, *(f"{context:,} tokens" for context in AIM_CONTEXTS)]
    body = [[name, *(row[at] for at in AIM_CONTEXTS)] for name, row in rows.items()]
    return markdown_table(header, body) + "\n"


def _joined(first: dict[str, Row], later: dict[str, Row]) -> dict[str, Row]:
    """A record's rows and a later one's in their place; attention, which both have, stays."""
    renewed = {name.partition("[")[0] for name in later} - {BASELINE}
    kept = {name: row for name, row in first.items() if name not in renewed}
    return kept | {name: row for name, row in later.items() if name not in kept}


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
    sys.stdout.write(page(*named) + "\n" + details(*named))

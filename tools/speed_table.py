"""Rewrites a former speed.json, an entry a process, as the table that it is now.

python tools/speed_table.py runs/speed/speed.json
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rulekeep.records.store import read_record, write_record
from rulekeep.specs.mixer import written
from rulekeep.speed.record import SpeedRecord


def rows(one: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The figures of a process."""
    point = {"threads": 1, "context": None, **one["point"]}
    alone = point.pop("mixer", None) or ""
    for mixer, row in one["rows"].items():
        at = {**point, "mixer": mixer}
        for figure in ("calls", "launches", "flops"):
            if row.get(figure) is not None:
                yield {**at, "figure": figure, "values": [row[figure]]}
        if row.get("seconds"):
            yield {**at, "figure": "seconds", "values": row["seconds"]}
        for decoded in row.get("contexts", ()):
            here = {**at, "context": decoded["context"]}
            yield {**here, "figure": "state_bytes", "values": [decoded["state_bytes"]]}
            yield {**here, "figure": "decode_ms", "values": decoded["ms_per_token"]}
        if row.get("peak_bytes") is not None:
            peak = row["peak_bytes"] - row["start_bytes"]
            yield {**at, "figure": "peak_bytes", "values": [peak]}
        if row.get("failed"):
            yield {**at, "figure": "failed", "why": row["failed"]}
    if one.get("product_rates"):
        yield {**point, "mixer": "", "figure": "product_rate", "values": one["product_rates"]}
    if one.get("other_cores") is not None:
        yield {**point, "mixer": alone, "figure": "other_cores", "values": [one["other_cores"]]}


def main(paths: list[str]) -> None:
    """Rewrite each file."""
    for path in map(Path, paths):
        values = read_record(path)
        mixers = values["spec"]["mixers"]
        spec = {
            **values["spec"],
            "mixers": [written(mixer["name"], mixer.get("options", {})) for mixer in mixers],
        }
        measured = [row for one in values["measured"] for row in rows(one)]
        made = SpeedRecord.parse(**{**values, "spec": spec, "measured": measured})
        write_record(path, made.as_recorded)


if __name__ == "__main__":
    main(sys.argv[1:])

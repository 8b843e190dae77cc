"""How long a report of many runs takes: `rulekeep report` on 2,000 records.

    python benchmarks/report_speed.py --out results/report_speed.json

One tiny run is made for real, its record copied into as many runs as asked for, of other tasks,
mechanisms, rates and seeds and with figures drawn anew, and `rulekeep report` timed from its start
to its exit. Exit code 1 if 2,000 records or more take over 20 s. About a minute.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import count, islice, product
from pathlib import Path
from typing import Any

from keeping import keep

from rulekeep.records.store import read_record, write_record

CEILING_SECONDS, CEILING_FROM_RECORDS = 20.0, 2000
TASKS = ("recite", "apply", "override", "recall")
MIXERS = tuple(f"mechanism_{number:02d}" for number in range(10))
RATES = (1e-3, 3e-3, 1e-2)
# As many looks at dev as a run of the exam has, and its tested contexts.
TEMPLATE = """
steps = 72
evaluate_every = 1
warmup_steps = 1
width = 8
layers = 1
batch_size = 4
dev_examples = 4
test_examples = 4
long_test_examples = 4
context = 96
test_contexts = [96, 256, 1028, 4096]
"""


def main() -> None:
    """Measures, prints the seconds, writes the record."""
    parser = argparse.ArgumentParser(description="How long a report of many runs takes.")
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the record to this JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _fill(folder, options.records)
        seconds = [_timed(folder) for _ in range(options.repeats)]
        written = {path.name: path.stat().st_size for path in folder.glob("report/*.*")}
    median = statistics.median(seconds)
    print(
        f"{options.records} records: median {median:.1f} s of {options.repeats} "
        f"({min(seconds):.1f} to {max(seconds):.1f}), page {written['report.html'] / 2**20:.1f} MiB"
    )
    if options.out:
        load = os.getloadavg()[0]
        keep(
            options.out,
            load_average=load, records=options.records, seconds=seconds, bytes=written,
        )  # fmt: skip
    sys.exit(options.records >= CEILING_FROM_RECORDS and median > CEILING_SECONDS)


def _fill(folder: Path, records: int) -> None:
    (folder / "template.toml").write_text(TEMPLATE)
    _rulekeep(folder, "run", "template.toml", "--out", "template")
    (path,) = folder.glob("template/*/record.json")
    template = read_record(path)
    draw = random.Random(0)
    cells = ((seed, *cell) for seed in count(1) for cell in product(TASKS, MIXERS, RATES))
    for seed, task, mixer, rate in islice(cells, records):
        row = _varied(template, draw)
        row["id"] = f"{task}-{mixer}-{rate}-{seed}"
        row["spec"] = {
            **row["spec"], "task": task, "mixer": mixer, "seed": seed, "learning_rate": rate,
        }  # fmt: skip
        place = folder / "runs" / row["id"]
        place.mkdir(parents=True)
        write_record(place / "record.json", row)


def _varied(record: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(json.dumps(record))
    for one in (*row["evaluations"], *row["history"]):
        for name in ("val_loss", "retention", "exact", "rule_accuracy", "item_accuracy"):
            if one.get(name) is not None:
                one[name] = draw.random()
    row["costs"]["train_seconds"] = 100 * draw.random()
    return row


def _timed(folder: Path) -> float:
    began = time.monotonic()
    _rulekeep(folder, "report", "runs", "--out", "report")
    return time.monotonic() - began


def _rulekeep(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rulekeep", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"rulekeep {arguments[0]} failed:\n{done.stderr}")


if __name__ == "__main__":
    main()

"""What Dask takes beside the local executor: sweeps of small runs by both, side by side.

    python tools/dask_overhead.py --pairs 3        # into results/timings/dask.json

Four workers each, on this machine. Sweeps by one and the other take turns, in this process. The
records must be the same to the bit. A first pair, in which workers load torch, is not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keeping import keep

from rulekeep.executors import DaskExecutor, Executor, LocalExecutor
from rulekeep.records.store import read_record
from rulekeep.specs import RunSpec
from rulekeep.sweeps import making, planning

RECORD = Path(__file__).parent.parent / "results" / "timings" / "dask.json"
WORKERS = 4


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """The commands of docs/cluster.md on one machine: the scheduler's address."""
    place = folder / "scheduler.json"
    commands = (
        ["scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(place)],
        ["worker", "--scheduler-file", str(place), "--nworkers", str(WORKERS), "--nthreads", "1"],
    )
    started = []
    try:
        for name, *options in commands:
            dask = [sys.executable, "-m", f"distributed.cli.dask_{name}", "--no-dashboard"]
            log = (folder / f"{name}.log").open("w")
            started.append(subprocess.Popen([*dask, *options], cwd=folder, stdout=log, stderr=log))
            while not place.exists():
                time.sleep(0.1)
        yield json.loads(place.read_text())["address"]
    finally:
        for one in reversed(started):
            one.terminate()
            one.wait(60)


def swept(folder: Path, executor: Executor, specs: list[RunSpec]) -> tuple[float, list[Any]]:
    """The seconds of a sweep, and what its runs scored."""
    plan = planning.plan(specs, folder)
    start = time.perf_counter()
    list(making.execute(plan, executor))
    seconds = time.perf_counter() - start
    records = [read_record(path) for path in sorted(folder.glob("*/record.json"))]
    rows = [row for record in records for row in record["history"]]
    return seconds, [{**row, "train_seconds": None} for row in rows]


def main() -> None:
    """Pairs of sweeps."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--runs", type=int, default=8)
    given = parser.parse_args()
    specs = [
        RunSpec(
            mixer="delta", context=64, steps=20, warmup_steps=5, width=16, hidden=32, seed=seed,
            batch_size=8, validation_examples=20, test_examples=20, test_contexts=(64,),
        )
        for seed in range(1, given.runs + 1)
    ]  # fmt: skip
    seconds: dict[str, list[float]] = {"local": [], "dask": []}
    with tempfile.TemporaryDirectory() as place, cluster(Path(place)) as address:
        for pair in range(given.pairs + 1):
            found = []
            executors = {"local": LocalExecutor(WORKERS), "dask": DaskExecutor(address)}
            for name, executor in executors.items():
                took, scores = swept(Path(place, f"{name}-{pair}"), executor, specs)
                found.append(scores)
                if pair:
                    seconds[name].append(round(took, 2))
            assert found[0] == found[1], "records differ"
    extra = [there - here for here, there in zip(*seconds.values(), strict=True)]
    keep(
        RECORD,
        workers=WORKERS,
        runs=given.runs,
        seconds=seconds,
        overhead_seconds_per_run=round(statistics.median(extra) / given.runs, 3),
    )


if __name__ == "__main__":
    main()

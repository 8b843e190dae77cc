"""How long the preset `exam-quick` takes, from its start to its exit, by the clock.

    python benchmarks/exam_quick.py --out results/exam_quick.json
    python benchmarks/exam_quick.py --mixers slots,attention

Exit code 1 if a mixer takes ten minutes or more. Needs two idle cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from keeping import keep

from rulekeep.records.store import read_runs
from rulekeep.specs import split_names
from rulekeep.sweeps.presets import QUICK_MIXERS

MOST_SECONDS = 600
WORKERS = 2


def main() -> None:
    """Measures, prints a line for each mixer, writes the record."""
    parser = argparse.ArgumentParser(description="How long exam-quick takes.")
    parser.add_argument("--mixers", default=",".join(one.mixer for one in QUICK_MIXERS))
    parser.add_argument("--out", type=Path, help="write the record to this JSON file")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rows = []
    for mixer in split_names(options.mixers):
        rows.append({"mixer": mixer, **measure("exam-quick", "--mixers", mixer)})
        print(f"{mixer}: {rows[-1]['runs']} runs in {rows[-1]['seconds']:.0f} s", flush=True)
    if options.out:
        keep(options.out, load_average=load, rows=rows)
    sys.exit(any(row["seconds"] >= MOST_SECONDS for row in rows))


def measure(preset: str, *words: str) -> dict[str, Any]:
    """One sweep of a preset."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "rulekeep", "sweep", preset, *words]
        began = time.monotonic()
        done = subprocess.run(
            [*command, "--workers", str(WORKERS), "--out", "runs"],
            cwd=name, capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds = time.monotonic() - began
        records = read_runs(Path(name) / "runs").records
    if done.returncode or not records or any(one.status != "done" for one in records):
        sys.exit(f"the sweep failed:\n{done.stderr}")
    return {"workers": WORKERS, "runs": len(records), "seconds": seconds}


if __name__ == "__main__":
    main()

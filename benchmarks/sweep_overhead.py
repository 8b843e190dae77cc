"""What a sweep takes beside its runs: against the ideal of runs that start at once, end to end.

    python benchmarks/sweep_overhead.py --out results/sweep_overhead.json

Runs that multiply matrices for a fixed time by the clock, through `rulekeep sweep` from its start
to its exit. Ideal are the seconds of all runs over the number of workers: the start of the command,
the plan, processes, a few steps of training, evaluation and records count as loss. Exit code 1 if
runs of 20 s lose more than 15 %. Needs as many idle cores as workers; about two minutes.
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

CEILING, CEILING_FROM_SECONDS = 0.15, 20.0
GRID = """
from rulekeep.specs import RunSpec


def sweep():
    return [
        RunSpec(
            task_options={{"rules": 2}}, mixer={mixer!r}, mixer_options={{"seconds": {seconds}}},
            width=8, layers=1, context=64, steps=4, warmup_steps=1, batch_size=4, dev_examples=4,
            test_examples=4, seed=seed,
        )
        for seed in range({runs})
    ]
"""
MIXER = """
import time

import torch
from torch import nn


class Busy(nn.Module):
    def __init__(self, width, *, seconds: float):
        super().__init__()
        self.linear, self.left = nn.Linear(width, width), seconds

    def init_state(self, batch_size):
        return (self.linear.weight.new_zeros(batch_size, 1),)

    def forward(self, x, state=None):
        # In training: a mixer is tried before, on other batches, and each try is another one.
        left = self.left if len(x) == 4 and torch.is_grad_enabled() else 0.0
        until, self.left = time.monotonic() + left, self.left - left
        square = torch.ones(256, 256) / 256
        while time.monotonic() < until:
            square @ square
        return self.linear(x), state or self.init_state(len(x))
"""


def main() -> None:
    """Measures, prints a line for each length of run, writes the record."""
    parser = argparse.ArgumentParser(description="What a sweep takes beside its runs.")
    parser.add_argument("--seconds", type=float, nargs="+", default=[20.0, 2.0], help="of a run")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the record to this JSON file")
    options = parser.parse_args()
    rows = []
    for seconds in options.seconds:
        row = measure(seconds, options.runs, options.workers)
        rows.append(row)
        print(
            f"{options.runs} runs of {seconds:g} s on {options.workers} workers: "
            f"{row['wall_seconds']:.1f} s, ideal {row['ideal_seconds']:.1f} s, "
            f"lost {100 * row['loss']:.1f} %",
            flush=True,
        )
    if options.out:
        keep(options.out, load_average=os.getloadavg()[0], rows=rows)
    long = [row["loss"] for row in rows if row["run_seconds"] >= CEILING_FROM_SECONDS]
    sys.exit(any(loss > CEILING for loss in long))


def measure(seconds: float, runs: int, workers: int) -> dict[str, Any]:
    """One sweep, by the clock."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mixer = folder / "busy.py"
        mixer.write_text(MIXER)
        grid = GRID.format(mixer=f"{mixer}:Busy", seconds=seconds, runs=runs)
        (folder / "grid.py").write_text(grid)
        command = [sys.executable, "-m", "rulekeep", "sweep", "grid.py", "--out", "runs"]
        began = time.monotonic()
        done = subprocess.run(
            [*command, "--workers", str(workers)],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        wall = time.monotonic() - began
        records = read_runs(folder / "runs").records
    if done.returncode or [record.status for record in records] != ["done"] * runs:
        sys.exit(f"the sweep failed:\n{done.stderr}")
    ideal = seconds * runs / workers
    return {
        "run_seconds": seconds,
        "runs": runs,
        "workers": workers,
        "wall_seconds": wall,
        "ideal_seconds": ideal,
        "loss": wall / ideal - 1,
    }


if __name__ == "__main__":
    main()

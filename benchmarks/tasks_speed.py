"""Tokens a second that each sampled task draws, on one core, masks and chance included.

    python benchmarks/tasks_speed.py --out results/tasks_speed.json

Defaults of every task, both placements, and recall as published: the test split, the smallest.
Seconds of the processor, not of the clock, so that a busy machine counts less. Less than
5 million tokens a second in any median ends with exit code 1. About a minute.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from keeping import keep

from rulekeep.tasks import Apply, Override, Recall, RecallOptions, Recite, SampledTask

FLOOR = 5e6
REQUESTS = ("apply", "override")
TOKENS = 2_000_000


def main() -> None:
    """Measures, prints the table, writes the record."""
    parser = argparse.ArgumentParser(description="Speed of the sampled tasks.")
    parser.add_argument("--contexts", type=int, nargs="+", default=[64, 256, 1028, 4096, 65536])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the record to this JSON file")
    options = parser.parse_args()
    print("Million tokens a second, median (min–max)\n")
    print(f"{'task':18}" + "".join(f"{context:>20,}" for context in options.contexts))
    rows: list[dict[str, Any]] = []
    for label, task in tasks().items():
        cells = []
        for context in options.contexts:
            # The grid of tasks with a request starts at 96.
            context = max(context, 96) if task.name in REQUESTS else context
            rates = measure(task, context, options.repeats)
            rows.append({"task": label, "context": context, "tokens_per_second": rates})
            millions = [rate / 1e6 for rate in rates]
            spread = f"({min(millions):.1f}–{max(millions):.1f})"
            cells.append(f"{statistics.median(millions):6.1f} {spread:>13}")
        print(f"{label:18}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
    if options.out:
        keep(options.out, rows=rows)
    slowest = min(statistics.median(row["tokens_per_second"]) for row in rows)
    print(f"\nSlowest: {slowest / 1e6:.1f} million tokens a second; floor {FLOOR / 1e6:.0f}")
    sys.exit(slowest < FLOOR)


def tasks() -> dict[str, SampledTask]:
    """Every sampled task in every layout."""
    made: dict[str, SampledTask] = {}
    for task in (Recite, Apply, Override, Recall):
        for placement in ("early", "marked"):
            options: Any = task.options_type.parse(placement=placement)
            made[f"{task.name} {placement}"] = task(options)
    made["recall zoology"] = Recall(RecallOptions.parse(layout="zoology"))
    # The published vocabulary of 8,192 words.
    wide = RecallOptions.parse(layout="zoology", items=4096, rule_words=4096)
    made["recall zoology 8k"] = Recall(wide)
    return made


def measure(task: SampledTask, context: int, repeats: int) -> list[float]:
    """Tokens a second of each repeat, after one that warms up."""
    n = -(-TOKENS // context)
    rates = []
    for turn in range(repeats + 1):
        begin = time.process_time()
        task.sample("test", context, n, seed=turn)
        seconds = time.process_time() - begin
        if turn:
            rates.append(n * context / seconds)
    return rates


if __name__ == "__main__":
    # One core: the C library's own threads are counted out before numpy starts.
    if os.environ.get("OMP_NUM_THREADS") != "1":
        arguments = [sys.executable, *sys.argv]
        os.execve(sys.executable, arguments, {**os.environ, "OMP_NUM_THREADS": "1"})
    main()

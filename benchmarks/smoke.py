"""How long the preset `smoke` takes, from its start to its exit, by the clock.

    python benchmarks/smoke.py --out results/smoke.json

Three times; exit code 1 if one takes a minute or more. Needs two idle cores.
"""

import argparse
import os
import sys
from pathlib import Path

from exam_quick import measure
from keeping import keep

MOST_SECONDS = 60
TIMES = 3


def main() -> None:
    """Measures, prints a line for each time, writes the record."""
    parser = argparse.ArgumentParser(description="How long smoke takes.")
    parser.add_argument("--out", type=Path, help="write the record to this JSON file")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rows = []
    for _ in range(TIMES):
        rows.append(measure("smoke"))
        print(f"{rows[-1]['runs']} runs in {rows[-1]['seconds']:.1f} s", flush=True)
    if options.out:
        keep(options.out, load_average=load, rows=rows)
    sys.exit(any(row["seconds"] >= MOST_SECONDS for row in rows))


if __name__ == "__main__":
    main()

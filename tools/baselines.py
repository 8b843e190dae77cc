"""Writes the records that ship with the package: the committed baselines, without their history.

    python tools/baselines.py

A file of packed records in src/rulekeep/baselines, which every command reads as a folder of runs.
"""

from collections import Counter
from pathlib import Path

from rulekeep.analysis.baselines import SHIPPED, baseline
from rulekeep.records.pack import PACKED, packed
from rulekeep.records.store import packed_results, packed_values

ROOT = Path(__file__).parents[1]
# Folders of results, with the seeds that a variant has at its chosen rate.
FOLDERS = {"catalogue": 5, "quick": 1}


def chosen(root: Path = ROOT) -> list[dict[str, object]]:
    """The records of every baseline at the rate that was chosen for it."""
    found = []
    for folder, seeds in FOLDERS.items():
        kept = []
        results = packed_results(root / "results" / folder)
        for values in packed_values(root / "results" / folder, []):
            record = results.get(str(values.get("id")))
            if record is not None and (name := baseline(record)):
                asked = (name, record.spec.asked, record.spec.learning_rate)
                kept.append((asked, values))
        counts = Counter(asked for asked, _ in kept)
        found += [{**values, "history": []} for asked, values in kept if counts[asked] >= seeds]
    return found


if __name__ == "__main__":
    SHIPPED.mkdir(exist_ok=True)
    records = chosen()
    (SHIPPED / PACKED).write_bytes(packed(records))
    print(f"{len(records)} records, {(SHIPPED / PACKED).stat().st_size:,} bytes")

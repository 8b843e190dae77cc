"""Writes the records that ship with the package: the committed baselines, without their history.

    python tools/baselines.py

A file of packed records in src/rulekeep/baselines, which every command reads as a folder of runs,
and one in src/rulekeep/certificates, which every report reads.
"""

from pathlib import Path

from rulekeep.analysis.baselines import CERTIFICATES, SHIPPED, baseline, protocol
from rulekeep.analysis.groups import grouped
from rulekeep.analysis.runs import Run
from rulekeep.records.pack import PACKED, packed
from rulekeep.records.store import packed_results, packed_values

ROOT = Path(__file__).parents[1]
# Folders of results, with the seeds that a variant has at its chosen rate.
FOLDERS = {"catalogue": 5, "quick": 1}


def chosen(root: Path = ROOT) -> list[dict[str, object]]:
    """The records of every baseline at the rate that was chosen for it."""
    found = []
    for folder, seeds in FOLDERS.items():
        runs = [
            Run.of(record, str(protocol(record)), name)
            for record in packed_results(root / "results" / folder).values()
            if (name := baseline(record))
        ]
        runs.sort(key=lambda run: (run.task, run.label, run.seed))
        ids = {
            run.record.id
            for group in grouped(runs)
            if len(group.runs) >= seeds
            for run in group.runs.values()
        }
        every = packed_values(root / "results" / folder, [])
        found += [{**values, "history": []} for values in every if values.get("id") in ids]
    return found


def certificates(root: Path = ROOT) -> list[dict[str, object]]:
    """The certificates of the tasks."""
    return [*packed_values(root / "results" / "certificates", [])]


if __name__ == "__main__":
    for folder, records in ((SHIPPED, chosen()), (CERTIFICATES, certificates())):
        folder.mkdir(exist_ok=True)
        (folder / PACKED).write_bytes(packed(records))
        print(f"{len(records)} records, {(folder / PACKED).stat().st_size:,} bytes")

"""Writes the records that ship with the package: the committed baselines, without their history.

    python tools/baselines.py

Files of packed records in src/rulekeep/baselines, which every command reads as folders of runs, and
one in src/rulekeep/certificates, which every report reads.
"""

from pathlib import Path

from rulekeep.analysis.groups import grouped
from rulekeep.analysis.table import Run
from rulekeep.commands.beside import baseline
from rulekeep.records.folders import CERTIFICATES, SHIPPED
from rulekeep.records.pack import PACKED, packed
from rulekeep.records.store import (
    FORMER_IDS,
    former_ids,
    packed_results,
    packed_values,
    write_record,
)

ROOT = Path(__file__).parents[1]
# Of the catalogue, the seeds that a variant has at its chosen rate.
SEEDS = 5


def chosen(root: Path = ROOT) -> list[dict[str, object]]:
    """The records of every baseline of the catalogue at the rate that was chosen for it."""
    folder = root / "results" / "catalogue"
    runs = [
        Run.of(record, str(record.protocol), name)
        for record in packed_results(folder).values()
        if (name := baseline(record))
    ]
    runs.sort(key=lambda run: (run.task, run.label, run.seed))
    ids = {
        run.record.id
        for group in grouped(runs)
        if len(group.runs) >= SEEDS
        for run in group.runs.values()
    }
    return [
        {**values, "history": []} for values in packed_values(folder, []) if values.get("id") in ids
    ]


def quick(root: Path = ROOT) -> list[dict[str, object]]:
    """Every run of the preset, as `rulekeep report RUNS quick` shows them."""
    return [*packed_values(root / "results" / "quick", [])]


def certificates(root: Path = ROOT) -> list[dict[str, object]]:
    """The certificates of the tasks."""
    return [*packed_values(root / "results" / "certificates", [])]


def shipped() -> dict[Path, list[dict[str, object]]]:
    """The records of each folder that ships."""
    return {
        SHIPPED / "catalogue": chosen(),
        SHIPPED / "quick": quick(),
        CERTIFICATES: certificates(),
    }


if __name__ == "__main__":
    for folder, records in shipped().items():
        folder.mkdir(exist_ok=True, parents=True)
        (folder / PACKED).write_bytes(packed(records))
        kept = {values.get("id") for values in records}
        every = former_ids(ROOT / "results" / folder.name).items()
        if former := {old: new for old, new in every if new in kept}:
            write_record(folder / FORMER_IDS, former)
        print(f"{len(records)} records, {(folder / PACKED).stat().st_size:,} bytes")

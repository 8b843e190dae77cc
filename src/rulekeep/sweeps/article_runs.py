"""`rulekeep article`: its cells as runs in a folder, and what stands there already.

`F/runs` is a folder of runs as any sweep's; what the article shows beside it in `F` is made
out of the records there.

    >>> planned = plan(ArticleSpec().cells(), Path("F"))                    # doctest: +SKIP
    >>> for event in sweep.execute(planned, LocalExecutor()): ...           # doctest: +SKIP
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rulekeep.article.records import cell_of, flaw
from rulekeep.records.store import (
    CorruptRecordError,
    Record,
    RunFolder,
    make_folder,
    read_record,
    run_folders,
    set_aside,
)
from rulekeep.specs import ArticleCell
from rulekeep.sweeps import sweep

RUNS = "runs"


def open_folder(folder: Path) -> None:
    """Makes the output folder.

    Raises:
        UsageError: it cannot be made or written.
    """
    # The user named the folder above.
    make_folder(folder / RUNS, f"--out {folder}")


def plan(cells: Sequence[ArticleCell], folder: Path) -> sweep.Plan:
    """As `sweep.plan` in `folder/runs`: the longest cells first, with a line for what is amiss.

    A record with a wrong inside is set aside. One of other versions is another run's: it
    stays where it is, and the cell is run.
    """
    root = folder / RUNS
    planned = sweep.plan(cells, root)
    notes = list(planned.notes)
    # By id, since what a flawed record says of itself is not to be trusted.
    by_id = {sweep.identity(cell): cell for cell in cells}
    if _set_flawed_aside(root, planned.finished, by_id, notes):
        planned = sweep.plan(cells, root)
        notes += planned.notes
    to_run = [by_id[job.id] for job in planned.jobs]
    notes += _made_with_other_versions(root, to_run, by_id)
    notes += _made_by_other_torch(planned.finished)
    jobs = sorted(planned.jobs, key=lambda job: _length(by_id[job.id]), reverse=True)
    return planned._replace(jobs=jobs, notes=notes)


def in_order(cells: Sequence[ArticleCell], records: Sequence[Record]) -> dict[ArticleCell, Record]:
    """The cells that have a record, in the order of the tables."""
    found = {cell_of(record): record for record in records}
    return {cell: found[cell] for cell in cells if cell in found}


def _set_flawed_aside(
    root: Path, finished: Sequence[Record], by_id: dict[str, ArticleCell], notes: list[str]
) -> bool:
    before = len(notes)
    for record in finished:
        cell = by_id[record.id]
        wrong = flaw(record, cell)
        if wrong is not None:
            aside = set_aside(RunFolder(root / record.id).record)
            notes.append(f"{cell.label}: {wrong}; set aside as {record.id}/{aside.name}")
    return len(notes) > before


def _made_with_other_versions(
    root: Path, to_run: Sequence[ArticleCell], by_id: dict[str, ArticleCell]
) -> list[str]:
    notes = []
    for folder in run_folders(root):
        if folder.id in by_id or not folder.record.exists():
            continue
        try:
            spec = read_record(folder.plan).get("spec")
        # A record may stand without its plan.
        except (CorruptRecordError, OSError):
            continue
        notes += [
            f"{cell.label}: run {folder.id} was made with other versions: run again beside it"
            for cell in to_run
            if cell.model_dump(mode="json") == spec
        ]
    return notes


def _made_by_other_torch(finished: Sequence[Record]) -> list[str]:
    # Read without loading torch; what stands after + names a build.
    here = version("torch").partition("+")[0]
    return [
        f"{cell_of(record).label}: made with torch {there}, this is {here}; taken over as it is"
        for record in finished
        if (there := record.environment["torch"].partition("+")[0]) != here
    ]


def _length(cell: ArticleCell) -> float:
    # Relative seconds, good enough to start the longest first.
    per_token = 1 + cell.context / 500 if cell.model == "attention" else 1.3
    return cell.steps * cell.context * per_token * (20 if cell.serial else 1)

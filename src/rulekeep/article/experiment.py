"""`rulekeep article`: plans the cells, hands them to an executor, reports what came out."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from rulekeep.article.records import Record, finished_cells, record_path
from rulekeep.executors import Advanced, Executor, Failure, Finished
from rulekeep.specs import ArticleCell, ArticleSpec, UsageError
from rulekeep.store import read_record, write_text

CELLS = "cells"


class Plan(NamedTuple):
    """Cells that stand finished on disk, cells to run (the longest first), and notes."""

    finished: dict[ArticleCell, Record]
    to_run: list[ArticleCell]
    notes: list[str]


class CellAdvanced(NamedTuple):
    """A cell has done this many steps."""

    cell: ArticleCell
    steps: int


class CellFinished(NamedTuple):
    """A cell has its record, or the reason why not."""

    cell: ArticleCell
    record: Record | None
    failure: str | None


Event: TypeAlias = CellAdvanced | CellFinished


def open_folder(folder: Path) -> None:
    """Makes the output folder.

    Raises:
        UsageError: it cannot be made or written.
    """
    try:
        (folder / CELLS).mkdir(parents=True, exist_ok=True)
        probe = folder / CELLS / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"--out {folder}: cannot be written ({error.strerror}); name another folder"
        ) from None


def plan(spec: ArticleSpec, folder: Path) -> Plan:
    """What of a spec stands in a folder already, and what is to be run."""
    cells = spec.cells()
    records, notes = finished_cells(folder / CELLS, cells)
    to_run = [cell for cell in cells if cell not in records]
    return Plan(records, sorted(to_run, key=_length, reverse=True), notes)


def run(cells: list[ArticleCell], folder: Path, executor: Executor) -> Iterator[Event]:
    """Runs cells and yields what happens; each leaves its record in the folder itself."""
    for event in executor.run(partial(_run_cell, folder / CELLS), cells):
        cell = cells[event.job]
        match event:
            case Advanced(_, steps):
                yield CellAdvanced(cell, steps)
            case Finished(_, _, None):
                path = record_path(folder / CELLS, cell)
                path.with_suffix(".log").unlink(missing_ok=True)
                yield CellFinished(cell, read_record(path), None)
            case Finished(_, _, Failure() as failure):
                log = record_path(folder / CELLS, cell).with_suffix(".log")
                write_text(log, f"{failure.reason}\n\n{failure.traceback}")
                yield CellFinished(cell, None, f"{failure.status}: {failure.reason} (see {log})")


def _run_cell(folder: Path, cell: ArticleCell, progress: "object") -> None:
    # Imported here: only the process that runs a cell loads torch.
    from rulekeep.article.cell import run_cell

    run_cell(cell, folder, progress)  # type: ignore[arg-type]


def _length(cell: ArticleCell) -> float:
    # Relative seconds, good enough to start the longest first.
    per_token = 1 + cell.context / 500 if cell.model == "attention" else 1.3
    return cell.steps * cell.context * per_token * (20 if cell.serial else 1)

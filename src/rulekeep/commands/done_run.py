"""One finished run, as a user names it: its folder, its record and its spec."""

from pathlib import Path
from typing import Any

from rulekeep.console import say
from rulekeep.executors import Finished
from rulekeep.executors.base import USAGE
from rulekeep.printable import pasted
from rulekeep.records.store import (
    CorruptRecordError,
    Record,
    RunFolder,
    run_folders,
    runs_of_id,
    unpack_run,
)
from rulekeep.specs import ArticleCell, PredictorSpec, RunSpec, UsageError


def done_run(named: str) -> tuple[RunFolder, Record, RunSpec]:
    """The run of a folder, or the only finished one in a folder of runs.

    Raises:
        UsageError: there is none, it is not done, or it trained no mixer.
    """
    folder = _folder(named)
    record = _record(folder, named)
    return folder, record, _spec(record, named)


def result_of(job: Finished) -> Any:
    """The result of a job on the run; None, and a line, if its process failed.

    Raises:
        UsageError: the job cannot be done.
    """
    if job.failure is None:
        return job.result
    if job.failure.reason.startswith(USAGE):
        raise UsageError(job.failure.reason.removeprefix(USAGE))
    say(f"rulekeep: {job.failure.status}: {job.failure.reason}")
    return None


def _folder(named: str) -> RunFolder:
    path = Path(named)
    if named.strip() and "\0" not in named and not path.exists() and path.parent.is_dir():
        for root, record in runs_of_id(path.name, [path.parent]):
            path = root / record.id
            if not path.exists():
                # A packed run gets a folder of its own, for what comes of it.
                unpack_run(root, record.id)
    if not named.strip() or "\0" in named or not path.is_dir():
        raise UsageError(f"{named!a}: there is no such folder; name that of a run, RUNS/ID")
    # A run is known by its folder's name, which `.`, `..` and a link to it have not.
    if path.name in ("", "..") or path.is_symlink():
        path = path.resolve()
    if (path / "record.json").exists():
        return RunFolder(path)
    inside = [run for run in run_folders(path) if run.record.exists()]
    if not inside:
        raise UsageError(
            f"{named}: has no record.json; name the folder of a run that is done, RUNS/ID"
        )
    # What failed before it was mended does not stand in the way of what came after.
    inside = [run for run in inside if _is_done(run)] or inside
    if len(inside) > 1:
        raise UsageError(
            f"{named}: has {len(inside)} runs; name one of them, as in {inside[0].path}"
        )
    return inside[0]


def _is_done(folder: RunFolder) -> bool:
    try:
        record = folder.load()
    except (CorruptRecordError, OSError):
        return False
    return record is not None and record.has_model


def _record(folder: RunFolder, named: str) -> Record:
    try:
        record = folder.load()
    except (CorruptRecordError, OSError) as error:
        again = f"rulekeep resume {pasted(folder.path.parent)}"
        raise UsageError(f"{named}: {error}; make the run again: {again}") from None
    assert record is not None, "there is one"
    if not record.has_model:
        raise UsageError(
            f"{named}: the run is {record.status}, so there is no trained model; name one that "
            "is done"
        )
    return record


def _spec(record: Record, named: str) -> RunSpec:
    if record.spec.kind == PredictorSpec.kind:
        raise UsageError(
            f"{named}: scored an outside model, which trained nothing; name a run of a mixer"
        )
    if record.spec.kind == ArticleCell.kind:
        raise UsageError(
            f"{named}: is a cell of rulekeep article, whose models are no mixers; name a run of "
            "rulekeep run or sweep"
        )
    try:
        spec = record.spec.parsed()
    except UsageError as error:
        raise UsageError(f"{named}: its spec cannot be read here: {error}") from None
    assert isinstance(spec, RunSpec), spec
    if not record.history:
        raise UsageError(f"{named}: its record has no history to compare a model with")
    return spec

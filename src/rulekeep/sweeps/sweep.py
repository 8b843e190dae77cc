"""Runs the jobs of a plan: gives them to an executor, and yields what happens to each.

    specs ─ `planning`: which runs a folder lacks ─ here: jobs to an executor ─ `job`: one run

A run that is `done` or `diverged` is a result and not run again; any other is. Two drivers may
share a folder: the process that runs a run holds its lock, so each run happens once.

    >>> planned = plan(specs, Path("runs/mine"))                         # doctest: +SKIP
    >>> for event in execute(planned, LocalExecutor()): ...              # doctest: +SKIP
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from rulekeep.executors import Advanced, Executor, Failure, Finished, Started
from rulekeep.records import Record
from rulekeep.records.store import (
    BusyError,
    CorruptRecordError,
    RunFolder,
    Values,
    read_record,
    write_record,
    write_text,
)
from rulekeep.sweeps.job import BUSY, MakeRun
from rulekeep.sweeps.planning import Job, Plan, spec_of

_WAIT_SECONDS = 1.0
_SHORT_WAIT_SECONDS = 0.1
_LET_GO_SECONDS = 10.0


class JobAdvanced(NamedTuple):
    """A job has done this many steps."""

    job: Job
    steps: int


class JobStarted(NamedTuple):
    """A job starts, for the `start`-th time; at 0 what ran it was lost, and it waits to start."""

    job: Job
    start: int


class JobFinished(NamedTuple):
    """A job has a record: a result, or one that says why there is none."""

    job: Job
    record: Record


class JobAwaited(NamedTuple):
    """Another process is making this run; its record is awaited."""

    job: Job


Event: TypeAlias = JobStarted | JobAdvanced | JobAwaited | JobFinished


def execute(
    planned: Plan,
    executor: Executor,
    time_limit: float | None = None,
    tracked: str = "none",
    *,
    keep_weights: bool = True,
) -> Iterator[Event]:
    """Run the jobs of a plan and yield what happens; each leaves its record on disk.

    `tracked` names the tracker of each run. A run that trains a model leaves its weights beside its
    record, unless `keep_weights` is false. A job that another driver runs is awaited, and run here
    if that driver leaves no result.
    """
    jobs = list(planned.jobs)
    while jobs:
        busy: dict[Job, Failure | None] = {}
        for event in executor.run(MakeRun(tracked, keep_weights), jobs, time_limit):
            job = jobs[event.job]
            match event:
                case Started(_, start):
                    yield JobStarted(job, start)
                case Advanced(_, steps):
                    yield JobAdvanced(job, steps)
                case Finished(_, result, None) if result == BUSY:
                    busy[job] = None
                case Finished(_, _, failure):
                    record = _record(job, failure)
                    if record is None:
                        busy[job] = failure
                    else:
                        yield JobFinished(job, record)
        jobs = []
        for job, failure in busy.items():
            yield JobAwaited(job)
            record = _wait(job, time_limit, failure)
            if record is None:
                jobs.append(job)
            else:
                yield JobFinished(job, record)


def _record(job: Job, failure: Failure | None) -> Record | None:
    """The record of a run that has ended; None if another driver has started it again."""
    folder = RunFolder(Path(job.root) / job.id)
    notes: list[str] = []
    # What was killed may hold it a little longer, on another machine above all.
    left = _LET_GO_SECONDS if failure and failure.status == "killed" else 0.0
    while True:
        try:
            with folder.locked():
                # A result stands, however its process ended: it may have been killed after that.
                record = folder.read(notes)
                if record is not None and record.is_result:
                    return record
                lost = Failure("failed", "; ".join(notes) or "its record is gone", "")
                return _failed(folder, failure or lost)
        except BusyError:
            if left <= 0:
                return None
            time.sleep(_SHORT_WAIT_SECONDS)
            left -= _SHORT_WAIT_SECONDS
        except OSError as error:
            lost = Failure("failed", str(error), "")
            return _failed(folder, failure or lost, kept=_is_missing(folder))


def _failed(folder: RunFolder, failure: Failure, *, kept: bool = True) -> Record:
    """The record of a run without a result; on a full disk it is reported and not kept.

    It is not `kept` either if another process has the run, or its record cannot be read.
    """
    try:
        found = read_record(folder.plan)
        settings = spec_of(found).as_recorded
        attempt = max(1, folder.attempt)
    except (OSError, ValueError):
        found, settings, attempt = {}, {}, 1
    try:
        environment = read_record(folder.environment)
    # It has not come so far.
    except (OSError, ValueError):
        environment = {}
    values: Values = {
        "id": folder.id,
        "kind": found.get("kind", ""),
        "asked": found.get("asked", {}),
        "versions": found.get("versions", {}),
        "status": failure.status,
        "reason": failure.reason,
        "spec": settings,
        "source": found.get("source"),
        "history": [],
        "evaluations": [],
        "costs": {},
        "environment": environment,
        "notes": [],
        "attempt": attempt,
    }
    if not kept:
        return _as_failed(folder, failure, values)
    try:
        write_record(folder.record, values)
        # The record says it now.
        folder.environment.unlink(missing_ok=True)
    except OSError as error:
        values["notes"].append(f"not kept on disk: {error.strerror}")
    try:
        if failure.traceback:
            write_text(folder.log, f"{failure.reason}\n\n{failure.traceback}")
    except OSError as error:
        values["notes"].append(f"its log is not kept on disk: {error.strerror}")
    return _as_failed(folder, failure, values)


def _is_missing(folder: RunFolder) -> bool:
    """Whether there is no record; one that cannot be read may be whole, and is not overwritten."""
    try:
        return not folder.record.exists()
    except OSError:
        return False


def _as_failed(folder: RunFolder, failure: Failure, values: Values) -> Record:
    # Where its plan cannot be read either, how it ended is all that is known of it.
    try:
        return Record.read(values)
    except CorruptRecordError:
        return Record.failed(folder.id, failure.status, failure.reason)


def _wait(job: Job, limit: float | None = None, failure: Failure | None = None) -> Record | None:
    """The record that another process writes; None if it leaves none.

    A run that has failed here is not made again: its failure becomes its record. A run that is held
    for longer than the limit is not awaited, and its record is not touched.
    """
    folder = RunFolder(Path(job.root) / job.id)
    waited = 0.0
    while True:
        try:
            with folder.locked():
                record = folder.read([])
                if record is not None and record.is_result:
                    return record
                return _failed(folder, failure) if failure else None
        except BusyError:
            if limit is not None and waited > limit + _LET_GO_SECONDS:
                reason = f"another process has held it for longer than the limit of {limit:g} s"
                return _failed(folder, Failure("timeout", reason, ""), kept=False)
            time.sleep(_WAIT_SECONDS)
            waited += _WAIT_SECONDS
        except OSError:
            # Its own process says why, when it is made here.
            return _failed(folder, failure, kept=_is_missing(folder)) if failure else None

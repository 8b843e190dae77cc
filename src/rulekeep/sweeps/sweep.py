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
from rulekeep.running.trackers import TrackerName
from rulekeep.sweeps.job import BUSY, MakeRun
from rulekeep.sweeps.planning import Job, Plan, spec_of

_WAIT_SECONDS = 1.0
# What was killed may hold its run a little longer, on another machine above all.
_LET_GO_SECONDS = 10.0
_GONE = Failure("failed", "its record is gone")


class JobFinished(NamedTuple):
    """A job has a record: a result, or one that says why there is none."""

    job: Job
    record: Record


class JobAwaited(NamedTuple):
    """Another process is making this run; its record is awaited."""

    job: Job


Event: TypeAlias = Started | Advanced | JobAwaited | JobFinished


def execute(
    planned: Plan,
    executor: Executor,
    time_limit: float | None = None,
    tracked: TrackerName = "none",
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
        held: dict[Job, Failure | None] = {}
        for event in executor.run(MakeRun(tracked, keep_weights), jobs, time_limit):
            if not isinstance(event, Finished):
                yield event
                continue
            try:
                if event.result == BUSY:
                    raise BusyError(event.job.id)
                yield JobFinished(event.job, _record(event.job, event.failure or _GONE))
            except BusyError:
                held[event.job] = event.failure
        jobs = []
        for job, failure in held.items():
            yield JobAwaited(job)
            record = _awaited(job, failure, time_limit)
            if record is None:
                jobs.append(job)
            else:
                yield JobFinished(job, record)


def _record(job: Job, failure: Failure) -> Record:
    """The record of a run that has ended; without a result, it is that of this failure.

    Raises:
        BusyError: another process makes the run.
    """
    folder = RunFolder(Path(job.root) / job.id)
    try:
        with folder.locked():
            # A result stands, however its process ended: it may have been killed after that.
            record = folder.read([])
            return record if record and record.is_result else _failed(folder, failure)
    except (OSError, CorruptRecordError) as error:
        # What cannot be read may be whole, and is not overwritten.
        return Record.failed(job.id, failure.status, f"{failure.reason} ({error})")


def _awaited(job: Job, failure: Failure | None, limit: float | None) -> Record | None:
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
            if failure or (record and record.is_result):
                return _record(job, failure or _GONE)
            return None
        except BusyError:
            if limit is not None and waited > limit + _LET_GO_SECONDS:
                reason = f"another process has held it for longer than the limit of {limit:g} s"
                return Record.failed(job.id, "timeout", reason)
            time.sleep(_WAIT_SECONDS)
            waited += _WAIT_SECONDS


def _failed(folder: RunFolder, failure: Failure) -> Record:
    """Write the record of a run without a result; on a full disk it is reported and not kept."""
    plan = read_record(folder.plan)
    values: Values = {
        "id": folder.id,
        "kind": plan["kind"],
        "asked": plan.get("asked", {}),
        "versions": plan.get("versions", {}),
        "status": failure.status,
        "reason": failure.reason,
        "spec": spec_of(plan).as_recorded,
        "source": plan.get("source"),
        "history": [],
        "evaluations": [],
        "costs": {},
        # Without it, the run has not come so far.
        "environment": read_record(folder.environment) if folder.environment.exists() else {},
        "notes": [],
        "attempt": max(1, folder.attempt),
    }
    try:
        write_record(folder.record, values)
        folder.environment.unlink(missing_ok=True)
        if failure.traceback:
            write_text(folder.log, f"{failure.reason}\n\n{failure.traceback}")
    except OSError as error:
        values["notes"].append(f"not kept on disk: {error.strerror}")
    return Record.read(values)

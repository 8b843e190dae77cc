"""Makes runs: plans what a folder lacks, gives it to an executor, and shows how far it is.

    made = make_runs(lambda _: specs, Path("runs/mine"), LocalExecutor())

    specs ─ `planning`: which runs a folder lacks ─ here: jobs to an executor ─ `job`: one run

On a terminal a live table shows how far all is; elsewhere a line does, every 30 s.

A run that is `done` or `diverged` is a result and not run again; any other is. Two drivers may
share a folder: the process that runs a run holds its lock, so each run happens once.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from rulekeep.console import (
    EXIT_FAILED,
    EXIT_USAGE,
    plain_line,
    progress_bars,
    rich_console,
    say,
    saying,
    score_text,
)
from rulekeep.executors import Advanced, DaskExecutor, Executor, Failure, Finished, Started
from rulekeep.executors.base import USAGE
from rulekeep.executors.here import ThisProcess
from rulekeep.printable import counted, pasted, printable
from rulekeep.records import Record
from rulekeep.records.folders import Command
from rulekeep.records.store import (
    BusyError,
    CorruptRecordError,
    RunFolder,
    Values,
    read_record,
    results,
    write_record,
    write_text,
)
from rulekeep.registry import find_function
from rulekeep.running.building import check_device
from rulekeep.specs import AnySpec, LanguageSpec, PredictorSpec, RunSpec
from rulekeep.sweeps import planning
from rulekeep.sweeps.asked import How, Make, Settled
from rulekeep.sweeps.job import BUSY, make_run
from rulekeep.sweeps.planning import Job, Plan, spec_of

if TYPE_CHECKING:
    from rich.progress import TaskID

_WAIT_SECONDS = 1.0
# What was killed may hold its run a little longer, on another machine above all.
_LET_GO_SECONDS = 10.0
_GONE = Failure("failed", "its record is gone")
_AS_USUAL = How()


class JobFinished(NamedTuple):
    """A job has a record: a result, or one that says why there is none."""

    job: Job
    record: Record


class JobAwaited(NamedTuple):
    """Another process is making this run; its record is awaited."""

    job: Job


Event: TypeAlias = Started | Advanced | JobAwaited | JobFinished


class Made(NamedTuple):
    """Records by id, and the number of runs in the folder whose plan or record is lost."""

    records: Mapping[str, Record]
    lost: int

    def say_failed(self, root: Path) -> int:
        """Name each run without a result; the exit code.

        What its user can mend is said once, whatever number of runs it has stopped.
        """
        failed = [record for record in self.records.values() if not record.is_result]
        usage = [record for record in failed if record.reason.startswith(USAGE)]
        for line in dict.fromkeys(record.reason.removeprefix(USAGE) for record in usage):
            say(f"rulekeep: {line}")
        if usage and len(usage) == len(failed) and not self.lost:
            return EXIT_USAGE
        for record in failed:
            if record not in usage:
                log = root / record.id / "log.txt"
                where = f" (see {log})" if log.exists() else ""
                say(f"run {record.id}: {record.status}: {record.reason}{where}")
        return EXIT_FAILED if failed or self.lost else 0


def make_runs(
    make: Make | None,
    root: Path,
    executor: Executor,
    how: How = _AS_USUAL,
    command: Command | None = None,
    *,
    chooses: bool = False,
) -> Made:
    """Make the runs that a folder lacks; without `make`, those that were planned in it.

    Raises:
        UsageError: a spec is impossible, or the folder cannot be written.
        KeyboardInterrupt: with a line that says how many are finished, and how to go on.
    """
    if how.tracker:
        # What cannot be found is said before hours of runs.
        find_function(how.tracker, (), "tracker")
    executor.prepare()
    records, wanted = dict[str, Record](), set[str]()
    lost, heard = set[str](), set[str]()
    more = True
    try:
        while True:
            specs = make(root) if make else []
            planned = (
                _planned(specs, root, executor, command) if make else planning.plan_again(root)
            )
            if not wanted:
                _say_what_stands(planned, specs, root)
            for note in planned.notes:
                if note not in heard:
                    say(note)
            heard |= {*planned.notes}
            lost |= {*planned.lost}
            # A run that stood finished is news as well: more may follow from it.
            asked = {job.id for job in planned.jobs} | {record.id for record in planned.finished}
            more = chooses and not isinstance(specs, Settled) and not (wanted and asked <= wanted)
            wanted |= asked
            records |= {record.id: record for record in planned.finished}
            # What cannot be read may be what the sweep chooses by.
            if command and not (more or lost):
                command.pending_file(root).unlink(missing_ok=True)
            jobs = [job for job in planned.jobs if job.id not in records]
            for event in shown(execute(planned._replace(jobs=jobs), executor, how), jobs):
                records[event.job.id] = event.record
            # What comes next is chosen from what came: not from half of it.
            if not more or not all(record.is_result for record in records.values()):
                return Made(records, len(lost))
    except KeyboardInterrupt:
        if not wanted:
            raise
        # What a worker wrote as the interruption came stands, though nothing was heard of it.
        done = sum(record.id in wanted for record in results(root))
        runs = counted(len(wanted) + len(lost), "run is", "runs are")
        again = _again(root, executor, command if more or lost else None)
        raise KeyboardInterrupt(
            f"interrupted: {done} of {runs} finished; for the rest: {again}"
        ) from None


def _say_what_stands(planned: Plan, specs: Sequence[AnySpec], root: Path) -> None:
    total = len(planned.finished) + len(planned.jobs) + len(planned.lost)
    if planned.finished:
        stand = counted(total, "run stands", "runs stand")
        say(f"{len(planned.finished)} of {stand} finished in {root}")
        if any(isinstance(spec, PredictorSpec) for spec in specs):
            say("weights of a predictor are no part of its run: for others give another --out")
    elif total > 1 and not sys.stderr.isatty():
        # A terminal shows it; elsewhere nothing would be said until the first run ends.
        say(f"{counted(len(planned.jobs), 'run')} to make in {root}")


def _again(root: Path, executor: Executor, command: Command | None) -> str:
    """What to type after an interruption; a sweep that chooses needs its own command."""
    if isinstance(executor, ThisProcess):
        return "the same call again"
    again = command.again(root) if command else f"rulekeep resume {pasted(root)}"
    if isinstance(executor, DaskExecutor):
        again += " with the same --executor and --scheduler (without them, on this machine)"
    return again


def _planned(
    specs: Sequence[AnySpec], root: Path, executor: Executor, command: Command | None
) -> Plan:
    # A cluster's workers may have what this machine has not.
    for spec in () if isinstance(executor, DaskExecutor) else specs:
        if isinstance(spec, (RunSpec, LanguageSpec)):
            check_device(spec.device)
    return planning.plan(specs, root, command)


def execute(planned: Plan, executor: Executor, how: How = _AS_USUAL) -> Iterator[Event]:
    """Run the jobs of a plan and yield what happens; each leaves its record on disk.

    A job that another driver runs is awaited, and run here if that driver leaves no result.
    """
    jobs = list(planned.jobs)
    # A run looks for it from the folder where it was planned.
    tracker = str(Path(how.tracker).absolute()) if ".py" in how.tracker else how.tracker
    function = partial(make_run, tracker=tracker, keep_weights=how.weights)
    while jobs:
        held: dict[Job, Failure | None] = {}
        for event in executor.run(function, jobs, how.time_limit):
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
            record = _awaited(job, failure, how.time_limit)
            if record is None:
                jobs.append(job)
            else:
                yield JobFinished(job, record)


def _record(job: Job, failure: Failure) -> Record:
    """The record of a run that has ended; without a result, it is that of this failure."""
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
    until = time.monotonic() + (float("inf") if limit is None else limit + _LET_GO_SECONDS)
    while True:
        try:
            with folder.locked():
                record = folder.read([])
            if failure or (record and record.is_result):
                return _record(job, failure or _GONE)
            return None
        except BusyError:
            if time.monotonic() > until:
                reason = f"another process has held it for longer than the limit of {limit:g} s"
                return Record.failed(job.id, "timeout", reason)
            time.sleep(_WAIT_SECONDS)


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


def shown(events: Iterator[Event], jobs: Sequence[Job]) -> Iterator[JobFinished]:
    """Passes on the finished runs, showing how many are done, running and failed, and the ETA.

    Where a step says how long others take, the time for all is said after the first ones.
    """
    console = rich_console(errors=True)
    started = time.monotonic()
    total = sum(job.steps for job in jobs)
    effort = {job.id: job.effort or 1.0 for job in jobs}
    # When the first step was made, and what was made by then: loading a model says nothing.
    begun: tuple[float, float] | None = None
    steps, running = dict.fromkeys((job.id for job in jobs), 0), set[str]()
    done = failed = 0
    told = False

    def line(text: str) -> None:
        console.print(plain_line(text), soft_wrap=True)

    def counts() -> str:
        testing = sum(steps[job.id] == job.steps for job in jobs if job.id in running)
        now = f"{done} of {len(jobs)} done, {len(running)} running, {failed} failed"
        return f"{now}, {testing} testing" if testing else now

    def made() -> float:
        return sum(steps[job.id] * effort[job.id] for job in jobs)

    def left() -> str:
        if begun is None or (since := made() - begun[1]) <= 0:
            return ""
        to_make = sum(job.steps * effort[job.id] for job in jobs) - made()
        minutes = (time.monotonic() - begun[0]) * to_make / since / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"

    def far() -> str:
        said = f"step {sum(steps.values()):,} of {total:,}, {counts()}"
        # Steps say nothing of how long a test takes.
        return said if said.endswith("testing") else ", ".join(filter(None, (said, left())))

    lines = saying(far) if jobs and not console.is_terminal else nullcontext()
    with progress_bars(console, shown=bool(jobs)) as progress, lines:
        whole = progress.add_task(counts(), total=total)
        bars: dict[str, TaskID] = {}
        for event in events:
            job = event.job
            match event:
                case Started(_, start):
                    # What it did before is gone.
                    steps[job.id] = 0
                    running.add(job.id)
                    if start > 1:
                        line(f"{job.label}: its worker was lost; start {start} of it begins")
                case Advanced(_, reached):
                    running.add(job.id)
                    steps[job.id] = reached
                    if begun is None:
                        begun = time.monotonic(), made()
                    elif not told and job.effort and (time_left := left()):
                        told = True
                        runs = counted(len(jobs), "run")
                        line(f"{time_left} for {runs}, by the pace of the first steps")
                    if job.id not in bars:
                        bars[job.id] = progress.add_task(printable(job.label), total=job.steps)
                    progress.update(bars[job.id], completed=reached)
                case JobAwaited():
                    running.discard(job.id)
                    line(f"{job.label}: another process makes it; waiting for it")
                case JobFinished(_, record):
                    # Passed on first: a run whose line is out counts, whenever Ctrl-C comes.
                    yield event
                    steps[job.id] = job.steps
                    running.discard(job.id)
                    done, failed = done + record.is_result, failed + (not record.is_result)
                    if job.id in bars:
                        progress.remove_task(bars.pop(job.id))
                    seconds = f"{time.monotonic() - started:.0f} s since the start"
                    line(f"[{done + failed}/{len(jobs)}] {job.label}: {_outcome(event)}, {seconds}")
                    # What came up as it was made; of rules in words their own command says it.
                    for note in () if record.choices else record.notes:
                        if note not in job.noted:
                            line(f"run {job.id}: {note}")
            progress.update(whole, description=counts(), completed=sum(steps.values()))


def _outcome(event: JobFinished) -> str:
    record = event.record
    if record.reason.startswith(USAGE):
        # What its user can mend is said once, as the command ends.
        return record.status
    if record.status != "done":
        return f"{record.status}: {record.reason}"
    if record.choices or record.rules:
        what = "prompts" if record.choices else "histories"
        return f"{record.costs.get('seconds', 0.0):.1f} s for its {what}"
    kept = [
        f"{score_text(row.figures.get('retention'))} at {row.context}" for row in record.tests()
    ]
    scores = f"retention {', '.join(kept)}" if kept else "done"
    return f"{scores}, trained {record.costs['train_seconds']:.1f} s"

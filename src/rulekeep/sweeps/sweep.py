"""A grid of runs: plan what a folder lacks, give it to an executor, keep the results.

Each run has a folder named by its id: a hash of its validated spec and of the versions of its
protocol, task and mixers (`rulekeep.records.identity`). A run that is `done` or `diverged` is a
result and not run again; any other is. Two drivers may share a folder: the process that runs a run
holds its lock, so each run happens once.

    >>> planned = plan(specs, Path("runs/mine"))                         # doctest: +SKIP
    >>> for event in execute(planned, LocalExecutor()): ...              # doctest: +SKIP
"""

import errno
import hashlib
import os
import shlex
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

from rulekeep.executors import Advanced, Executor, Failure, Finished
from rulekeep.printable import one_line
from rulekeep.records import Record
from rulekeep.records.store import (
    BusyError,
    CorruptRecordError,
    RunFolder,
    Values,
    make_folder,
    packed_results,
    read_record,
    run_folders,
    said_aside,
    unreadable,
    write_record,
    write_text,
)
from rulekeep.running.resolving import notes_on_training
from rulekeep.running.trackers import tracker
from rulekeep.specs import KINDS, AnySpec, UsageError
from rulekeep.specs.renamed import current, current_versions
from rulekeep.sweeps.runners import AnyResolved, resolve_any, runner_of
from rulekeep.tasks import FewCombinationsWarning

_BUSY = "busy"
_WAIT_SECONDS = 1.0
_SHORT_WAIT_SECONDS = 0.1
_LET_GO_SECONDS = 10.0
_LONGEST_WARNING = 2000


class Job(NamedTuple):
    """One run to make: what a process gets, and a name to show."""

    root: str
    id: str
    label: str
    steps: int


class Plan(NamedTuple):
    """Finished records, jobs to run, and a note for each problem.

    `lost` are the runs that have neither a record nor a plan, or whose files cannot be read.
    """

    finished: list[Record]
    jobs: list[Job]
    notes: list[str]
    lost: tuple[str, ...] = ()


class JobAdvanced(NamedTuple):
    """A job has done this many steps."""

    job: Job
    steps: int


class JobFinished(NamedTuple):
    """A job has a record: a result, or one that says why there is none."""

    job: Job
    record: Record


class JobAwaited(NamedTuple):
    """Another process is making this run; its record is awaited."""

    job: Job


Event: TypeAlias = JobAdvanced | JobAwaited | JobFinished


class Command(NamedTuple):
    """The command of a sweep as it was given: it may ask for runs that no plan has."""

    text: str
    working_folder: str

    def kept(self, root: Path) -> Path:
        """Its file in a folder of runs until all its runs are planned."""
        name = hashlib.sha256("\0".join(self).encode()).hexdigest()[:8]
        return root / f"sweep-{name}.pending"

    def again(self, root: Path) -> str:
        """The command line to continue, wherever the folder is now."""
        here, there = str(Path.cwd()), self.working_folder
        out = root if here == there else root.absolute()
        go = "" if here == there else f"cd {shlex.quote(there)} && "
        return f"{go}{self.text} --out {shlex.quote(str(out))}"


def unfinished(root: Path) -> list[Command]:
    """The sweeps of a folder that have not asked for all their runs."""
    found = []
    for path in sorted(root.glob("sweep-*.pending")):
        with suppress(OSError, CorruptRecordError):
            found.append(Command(**read_record(path)))
    return found


def plan(specs: Sequence[AnySpec], root: Path, command: Command | None = None) -> Plan:
    """Write each run into its folder, and say which are still to be made.

    Every spec is resolved before anything is written. What cannot be written in full is removed
    again. The command stands in the folder from the first plan on, because a kill may come before
    the last; whoever gave it removes it (`Command.kept`).

    Raises:
        UsageError: a spec is impossible, or the folder cannot be written.
    """
    plans: dict[str, tuple[AnySpec, AnyResolved]] = {}
    for spec in specs:
        resolved = resolve_any(spec)
        plans.setdefault(resolved.id, (spec, resolved))
    is_new = not root.exists()
    make_folder(root)
    result, lost = Plan([], [], []), list[str]()
    packed = packed_results(root)
    made: list[RunFolder] = []
    said = command.kept(root) if command and not command.kept(root).exists() else None
    try:
        if command and said:
            write_record(said, command._asdict())
        for identity, (spec, resolved) in plans.items():
            folder = RunFolder(root / identity)
            if identity in packed:
                result.finished.append(packed[identity])
                continue
            if not os.path.lexists(folder.path):
                made.append(folder)
                folder.path.mkdir(exist_ok=True)
            wanted = {**_planned(resolved), "working_folder": str(Path.cwd())}
            try:
                stands = _is_planned(folder, wanted, result.notes)
                record = folder.read(result.notes)
            except OSError as error:
                lost.append(folder.id)
                result.notes.append(_left_out(folder, error))
                continue
            if not stands:
                write_record(folder.plan, wanted)
            _sort_in(folder, spec, record, result)
        said_of = [notes_on_training(plans[job.id][1]) for job in result.jobs]
        result.notes.extend(dict.fromkeys(note for notes in said_of for note in notes))
    except BaseException as error:
        if said:
            said.unlink(missing_ok=True)
        for folder in made:
            with suppress(OSError):
                _take_back(folder)
        with suppress(OSError):
            if is_new:
                root.rmdir()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = error.filename or root
            raise UsageError(
                f"{where}: cannot be written ({error.strerror}); make room or name another folder"
            ) from None
        raise
    return result._replace(lost=tuple(lost))


def _left_out(folder: RunFolder, error: OSError) -> str:
    # It may be whole: what overwrites it might lose a result.
    path = Path(error.filename or folder.path)
    return (
        f"run {folder.id}: {unreadable(path, error)}; left out: mend or remove it, then give the "
        "command again"
    )


def _take_back(folder: RunFolder) -> None:
    # What another driver has begun by now is its own.
    if not folder.attempts.exists():
        folder.plan.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            folder.path.rmdir()


def identity(spec: AnySpec) -> str:
    """The id of a run, which is the name of its folder.

    Raises:
        UsageError: the spec is impossible.
    """
    return resolve_any(spec).id


def plan_again(root: Path) -> Plan:
    """The plan of everything that was planned in a folder; lost runs are noted.

    Raises:
        UsageError: there is no such folder, or nothing was planned in it.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: there is no such folder; name one that a sweep has written")
    folders = run_folders(root)
    if not folders:
        asked = (command.again(root) for command in unfinished(root))
        fix = next(asked, "name the --out of a sweep")
        raise UsageError(f"{root}: no run was planned in it; {fix}")
    make_folder(root)
    result, lost = Plan([], [], []), []
    for folder in folders:
        try:
            record = folder.read(result.notes)
        except OSError as error:
            lost.append(folder.id)
            result.notes.append(_left_out(folder, error))
            continue
        try:
            found = read_record(folder.plan)
            spec = _spec(found)
            if record is None or not record.is_result:
                _check_versions(folder, spec, found)
        except FileNotFoundError:
            why = "its plan is lost"
        except OSError as error:
            why = unreadable(folder.plan, error)
        except CorruptRecordError as error:
            why = f"{error}; {said_aside(folder.plan)}"
        except UsageError as error:
            # Whole, but of another version: that one can still make it.
            why = f"{folder.plan.name}: {error}"
        else:
            _sort_in(folder, spec, record, result)
            continue
        if record is not None and record.is_result:
            result.finished.append(record)
            result.notes.append(f"run {folder.id}: {why}; its record stands")
        else:
            lost.append(folder.id)
            result.notes.append(
                f"run {folder.id}: {why}; it cannot be planned again from here: "
                "give the sweep that planned it once more"
            )
    return result._replace(lost=tuple(lost))


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
        for event in executor.run(_Task(tracked, keep_weights), jobs, time_limit):
            job = jobs[event.job]
            match event:
                case Advanced(_, steps):
                    yield JobAdvanced(job, steps)
                case Finished(_, result, None) if result == _BUSY:
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


def check_folder(root: Path) -> None:
    """Raise unless this is a folder, or can become one; it may be read-only.

    Raises:
        UsageError: something else has this name.
    """
    there = next(path for path in (root, *root.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UsageError(f"{root}: {there} is no folder; name another")


class _Task:
    """What a worker runs; a class, so that other processes can import it."""

    def __init__(self, tracker: str, keep_weights: bool) -> None:
        self.tracker, self.keep_weights = tracker, keep_weights

    def __call__(self, job: Job, progress: Callable[[int], None]) -> str:
        folder = RunFolder(Path(job.root) / job.id, keeps_weights=self.keep_weights)
        # For the user too: one line, without the place in our code.
        warnings.formatwarning = lambda message, *_, **__: _warning_line(message)
        try:
            with folder.locked(), warnings.catch_warnings():
                # Said when the run was planned, and again in its record.
                warnings.simplefilter("ignore", FewCombinationsWarning)
                return _make(folder, progress, self.tracker)
        except BusyError:
            return _BUSY


def _warning_line(message: Warning | str) -> str:
    return f"rulekeep: {one_line(str(message), _LONGEST_WARNING)}\n"


def _make(folder: RunFolder, progress: Callable[[int], None], tracked: str) -> str:
    record = folder.read([])
    if record is not None and record.is_result:
        # Another driver was faster.
        return "done"
    attempt = folder.start()
    found = read_record(folder.plan)
    os.chdir(found["working_folder"])
    spec = _spec(found)
    # Before anything of a user's is loaded: a process that is killed can say it no more.
    write_record(folder.environment, _environment(spec))
    resolved = resolve_any(spec)
    if resolved.id != folder.id:
        raise RuntimeError(f"{_other_versions(found, resolved)}: give the command that planned it")
    # Only the process that makes a run loads torch.
    from rulekeep.checks.screening import screen

    # Not where it is planned: what hangs or crashes takes no more than its own run.
    screen(resolved)
    follow = tracker(tracked, folder.path)
    follow.start(folder.id, found["spec"])
    try:
        made = runner_of(resolved)(resolved, folder, progress, follow.log)
    except BaseException as error:
        follow.finish("failed", {"reason": str(error)})
        raise
    follow.finish(made["status"], made["costs"])
    notes = [*made.pop("notes", []), *_set_aside(folder)]
    head = {"id": folder.id, "kind": spec.kind, "versions": dict(resolved.versions)}
    head["asked"] = resolved.asked
    _write_result(folder, {**head, **made, "notes": notes, "attempt": attempt})
    for left in (folder.checkpoint, folder.log, folder.environment):
        left.unlink(missing_ok=True)
    return "done"


def _write_result(folder: RunFolder, values: Values) -> None:
    """Write a record; if the disk has no room for both, the weights are deleted."""
    try:
        write_record(folder.record, values)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not folder.weights.exists():
            raise
        folder.weights.unlink()
        note = f"its weights were not kept: {error.strerror}"
        write_record(folder.record, {**values, "weights": None, "notes": [*values["notes"], note]})


def _environment(spec: AnySpec) -> Values:
    """The machine of a run without a result, as far as it is known before the run."""
    # Here, since only what trains may load torch.
    from rulekeep.running.costs import environment

    asked = {key: getattr(spec, key) for key in ("device", "threads") if hasattr(spec, key)}
    return {**environment(), **asked}


def _set_aside(folder: RunFolder) -> list[str]:
    return [f"{path.name} was set aside as corrupt" for path in folder.aside]


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
            return _failed(folder, failure or Failure("failed", str(error), ""))


def _failed(folder: RunFolder, failure: Failure, *, kept: bool = True) -> Record:
    """The record of a run without a result; on a full disk it is reported and not kept.

    It is not `kept` either if another process has the run.
    """
    try:
        found = read_record(folder.plan)
        settings = _spec(found).as_recorded
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


def _as_failed(folder: RunFolder, failure: Failure, values: Values) -> Record:
    # Where its plan cannot be read either, how it ended is all that is known of it.
    return Record.read(values) or Record.failed(folder.id, failure.status, failure.reason)


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
            return _failed(folder, failure) if failure else None


def _is_planned(folder: RunFolder, wanted: Values, notes: list[str]) -> bool:
    """Whether its plan stands, whole and planned in this folder."""
    try:
        return read_record(folder.plan) == wanted
    except FileNotFoundError:
        return False
    except CorruptRecordError as error:
        notes.append(f"run {folder.id}: {error}; {said_aside(folder.plan)}")
        return False


def _check_versions(folder: RunFolder, spec: AnySpec, found: Values) -> None:
    """Raise if a plan is of other versions, before a process starts.

    Raises:
        UsageError: the versions differ, or a name is gone.
    """
    try:
        with chdir(found["working_folder"]):
            resolved = resolve_any(spec)
    except OSError as error:
        raise UsageError(f"planned in {found['working_folder']}: {error.strerror}") from None
    if resolved.id != folder.id:
        raise UsageError(_other_versions(found, resolved))


def _other_versions(found: Values, resolved: AnyResolved) -> str:
    """How a plan differs from what would be run now."""
    planned = found.get("versions")
    if not isinstance(planned, dict):
        return "it was planned before versions were declared"
    planned = current_versions(planned)
    parts = [
        f"{name} {planned.get(name, 'none')} (here {version})"
        for name, version in resolved.versions.items()
        if planned.get(name) != version
    ]
    return f"it was planned with {', '.join(parts) or 'other default values'}"


def _sort_in(folder: RunFolder, spec: AnySpec, record: Record | None, result: Plan) -> None:
    if record is not None and record.is_result:
        result.finished.append(record)
    else:
        # Absolute, since a job goes where its spec was planned, and relative names with it.
        root = str(folder.path.parent.absolute())
        result.jobs.append(Job(root, folder.id, spec.label, spec.steps))


def _planned(resolved: AnyResolved) -> Values:
    """The plan of a run, written before it is made."""
    return {
        "kind": resolved.spec.kind,
        "spec": resolved.spec.model_dump(mode="json"),
        "versions": dict(resolved.versions),
        "source": resolved.source,
    }


def _spec(found: Values) -> AnySpec:
    kind = KINDS.get(found.get("kind", ""))
    if kind is None:
        raise UsageError(f"kind {found.get('kind')!r}: choose from {', '.join(KINDS)}")
    spec: AnySpec = kind.parse_json(current(found["spec"]))
    return spec

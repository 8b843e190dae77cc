"""Plans runs: gives each a folder named by its id, and says which are still to be made.

A plan stands on disk before anything runs: an interrupted sweep goes on from it. The id is a hash
of the validated spec and of the versions of its protocol, task and mixers
(`rulekeep.records.identity`).

    >>> planned = plan(specs, Path("runs/mine"))                         # doctest: +SKIP
    >>> planned.jobs            # what the folder lacks                  # doctest: +SKIP
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import chdir, suppress
from pathlib import Path
from typing import NamedTuple

from rulekeep.printable import counted, pasted
from rulekeep.records import Record
from rulekeep.records.identity import differing
from rulekeep.records.store import (
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
)
from rulekeep.running.resolving import Resolved, ResolvedCell, ResolvedPredictor
from rulekeep.specs import KINDS, AnySpec, UsageError
from rulekeep.sweeps.runners import AnyResolved, resolve_any


class FormerVersionError(UsageError):
    """A run was planned with a former version of its task, its mixers or the protocol."""


class Job(NamedTuple):
    """One run to make: what a process gets, and a name to show.

    `noted` are notes of its record that were said when it was planned.
    """

    root: str
    id: str
    label: str
    steps: int
    noted: tuple[str, ...] = ()


class Plan(NamedTuple):
    """Finished records, jobs to run, and a note for each problem.

    `lost` are the runs that have neither a record nor a plan, or whose files cannot be read.
    """

    finished: list[Record]
    jobs: list[Job]
    notes: list[str]
    lost: tuple[str, ...] = ()


class Command(NamedTuple):
    """The command of a sweep as it was given: it may ask for runs that no plan has."""

    text: str
    working_folder: str

    def pending_file(self, root: Path) -> Path:
        """Its file in a folder of runs until all its runs are planned."""
        name = hashlib.sha256("\0".join(self).encode()).hexdigest()[:8]
        return root / f"sweep-{name}.pending"

    def again(self, root: Path) -> str:
        """The command line to continue, wherever the folder is now."""
        here, there = str(Path.cwd()), self.working_folder
        out = root if here == there else root.absolute()
        go = "" if here == there else f"cd {pasted(there)} && "
        return f"{go}{self.text} --out {pasted(out)}"


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
    the last; whoever gave it removes it (`Command.pending_file`).

    Raises:
        UsageError: a spec is impossible, or the folder cannot be written.
        OSError: the disk is full; the folder is as before.
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
    said = (
        command.pending_file(root) if command and not command.pending_file(root).exists() else None
    )
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
            _sort_in(folder, spec, resolved, record, result)
        to_make = [plans[job.id][1] for job in result.jobs]
        trained = [one for one in to_make if isinstance(one, Resolved | ResolvedCell)]
        result.notes.extend(dict.fromkeys(note for one in trained for note in one.notes))
    except BaseException:
        if said:
            said.unlink(missing_ok=True)
        for folder in made:
            with suppress(OSError):
                _take_back(folder)
        with suppress(OSError):
            if is_new:
                root.rmdir()
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

    Runs of former versions without a result are left as they are, and no part of it.

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
    result, lost, former = Plan([], [], []), [], list[str]()
    for folder in folders:
        try:
            record = folder.read(result.notes)
        except OSError as error:
            lost.append(folder.id)
            result.notes.append(_left_out(folder, error))
            continue
        try:
            found = read_record(folder.plan)
            spec = spec_of(found)
            resolved = None
            if record is None or not record.is_result:
                resolved = _same_versions(folder, spec, found)
        except FileNotFoundError:
            why = "its plan is lost"
        except OSError as error:
            why = unreadable(folder.plan, error)
        except CorruptRecordError as error:
            why = f"{error}; {said_aside(folder.plan)}"
        except FormerVersionError as error:
            former.append(str(error))
            continue
        except UsageError as error:
            # Whole, but of another version: that one can still make it.
            why = f"{folder.plan.name}: {error}"
        else:
            _sort_in(folder, spec, resolved, record, result)
            continue
        if record is not None and record.is_result:
            result.finished.append(record)
            result.notes.append(f"run {folder.id}: {why}; its record stands")
        else:
            lost.append(folder.id)
            result.notes.append(
                f"run {folder.id}: {why}; resume cannot make it: "
                "give its run or sweep command again"
            )
    if former:
        result.notes.append(
            f"{counted(len(former), 'run')} of a former version not counted: {former[0]}; "
            "for the present one give the run or sweep command again"
        )
    return result._replace(lost=tuple(lost))


def check_folder(root: Path) -> None:
    """Raise unless this is a folder, or can become one; it may be read-only.

    Raises:
        UsageError: something else has this name.
    """
    there = next(path for path in (root, *root.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UsageError(f"{root}: {there} is no folder; name another")


def _is_planned(folder: RunFolder, wanted: Values, notes: list[str]) -> bool:
    """Whether its plan stands, whole and planned in this folder."""
    try:
        return read_record(folder.plan) == wanted
    except FileNotFoundError:
        return False
    except CorruptRecordError as error:
        notes.append(f"run {folder.id}: {error}; {said_aside(folder.plan)}")
        return False


def _same_versions(folder: RunFolder, spec: AnySpec, found: Values) -> AnyResolved:
    """What a plan is of; raise if its versions are others, before a process starts.

    Raises:
        UsageError: the versions differ, or a name is gone.
    """
    try:
        with chdir(found["working_folder"]):
            resolved = resolve_any(spec)
    except OSError as error:
        raise UsageError(f"planned in {found['working_folder']}: {error.strerror}") from None
    if resolved.id != folder.id:
        planned = found.get("versions")
        is_former = planned and differing(planned, resolved.versions)
        raise (FormerVersionError if is_former else UsageError)(other_versions(found, resolved))
    return resolved


def _sort_in(
    folder: RunFolder, spec: AnySpec, resolved: AnyResolved | None, record: Record | None,
    result: Plan,
) -> None:  # fmt: skip
    if record is not None and record.is_result:
        result.finished.append(record)
    else:
        # Absolute, since a job goes where its spec was planned, and relative names with it.
        root = str(folder.path.parent.absolute())
        result.jobs.append(Job(root, folder.id, spec.label, spec.steps, _noted(resolved)))


def _noted(resolved: AnyResolved | None) -> tuple[str, ...]:
    """Notes of a record that were said as its run was resolved and planned."""
    of_task = resolved.task.notes if isinstance(resolved, Resolved | ResolvedPredictor) else ()
    of_mixers = resolved.notes if isinstance(resolved, Resolved | ResolvedCell) else ()
    return (*of_task, *of_mixers)


def _planned(resolved: AnyResolved) -> Values:
    """The plan of a run, written before it is made."""
    return {
        "kind": resolved.spec.kind,
        "spec": resolved.spec.model_dump(mode="json"),
        "asked": resolved.asked,
        "versions": dict(resolved.versions),
        "source": resolved.source,
    }


def other_versions(found: Values, resolved: AnyResolved) -> str:
    """How a plan differs from what would be run now."""
    planned = found.get("versions")
    if not isinstance(planned, dict):
        return "it was planned before versions were declared"
    parts = differing(planned, resolved.versions)
    return f"it was planned with {parts or 'other default values'}"


def spec_of(found: Values) -> AnySpec:
    """The spec of a plan as it was read.

    Raises:
        UsageError: it is of no kind known here, or a value is impossible.
    """
    kind = KINDS.get(found.get("kind", ""))
    if kind is None:
        raise UsageError(f"kind {found.get('kind')!r}: choose from {', '.join(KINDS)}")
    spec: AnySpec = kind.parse_json(found["spec"])
    return spec

"""Plans runs: gives each a folder named by its id, and says which are still to be made.

A plan stands on disk before anything runs: an interrupted sweep goes on from it. The id is a hash
of the validated spec and of the versions of its protocol, task and mixers
(`rulekeep.records.identity`).

    >>> planned = plan(specs, Path("runs/mine"))                         # doctest: +SKIP
    >>> planned.jobs            # what the folder lacks                  # doctest: +SKIP
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

from rulekeep.language.resolving import resolve_compaction, resolve_language
from rulekeep.printable import counted
from rulekeep.records import Record
from rulekeep.records.folders import Command, make_folder, unfinished
from rulekeep.records.identity import Identified, differing
from rulekeep.records.store import (
    CorruptRecordError,
    RunFolder,
    Values,
    packed_results,
    read_record,
    run_folders,
    set_aside,
    write_record,
)
from rulekeep.running.building import resolve, resolve_cell, resolve_predictor
from rulekeep.specs import (
    KINDS,
    AnySpec,
    ArticleCell,
    CompactionSpec,
    LanguageSpec,
    PredictorSpec,
    RunSpec,
    UsageError,
)


class Kind(NamedTuple):
    """What makes the runs of a kind whole, and the module whose `run` makes one.

    `run(resolved, folder, progress, log)` calls `progress` with every step, and `log` with step and
    figures of every validation. It returns the record without id, attempt and checksum.
    """

    resolve: Callable[[Any], Identified[Any]]
    runner: str


# By kind, since a sweep may return a subclass of a spec.
RUNS: Mapping[str, Kind] = {
    RunSpec.kind: Kind(resolve, "rulekeep.running.run"),
    PredictorSpec.kind: Kind(resolve_predictor, "rulekeep.running.predicting"),
    ArticleCell.kind: Kind(resolve_cell, "rulekeep.article.cell"),
    LanguageSpec.kind: Kind(resolve_language, "rulekeep.language.run"),
    CompactionSpec.kind: Kind(resolve_compaction, "rulekeep.compaction.run"),
}


class FormerVersionError(UsageError):
    """A run was planned with a former version of its task, its mixers or the protocol."""


class Job(NamedTuple):
    """One run to make: what a process gets, and a name to show.

    `noted` are notes of its record that were said when it was planned, and `effort` is what a step
    of it takes beside those of others; 0 where one says nothing of the next.
    """

    root: str
    id: str
    label: str
    steps: int
    noted: tuple[str, ...] = ()
    effort: float = 0.0


class Plan(NamedTuple):
    """Finished records, jobs to run, and a note for each problem.

    `lost` are the runs that have neither a record nor a plan, or whose files cannot be read.
    """

    finished: list[Record]
    jobs: list[Job]
    notes: list[str]
    lost: list[str]


def resolve_any(spec: AnySpec) -> Identified[Any]:
    """Resolve a spec of any kind."""
    return RUNS[spec.kind].resolve(spec)


def identity(spec: AnySpec) -> str:
    """The id of a run, which is the name of its folder."""
    return resolve_any(spec).id


def plan(specs: Sequence[AnySpec], root: Path, command: Command | None = None) -> Plan:
    """Write each run into its folder, and say which are still to be made.

    Every spec is resolved before anything is written. The command stands in the folder from the
    first plan on, because a kill may come before the last; whoever gave it removes it
    (`Command.pending_file`).
    """
    every = {resolved.id: resolved for resolved in map(resolve_any, specs)}
    make_folder(root)
    if command:
        write_record(command.pending_file(root), command._asdict())
    packed, result = packed_results(root), Plan([], [], [], [])
    for run_id, resolved in every.items():
        folder = RunFolder(root / run_id)
        if run_id in packed:
            result.finished.append(packed[run_id])
        elif not _is_finished(folder, result):
            folder.path.mkdir(exist_ok=True)
            wanted = {
                "kind": resolved.spec.kind,
                "spec": resolved.spec.model_dump(mode="json"),
                "asked": resolved.asked,
                "versions": dict(resolved.versions),
                "source": resolved.source,
                "working_folder": str(Path.cwd()),
            }
            if _read_plan(folder, result) != wanted:
                write_record(folder.plan, wanted)
            _add_job(folder, resolved, result)
    return result


def plan_again(root: Path) -> Plan:
    """The plan of everything that was planned in a folder; lost runs are noted.

    Runs of former versions without a result are left as they are, and no part of it.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: there is no such folder; name one that a sweep has written")
    folders = run_folders(root)
    if not folders:
        asked = (command.again(root) for command in unfinished(root))
        fix = next(asked, "name the --out of a sweep")
        raise UsageError(f"{root}: no run was planned in it; {fix}")
    make_folder(root)
    result, former = Plan([], [], [], []), list[str]()
    for folder in folders:
        if _is_finished(folder, result):
            continue
        planned = _read_plan(folder, result)
        try:
            if planned is None:
                raise UsageError("it has no plan")
            _add_job(folder, resolve_planned(planned, folder.id), result)
        except FormerVersionError as error:
            former.append(str(error))
        except UsageError as error:
            # Its plan is whole, but of another version of this package: that one can still make it.
            result.lost.append(folder.id)
            result.notes.append(
                f"run {folder.id}: {error}; resume cannot make it: "
                "give its run or sweep command again"
            )
    if former:
        result.notes.append(
            f"{counted(len(former), 'run')} of a former version not counted: {former[0]}; "
            "for the present one give the run or sweep command again"
        )
    return result


def resolve_planned(planned: Values, run_id: str) -> Identified[Any]:
    """What a plan is of, in the folder in which it was planned."""
    try:
        with chdir(planned["working_folder"]):
            resolved = resolve_any(spec_of(planned))
    except OSError as error:
        raise UsageError(f"planned in {planned['working_folder']}: {error.strerror}") from None
    if resolved.id != run_id:
        parts = differing(planned.get("versions", {}), resolved.versions)
        raise FormerVersionError(f"it was planned with {parts or 'other default values'}")
    return resolved


def spec_of(planned: Values) -> AnySpec:
    """The spec of a plan as it was read."""
    kind = KINDS.get(planned.get("kind", ""))
    if kind is None:
        raise UsageError(f"kind {planned.get('kind')!r}: choose from {', '.join(KINDS)}")
    spec: AnySpec = kind.parse(**planned["spec"])
    return spec


def _is_finished(folder: RunFolder, result: Plan) -> bool:
    """Whether a run has a result, which becomes part of the plan."""
    record = folder.read(result.notes)
    if record is None or not record.is_result:
        return False
    result.finished.append(record)
    return True


def _read_plan(folder: RunFolder, result: Plan) -> Values | None:
    """The plan of a run, if it has a whole one; a corrupt one is named and set aside."""
    try:
        return read_record(folder.plan)
    except FileNotFoundError:
        return None
    except CorruptRecordError as error:
        result.notes.append(f"run {folder.id}: {error}; {set_aside(folder.plan)}")
        return None


def _add_job(folder: RunFolder, resolved: Identified[Any], result: Plan) -> None:
    result.notes.extend(note for note in resolved.notes if note not in result.notes)
    # Absolute, since a job goes where its spec was planned, and relative names with it.
    root, spec = str(folder.path.parent.absolute()), resolved.spec
    effort = getattr(spec, "effort", 0.0)
    result.jobs.append(Job(root, folder.id, spec.label, spec.steps, resolved.notes, effort))

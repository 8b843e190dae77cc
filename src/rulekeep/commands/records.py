"""`rulekeep verify` and `report`: what is on disk, checked and shown."""

import json
import os
import shlex
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from rulekeep.commands.options import existing, opened, run_folder
from rulekeep.console import EXIT_FAILED, say, tell
from rulekeep.printable import counted, pasted
from rulekeep.records import Record
from rulekeep.records.pack import PACKED
from rulekeep.records.store import (
    CLAIMS,
    FORMER_IDS,
    CorruptRecordError,
    LoadedRecords,
    RunFolder,
    Values,
    as_spec,
    packed_values,
    read_record,
    read_runs,
    run_folders,
    unreadable,
)
from rulekeep.specs import Spec, UsageError

_EXPLAINED = "explain.json"
_MOST_NAMED = 3
_SpecType = TypeVar("_SpecType", bound=Spec)


def verify(folder: str, /) -> int:
    """Check every record of a folder and kept weights, without torch; exit 1 names what is broken.

    Parameters
    ----------
    folder
        Folder of runs, the --out of a sweep, or of certificates; what rulekeep certify, speed
        and explain wrote into it is checked too.
    """
    root = existing(folder)
    runs = run_folders(root)
    broken, missing = list[str](), 0
    whole = len(beside_runs(root, broken))
    if not (runs or whole or broken or (root / PACKED).exists()):
        raise _no_runs(root)
    live = {run.id for run in runs}
    whole += sum(one.get("id") not in live for one in packed_values(root, broken))
    for run in runs:
        try:
            found = run.load()
            # A record says all of its run: it may be kept without the plan that led to it.
            if found is None or os.path.lexists(run.plan):
                read_record(run.plan)
            if found is not None and os.path.lexists(run.weights):
                _check_weights(run, found)
            if found is None:
                missing += 1
            else:
                whole += 1
        except FileNotFoundError:
            broken.append(f"run {run.id}: {run.plan.name}: there is none")
        except (CorruptRecordError, OSError) as error:
            broken.append(f"run {run.id}: {_why(run.record, error)}")
    for line in broken:
        say(line)
    for run in runs:
        for path in run.aside:
            say(f"run {run.id}: {path.name} was set aside as corrupt")
    left = counted(missing, "run")
    tell(f"{counted(whole, 'record')} whole, {len(broken)} broken, {left} without a record")
    return EXIT_FAILED if broken else 0


def _check_weights(run: RunFolder, record: Record) -> None:
    from rulekeep.records.weights import check_weights

    try:
        check_weights(run.weights, record.weights)
    except CorruptRecordError as error:
        raise CorruptRecordError(f"{error}; rulekeep explain makes it again") from None


def report(folder: str, /, *more: str, out: str | None = None) -> int:
    """Write a page, Markdown, a CSV and figures about one folder of runs or several.

    The exit code is 1 if a record is broken: it is named and left out.

    Parameters
    ----------
    folder
        Folder of runs, the --out of a sweep; certificates in it (rulekeep certify), its
        speed.json (rulekeep speed) and what rulekeep explain wrote are shown.
    more
        Other folders of runs, of certificates or of speed, shown as if all stood in one; a run
        that stands in two, or was tested at other lengths in each, is one run.
    out
        Folder for the report, FOLDER/report if left out.
    """
    roots = [existing(one) for one in (folder, *more)]
    root = roots[0]
    kept = [read_runs(one) for one in roots]
    records = [record for one in kept for record in one.records]
    from rulekeep.explain.record import Explanation
    from rulekeep.speed.record import SpeedRecord

    beside, lost = list[Values](), list[str]()
    for one, own in zip(roots, kept, strict=True):
        broken = list[str]()
        values = kept_beside(one, broken)
        beside += values
        lost += (f"{line}; left out" for line in broken)
        # The first may be a mere place for what stands elsewhere.
        may_be_bare = one is root and not (one / "record.json").exists()
        has_something = own.records or values or broken or (one / PACKED).exists()
        if not (may_be_bare or has_something or run_folders(one)):
            raise _no_runs(one)
    unfinished = [
        line for one, own in zip(roots, kept, strict=True) if (line := said_unfinished(one, own))
    ]
    losses, measured = of_kind(beside, Explanation, lost), of_kind(beside, SpeedRecord, lost)
    left_out = [*(line for one in kept for line in one.left_out), *lost]
    if not (records or measured):
        if left_out:
            said = left_out[0].removesuffix("; left out")
            raise UsageError(f"{said}; there is no other record: put it back as it was")
        if not run_folders(root):
            raise _no_runs(root)
        raise UsageError(f"{root}: has no record yet; let rulekeep resume {pasted(root)} make some")
    command = ["rulekeep", "report", folder, *more]
    # Plotting brings libraries that take a second to load: only who needs them waits.
    from rulekeep.analysis.baselines import CERTIFICATES, rivals
    from rulekeep.analysis.merging import merged, trained_apart
    from rulekeep.reporting.write import write_report

    target = root / "report" if out is None else run_folder("report", out)
    command += [] if out is None else ["--out", out]
    started = time.monotonic()
    # Without them a report could claim a win over the weakest attention.
    attention = rivals(records)
    found = merged([*records, *attention])
    notes = [*(note for one in kept for note in one.notes), *trained_apart(records), *lost]
    if len(measured) > 1:
        # Measured side by side, it is of one record.
        notes.append(f"of {len(measured)} records of speed the first is shown")
    if attention:
        count = counted(len(attention), "committed run")
        notes.append(f"{count} of attention beside them, trained alike")
    proofs = certificates([*beside, *kept_beside(CERTIFICATES, [])])
    with opened(target):
        made = write_report(
            found, target, shlex.join(command), notes,
            unfinished=unfinished, certificates=proofs,
            speed=next(iter(measured), None), explanations=losses, runs=folder,
        )  # fmt: skip
    for line in unfinished:
        tell(line)
    read = len(merged(records)) + bool(measured)
    tell(f"{counted(read, 'record')} read and drawn in {time.monotonic() - started:.1f} s")
    tell(f"page:     {target / 'report.html'}")
    listed = sorted(path.name for path in made if path.suffix == ".csv")
    tell(f"the same: {', '.join([str(target / 'report.md'), *listed, 'figures/'])}")
    for line in left_out:
        say(line)
    return EXIT_FAILED if left_out else 0


def said_unfinished(root: Path, kept: LoadedRecords) -> str | None:
    """A line on a folder with plans of runs that have no result; None if there are none.

    A setting that was planned by two versions is one. A damaged record is named elsewhere.
    """
    # `verify` needs nothing that resolves runs.
    from rulekeep.sweeps.planning import unfinished as pending

    known = {one.id: one.is_result for one in kept.records}
    settings: dict[str, bool] = {}
    for run in run_folders(root):
        try:
            plan = read_record(run.plan)
            setting = json.dumps([plan.get("kind"), plan.get("spec")], sort_keys=True)
        except (CorruptRecordError, OSError):
            setting = run.id
        settings[setting] = settings.get(setting, False) or known.get(
            run.id, os.path.lexists(run.record)
        )
    finished = sum(settings.values())
    asked = pending(root)
    if finished == len(settings) and not asked:
        return None
    total = counted(len(settings), "planned run has a result", "planned runs have a result")
    fix = asked[0].again(root) if asked else f"rulekeep resume {pasted(root)}"
    more = "; the sweep chooses more by them" if asked else ""
    return f"Unfinished: {finished:,} of {total}{more}. For the rest: {fix}"


def _no_runs(root: Path) -> UsageError:
    if (root / "record.json").exists():
        return UsageError(f"{root}: is the folder of one run; name the one it stands in")
    inside = {
        path.parent if path.name == PACKED else path.parent.parent
        for depth in ("*", "*/*")
        for name in (PACKED, "*/plan.json", "*/record.json")
        for path in root.glob(f"{depth}/{name}")
    }
    if inside:
        named = shlex.join(map(str, sorted(inside)[:_MOST_NAMED]))
        return UsageError(f"{root}: holds folders of runs; name one or more, as in {named}")
    return UsageError(f"{root}: no run was planned in it; name the --out of a sweep")


def beside_runs(root: Path, broken: list[str]) -> list[Values]:
    """What a folder holds beside its runs, in files of its own; a line for each broken one."""
    # A run's own folder is no folder of records: its files would be checked out of their place.
    run = RunFolder(root)
    own = {run.plan, run.record, run.environment, root / _EXPLAINED, root / CLAIMS}
    paths = {*root.glob("*.json")} - own | {one.path / _EXPLAINED for one in run_folders(root)}
    found = []
    for path in sorted(filter(os.path.lexists, paths)):
        try:
            values = read_record(path)
        except (CorruptRecordError, OSError) as error:
            said = _why(path, error)
            if path.name == _EXPLAINED:
                said = f"run {path.parent.name}: {said}; rulekeep explain makes it again"
            broken.append(said)
        else:
            found += [values] if path.name != FORMER_IDS else []
    return found


def kept_beside(root: Path, broken: list[str]) -> list[Values]:
    """What a folder holds beside its runs, in files of its own or packed.

    A run that was explained anew has its own file beside the packed one, which is left out.
    """
    found = beside_runs(root, broken)
    anew = {one.get("run") for one in found} - {None}
    # What is amiss in the packed file is said where its runs are read.
    packed = (one for one in packed_values(root, []) if "id" not in one)
    return [*found, *(one for one in packed if one.get("run") not in anew)]


def certificates(found: Iterable[Values]) -> list[Values]:
    """The certificates among what a folder holds."""
    return [one for one in found if one.get("kind") == "certificate"]


def of_kind(found: Iterable[Values], kind: type[_SpecType], notes: list[str]) -> list[_SpecType]:
    """The records of a kind among what a folder holds; a note for each that is not whole."""
    typed, name = list[_SpecType](), kind.model_fields["kind"].default
    for one in found:
        if one.get("kind") == name:
            try:
                typed.append(as_spec(f"{name} {one.get('run', '')}".strip(), one, kind))
            except CorruptRecordError as error:
                notes.append(f"{error}; left out")
    return typed


def _why(path: Path, error: Exception) -> str:
    """Why a record is left out: the file, and the cause."""
    if not isinstance(error, OSError):
        return str(error)
    return unreadable(Path(error.filename or path), error)

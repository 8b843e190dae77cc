"""`rulekeep verify` and `report`: what is on disk, checked and shown."""

import os
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rulekeep.commands.console import EXIT_FAILED, say, tell
from rulekeep.commands.options import existing, opened, run_folder
from rulekeep.printable import counted
from rulekeep.records.pack import PACKED
from rulekeep.records.store import (
    CLAIMS,
    CorruptRecordError,
    Record,
    RunFolder,
    Values,
    as_spec,
    packed_values,
    read_record,
    read_runs,
    run_folders,
    unreadable,
)
from rulekeep.specs import UsageError

if TYPE_CHECKING:
    # A record of each kind is read where there is one: only then its model is made.
    from rulekeep.explain.record import Explanation
    from rulekeep.speed.record import SpeedRecord

_EXPLAINED, _SPEED = "explain.json", "speed.json"
_MOST_SHOWN = 4


def verify(folder: str, /) -> int:
    """Check every record of a folder, without torch; exit 1 names what is broken.

    Parameters
    ----------
    folder
        Folder of runs, the --out of a sweep, or of certificates; what rulekeep certify, speed
        and explain wrote into it is checked too.
    """
    root = _existing(folder)
    runs = run_folders(root)
    # A run's own folder is no folder of records: its files would be checked out of their place.
    a_run = RunFolder(root)
    own = {a_run.plan, a_run.record, a_run.environment, root / _EXPLAINED, root / CLAIMS}
    others = [*(set(root.glob("*.json")) - own), *(run.path / _EXPLAINED for run in runs)]
    others = sorted(path for path in others if os.path.lexists(path))
    packed = root / PACKED
    if not runs and not others and not packed.exists():
        raise UsageError(f"{folder}: no run was planned in it; name the --out of a sweep")
    broken, whole, missing = list[str](), 0, 0
    whole += len(packed_values(root, broken))
    for path in others:
        try:
            read_record(path)
            whole += 1
        except (CorruptRecordError, OSError) as error:
            place = "" if path.parent == root else f"run {path.parent.name}: "
            broken.append(f"{place}{_why(path, error)}")
    for run in runs:
        try:
            found = run.load()
            # A record says all of its run: it may be kept without the plan that led to it.
            if found is None or os.path.lexists(run.plan):
                read_record(run.plan)
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
    for line in _provenance(read_runs(root).records):
        tell(line)
    return EXIT_FAILED if broken else 0


def _provenance(records: Sequence[Record]) -> list[str]:
    """The code and machines of records, with the number of records each."""
    if not records:
        return []
    found: dict[str, Counter[str]] = {}
    for record in records:
        said = record.environment
        parts = {
            "versions": "declared" if record.versions else "not said",
            "source digests": record.source[:12] or "none",
            "commits": said.get("commit", "none")[:12] + " dirty" * (said.get("dirty") == "True"),
            "torch": said.get("torch", "unknown"),
            "processors": said.get("cpu", "unknown"),
            "threads": said.get("threads", "unknown"),
        }
        for key, value in parts.items():
            found.setdefault(key, Counter())[value] += 1
    return [f"{key}: {_counted(values)}" for key, values in found.items()]


def _counted(values: Counter[str]) -> str:
    shown = [f"{value} ({count})" for value, count in values.most_common(_MOST_SHOWN)]
    left = len(values) - len(shown)
    return ", ".join(shown) + (f", and {left} more" if left else "")


def report(
    folder: str,
    /,
    *more: str,
    certificates: str | None = None,
    speed: str | None = None,
    out: str | None = None,
) -> int:
    """Write a page, Markdown, a CSV and figures about one folder of runs or several.

    Parameters
    ----------
    folder
        Folder of runs, the --out of a sweep; certificates in it (rulekeep certify), its
        speed.json (rulekeep speed) and what rulekeep explain wrote are shown.
    more
        Other folders of runs, shown as if all stood in one; a run that stands in two, or was
        tested at other lengths in each, is one run.
    certificates
        Another folder of certificates, the --out of rulekeep certify.
    speed
        Another record of speed, the speed.json that rulekeep speed writes.
    out
        Folder for the report, FOLDER/report if left out.
    """
    roots = [_existing(one) for one in (folder, *more)]
    root = roots[0]
    kept = [read_runs(one) for one in roots]
    records = [record for one in kept for record in one.records]
    proofs, notes, losses = list[Values](), list[str](), list["Explanation"]()
    for one, own in zip(roots, kept, strict=True):
        certified, said = read_certificates(one)
        proofs += certified
        notes += said
        losses += read_explanations(one, notes)
        # The first may be a mere place for what stands elsewhere.
        may_be_bare = one is root and not (one / "record.json").exists()
        is_packed = (one / PACKED).exists()
        has_something = own.records or certified or said or is_packed or (one / _SPEED).exists()
        if not (may_be_bare or has_something or run_folders(one)):
            raise _no_runs(one)
    # Measured side by side, it is of one record.
    measured = next(filter(None, (_speed(one, speed, notes) for one in roots)), None)
    if not records and measured is None:
        if not run_folders(root):
            raise _no_runs(root)
        raise UsageError(f"{root}: has no record yet; let rulekeep resume {root} make some")
    command = ["rulekeep", "report", folder, *more]
    if certificates is not None:
        others, said = read_certificates(_existing(certificates, "--certificates"))
        if not others:
            raise UsageError(
                f"--certificates {certificates}: has none; name the --out of rulekeep certify"
            )
        proofs += others
        notes += said
        command += ["--certificates", certificates]
    command += [] if speed is None else ["--speed", speed]
    # Plotting brings libraries that take a second to load: only who needs them waits.
    from rulekeep.analysis.baselines import rivals
    from rulekeep.analysis.merging import merged, trained_apart
    from rulekeep.reporting.write import write_report

    target = root / "report" if out is None else run_folder("report", out)
    command += [] if out is None else ["--out", out]
    started = time.monotonic()
    # Without them a report could claim a win over the weakest attention.
    beside = rivals(records)
    found = merged([*records, *beside])
    notes = [*(note for one in kept for note in one.notes), *trained_apart(records), *notes]
    if beside:
        count = counted(len(beside), "committed run")
        notes.append(f"{count} of attention beside them, trained alike")
    with opened(target):
        made = write_report(
            found, target, shlex.join(command), notes,
            certificates=proofs, speed=measured, explanations=losses, runs=folder,
        )  # fmt: skip
    read = len(merged(records)) + (measured is not None)
    tell(f"{counted(read, 'record')} read and drawn in {time.monotonic() - started:.1f} s")
    tell(f"page:     {target / 'report.html'}")
    listed = sorted(path.name for path in made if path.suffix == ".csv")
    tell(f"the same: {', '.join([str(target / 'report.md'), *listed, 'figures/'])}")
    return 0


def _no_runs(root: Path) -> UsageError:
    if (root / "record.json").exists():
        return UsageError(f"{root}: is the folder of one run; name the one it stands in")
    return UsageError(f"{root}: no run was planned in it; name the --out of a sweep")


def read_certificates(folder: Path) -> tuple[list[Values], list[str]]:
    """The certificates of a folder, and a note for each broken file."""
    found, notes = [], []
    for path in sorted(set(folder.glob("*.json")) - {folder / _SPEED, folder / CLAIMS}):
        try:
            record = read_record(path)
        except (CorruptRecordError, OSError) as error:
            notes.append(f"certificate {_why(path, error)}: left out")
            continue
        if record.get("kind") == "certificate":
            found.append(record)
    # What is amiss there is said where its runs are read.
    packed = packed_values(folder, [])
    return [*found, *(one for one in packed if one.get("kind") == "certificate")], notes


def _speed(root: Path, named: str | None, notes: list[str]) -> "SpeedRecord | None":
    """The named record of speed, or that of the folder if there is one."""
    path = root / _SPEED if named is None else Path(named)
    if named is None and not os.path.lexists(path):
        return None
    from rulekeep.speed.record import read_speed

    try:
        return read_speed(path)
    except (CorruptRecordError, OSError, ValueError) as error:
        if named is not None:
            said = getattr(error, "strerror", None) or error
            raise UsageError(
                f"--speed {named!a}: {said}; name the speed.json of rulekeep speed"
            ) from None
        if not isinstance(error, FileNotFoundError):
            notes.append(f"speed: {_why(path, error)}: left out")
    return None


def read_explanations(root: Path, notes: list[str]) -> list["Explanation"]:
    """The files that `rulekeep explain` wrote beside the records of a folder of runs."""
    found = []
    for run in run_folders(root):
        path = run.path / _EXPLAINED
        if os.path.lexists(path):
            from rulekeep.explain.record import read_explanation

            try:
                found.append(read_explanation(path))
            except (CorruptRecordError, OSError) as error:
                said = _why(path, error)
                notes.append(f"run {run.id}: {said}: left out; rulekeep explain makes it again")
    for values in packed_values(root, []):
        if values.get("kind") == "explain":
            from rulekeep.explain.record import Explanation

            try:
                found.append(as_spec(PACKED, values, Explanation))
            except CorruptRecordError as error:
                notes.append(f"run {values.get('run')}: {error}: left out")
    return found


def _why(path: Path, error: Exception) -> str:
    """Why a record is left out: the file, and the cause."""
    if not isinstance(error, OSError):
        return str(error)
    return unreadable(Path(error.filename or path), error)


def _existing(folder: str, option: str = "") -> Path:
    root = existing(folder, option, "rulekeep certify" if option else "a sweep")
    if not (root / PACKED).exists() and not run_folders(root) and (root / "runs").is_dir():
        raise UsageError(
            f"{folder}: is of rulekeep article, see its report.md; name its runs, {root / 'runs'}"
        )
    return root

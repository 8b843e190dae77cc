"""`rulekeep verify` and `report`: what is on disk, checked and shown."""

import os
import time
from pathlib import Path

from rulekeep.console import EXIT_FAILED, say, tell
from rulekeep.printable import counted
from rulekeep.records.folders import beside_runs, existing, has_runs, no_runs
from rulekeep.records.store import (
    CorruptRecordError,
    RunFolder,
    packed_values,
    read_record,
    run_folders,
    unreadable,
)


def verify(folder: str, /) -> int:
    """Check every record of a folder and kept weights, without torch; exit 1 names what is broken.

    Parameters
    ----------
    folder
        Folder of runs, the --out of a sweep, or of certificates; what rulekeep certify, speed
        and explain wrote into it is checked too.
    """
    root = existing(folder)
    runs, broken, missing = run_folders(root), list[str](), 0
    whole = len(beside_runs(root, broken))
    if not (whole or broken or has_runs(root)):
        raise no_runs(root)
    live = {run.id for run in runs}
    whole += sum(one.get("id") not in live for one in packed_values(root, broken))
    for run in runs:
        try:
            if _is_whole(run):
                whole += 1
            else:
                missing += 1
        except FileNotFoundError:
            broken.append(f"run {run.id}: {run.plan.name}: there is none")
        except (CorruptRecordError, OSError) as error:
            path = Path(getattr(error, "filename", None) or run.record)
            broken.append(f"run {run.id}: {unreadable(path, error)}")
    for line in broken:
        say(line)
    for run in runs:
        for path in run.aside:
            say(f"run {run.id}: {path.name} was set aside as corrupt")
    left = counted(missing, "run")
    tell(f"{counted(whole, 'record')} whole, {len(broken)} broken, {left} without a record")
    return EXIT_FAILED if broken else 0


def _is_whole(run: RunFolder) -> bool:
    """Whether a run has a record; what is read of it is whole, and so are kept weights."""
    from rulekeep.records.weights import check_weights

    record = run.load()
    # A record says all of its run: it may be kept without the plan that led to it.
    if record is None or os.path.lexists(run.plan):
        read_record(run.plan)
    if record is not None and os.path.lexists(run.weights):
        try:
            check_weights(run.weights, record.weights)
        except CorruptRecordError as error:
            raise CorruptRecordError(f"{error}; rulekeep explain makes it again") from None
    return record is not None


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
        that stands in two, or was tested at other lengths in each, is one run. `quick` names the
        runs of that preset that come with rulekeep.
    out
        Folder for the report, FOLDER/report if left out.
    """
    # Plotting brings libraries that take a second to load: only who needs them waits.
    from rulekeep.reporting.write import report_on

    started = time.monotonic()
    made = report_on([folder, *more], out)
    for line in made.unfinished:
        tell(line)
    seconds = time.monotonic() - started
    tell(f"{counted(made.records, 'record')} read and drawn in {seconds:.1f} s")
    tell(f"page:     {made.folder / 'report.html'}")
    tables = sorted(path.name for path in made.files if path.suffix == ".csv")
    tell(f"the same: {', '.join([str(made.folder / 'report.md'), *tables, 'figures/'])}")
    for line in made.left_out:
        say(line)
    return EXIT_FAILED if made.left_out else 0

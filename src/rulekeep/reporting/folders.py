"""Folders of runs to one report: what they hold, what is left out, and what is not finished."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rulekeep.analysis.baselines import CERTIFICATES, rivals
from rulekeep.analysis.table import merged, trained_apart
from rulekeep.explain.record import Explanation
from rulekeep.printable import counted, pasted
from rulekeep.records.beside import certificates, kept_beside, of_kind
from rulekeep.records.folders import SHIPPED, existing, has_runs, no_runs, run_folder, unfinished
from rulekeep.records.store import (
    CorruptRecordError,
    LoadedRecords,
    Values,
    make_folder,
    read_record,
    read_runs,
    run_folders,
)
from rulekeep.reporting.write import write_report
from rulekeep.specs import UsageError
from rulekeep.speed.record import SpeedRecord


class Reported(NamedTuple):
    """The folder of a report and its files, how many records it is of, and lines to say."""

    folder: Path
    files: list[Path]
    records: int
    unfinished: list[str]
    left_out: list[str]


def report_on(folders: Sequence[str], out: str | os.PathLike[str] | None) -> Reported:
    """Write the report of these folders, as if all stood in the first.

    It is written into that one, if `out` is None; of what ships, into a folder of its own.

    Raises:
        UsageError: there is no such folder, or nothing in it to report on.
    """
    roots = [existing(folder) for folder in folders]
    kept = [read_runs(root) for root in roots]
    records = [record for one in kept for record in one.records]
    values, lost = list[Values](), list[str]()
    for root, own in zip(roots, kept, strict=True):
        broken = list[str]()
        beside = kept_beside(root, broken)
        values += beside
        lost += (f"{line}; left out" for line in broken)
        # The first may be a mere place for what stands elsewhere.
        may_be_bare = root is roots[0] and not (root / "record.json").exists()
        if not (may_be_bare or own.records or beside or broken or has_runs(root)):
            raise no_runs(root)
    explanations, speeds = of_kind(values, Explanation, lost), of_kind(values, SpeedRecord, lost)
    left_out = [*(line for one in kept for line in one.left_out), *lost]
    if not (records or speeds):
        raise _nothing_of(roots[0], left_out)
    unfinished = [
        line for root, own in zip(roots, kept, strict=True) if (line := unfinished_line(root, own))
    ]
    # Without them a report could claim a win over the weakest attention.
    attention = rivals(records)
    notes = [*(note for one in kept for note in one.notes), *trained_apart(records), *lost]
    if len(speeds) > 1:
        # Measured side by side, it is of one record.
        notes.append(f"of {len(speeds)} records of speed the first is shown")
    if attention:
        count = counted(len(attention), "committed run")
        notes.append(f"{count} of attention beside them, trained alike")
    target = Path(folders[0], "report")
    if out is not None or roots[0].is_relative_to(SHIPPED):
        target = run_folder("report", out)
    make_folder(target, f"--out {target}")
    command = ["rulekeep", "report", *folders, *([] if out is None else ["--out", os.fspath(out)])]
    files = write_report(
        merged([*records, *attention]), target, shlex.join(command), notes,
        unfinished=unfinished,
        certificates=certificates([*values, *kept_beside(CERTIFICATES, [])]),
        speed=next(iter(speeds), None), explanations=explanations, runs=folders[0],
    )  # fmt: skip
    return Reported(target, files, len(merged(records)) + bool(speeds), unfinished, left_out)


def unfinished_line(root: Path, kept: LoadedRecords) -> str | None:
    """A line on a folder with plans of runs that have no result; None if there are none.

    A setting that was planned by two versions is one. A damaged record is named elsewhere.
    """
    known = {one.id: one.is_result for one in kept.records}
    settings: dict[str, bool] = {}
    for run in run_folders(root):
        try:
            plan = read_record(run.plan)
            setting = json.dumps([plan.get("kind"), plan.get("spec")], sort_keys=True)
        except (CorruptRecordError, OSError):
            setting = run.id
        finished = known.get(run.id, os.path.lexists(run.record))
        settings[setting] = settings.get(setting, False) or finished
    asked, done = unfinished(root), sum(settings.values())
    if done == len(settings) and not asked:
        return None
    total = counted(len(settings), "planned run has a result", "planned runs have a result")
    fix = asked[0].again(root) if asked else f"rulekeep resume {pasted(root)}"
    more = "; the sweep chooses more by them" if asked else ""
    return f"Unfinished: {done:,} of {total}{more}. For the rest: {fix}"


def _nothing_of(root: Path, left_out: Sequence[str]) -> UsageError:
    if left_out:
        line = left_out[0].removesuffix("; left out")
        return UsageError(f"{line}; there is no other record: put it back as it was")
    if not run_folders(root):
        return no_runs(root)
    return UsageError(f"{root}: has no record yet; let rulekeep resume {pasted(root)} make some")

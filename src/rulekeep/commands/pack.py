"""`rulekeep pack`: a finished folder of runs as one file, to commit or to send."""

from pathlib import Path

from rulekeep.commands.options import existing, run_folder
from rulekeep.commands.records import kept_beside
from rulekeep.console import tell
from rulekeep.printable import counted, pasted
from rulekeep.records.pack import PACKED, CorruptRecordError, packed
from rulekeep.records.store import (
    FORMER_IDS,
    Values,
    former_ids,
    make_folder,
    packed_values,
    read_record,
    run_folders,
    unreadable,
    write_bytes,
    write_record,
)
from rulekeep.specs import UsageError


def pack(folder: str, /, *, out: str) -> int:
    """Write a finished folder as one file, records.jsonl: a line a record, with its checksum.

    Every command that reads a folder reads the file as well. Weights are not packed. Records that
    the folder has packed already are kept.

    Parameters
    ----------
    folder
        Folder of runs, the --out of a sweep, or of certificates.
    out
        Folder for records.jsonl.
    """
    root = existing(folder)
    target = run_folder("pack", out)
    if (target / PACKED).exists():
        raise UsageError(f"{target / PACKED}: stands there already; name another --out")
    broken, live = list[str](), {run.id for run in run_folders(root)}
    # What the folder has packed already, except for runs that also stand unpacked.
    packed_runs = (one for one in packed_values(root, broken) if "id" in one)
    records = [one for one in packed_runs if one["id"] not in live]
    records += [*_of_runs(root, folder), *kept_beside(root, broken)]
    if broken:
        raise UsageError(f"{broken[0]}; mend or remove the file first")
    if not records:
        raise UsageError(f"{folder}: has no record; name the --out of a sweep")
    content = packed(records)
    make_folder(target, f"--out {out}")
    write_bytes(target / PACKED, content)
    if former := former_ids(root):
        write_record(target / FORMER_IDS, former)
    tell(f"{counted(len(records), 'record')}: {target / PACKED}")
    return 0


def _of_runs(root: Path, named: str) -> list[Values]:
    found, left = list[Values](), list[str]()
    for run in run_folders(root):
        try:
            record = run.load()
            if record is None or not record.is_result:
                left.append(run.id)
                continue
            found.append(read_record(run.record))
        except CorruptRecordError as error:
            again = f"rulekeep resume {pasted(named)} makes it"
            raise UsageError(f"run {run.id}: {error}; {again}") from None
        except OSError as error:
            said = unreadable(run.record, error)
            raise UsageError(f"run {run.id}: {said}; mend or remove it") from None
    if left:
        raise UsageError(
            f"{named}: {counted(len(left), 'run has', 'runs have')} no result, as {left[0]}; "
            f"let rulekeep resume {pasted(named)} make what is missing"
        )
    return found

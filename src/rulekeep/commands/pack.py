"""`rulekeep pack`: a finished folder of runs as one file, to commit or to send."""

from rulekeep.console import tell
from rulekeep.printable import counted, pasted
from rulekeep.records.folders import existing, kept_beside, make_folder, run_folder
from rulekeep.records.pack import PACKED, CorruptRecordError, packed
from rulekeep.records.store import (
    FORMER_IDS,
    former_ids,
    packed_values,
    read_record,
    run_folders,
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
    broken, runs = list[str](), run_folders(root)
    live = {run.id for run in runs}
    # What the folder has packed already, except for runs that also stand unpacked.
    records = [one for one in packed_values(root, broken) if one.get("id", "") not in {"", *live}]
    for run in runs:
        try:
            record = run.load()
            if record is None or not record.is_result:
                raise CorruptRecordError("has no result")
            records.append(read_record(run.record))
        except (CorruptRecordError, OSError) as error:
            broken.append(f"run {run.id}: {error}")
    again = f"let rulekeep resume {pasted(folder)} make what is missing"
    if broken:
        raise UsageError(f"{broken[0]}; {again}, or mend the file")
    records += kept_beside(root, broken)
    if broken or not records:
        raise UsageError(f"{broken[0]}; mend it" if broken else f"{folder}: has no record")
    make_folder(target, f"--out {out}")
    write_bytes(target / PACKED, packed(records))
    if former := former_ids(root):
        write_record(target / FORMER_IDS, former)
    tell(f"{counted(len(records), 'record')}: {target / PACKED}")
    return 0

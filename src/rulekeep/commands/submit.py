"""`rulekeep submit`: a folder of runs as the one file that adds it to the board."""

from pathlib import Path

from rulekeep.console import EXIT_USAGE, say, tell
from rulekeep.records.folders import existing
from rulekeep.records.store import make_folder, write_bytes
from rulekeep.specs import UsageError

FOLDER = "submissions"


def submit(folder: str, /, *, name: str | None = None, out: str = FOLDER) -> int:
    """Check a folder of runs, and write the one file that a pull request adds to the board.

    Needed: every run of `standard` or `quick-five`, whole, five seeds, causal, with its code.

    Parameters
    ----------
    folder
        Folder of runs, the --out of rulekeep sweep standard or quick-five.
    name
        What the board calls it, the folder's name if left out.
    out
        Folder for NAME.jsonl.
    """
    root = existing(folder)
    called = root.resolve().name if name is None else name
    if not called.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"--name {called!a}: use letters, digits, - and _ alone")
    from rulekeep.sweeps.submitting import submission

    made = submission(root, called)
    for line in made.faults:
        say(f"rulekeep: {line}")
    if made.faults:
        return EXIT_USAGE
    target = Path(out) / f"{called}.jsonl"
    make_folder(target.parent, f"--out {out}")
    if target.exists() and target.read_bytes() != made.content:
        raise UsageError(
            f"{target}: stands there with other runs; remove it, or give another --name"
        )
    write_bytes(target, made.content)
    tell(f"submission: {target}; add this file in a pull request")
    return 0

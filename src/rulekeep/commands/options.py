"""Options as a user writes them, read into values; what cannot be is a `UsageError`."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rulekeep.records.store import make_folder
from rulekeep.specs import UsageError


def run_folder(kind: str, out: str | None, option: str = "--out") -> Path:
    """The folder that `--out` names; without it, one named after the kind of run and the time."""
    if out is None:
        return Path("runs") / time.strftime(f"{kind}-%Y%m%d-%H%M%S")
    if not out.strip() or not out.isprintable():
        raise UsageError(f"{option} {out!a}: must be the name of a folder, in printable characters")
    return Path(out)


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Makes a folder of records; what is interrupted leaves no empty folder.

    Raises:
        UsageError: it cannot be made or written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_folder(folder, f"--out {folder}")
        yield
    except BaseException:
        for path in made:
            # One that holds something stays.
            with suppress(OSError):
                path.rmdir()
        raise


def integers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers between commas."""
    return tuple(integer(option, part, of=text) for part in text.split(","))


def distinct_integers(option: str, text: str) -> tuple[int, ...]:
    """As `integers`, none of them twice."""
    found = integers(option, text)
    for number in found:
        if found.count(number) > 1:
            raise UsageError(f"--{option} {number}: given twice; name each once")
    return found


def seed_number(text: str) -> int:
    """The seed of a random stream."""
    seed = integer("seed", text)
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed {seed}: must be from 0 to 2**63 - 1")
    return seed


def integer(option: str, text: str, of: str | None = None) -> int:
    """A whole number; `of` is the list it stands in."""
    try:
        return int(text)
    except ValueError:
        fix = "must be a whole number" + ("" if of is None else ", or several between commas")
        raise UsageError(f"--{option} {(of or text)[:80]!a}: {fix}") from None


def worker_count(text: str | None) -> int | None:
    """Workers to run side by side; None where that is left to the executor."""
    if text is None:
        return None
    workers = integer("workers", text)
    if workers < 1:
        raise UsageError(f"--workers {workers}: must be 1 or more")
    return workers


def seconds(option: str, text: str) -> float:
    """A span of time above zero."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"--{option} {text[:80]!a}: must be a number of seconds above 0")
    return value

"""Records on disk: one checksummed JSON file each, written whole or not at all.

A record is written to a temporary file, flushed, renamed over its name, and the folder is flushed:
a reader sees the whole record or none. A finished folder may be packed into one file
(`rulekeep.records.pack`), which is read like the folder.

A folder of runs holds a folder for each, named by its id:

    RUNS/3f0c…/plan.json       its spec, written before it runs
               attempts        how often it was started
               checkpoint      from which it can continue
               log.txt         the traceback of its last failure
               record.json     its record
               weights.safetensors    its trained model, unless told to keep none
"""

import fcntl
import json
import os
import re
import signal
import stat
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, final

from rulekeep.records import Record as Record
from rulekeep.records.pack import PACKED, checked, checksum, unpacked
from rulekeep.records.pack import CorruptRecordError as CorruptRecordError
from rulekeep.specs import Spec, UsageError

_SpecType = TypeVar("_SpecType", bound=Spec)
# What a file holds, as JSON has it; a `Record` is what is read of a run's.
Values = dict[str, Any]
# The present id of each former one, which `tools/rename.py` keeps.
FORMER_IDS = "former_ids.json"
# What a study states stands beside the records of its runs, and is none.
CLAIMS = "claims.json"
_OF_A_RUN = re.compile(r"(plan|record)\.json($|\.corrupt-)")
# Descriptors of the locks that this process holds.
_LOCKS: set[int] = set()


def _let_go() -> None:
    # A process that a plug-in has forked may outlive its run, which it would hold for ever.
    while _LOCKS:
        os.close(_LOCKS.pop())


os.register_at_fork(after_in_child=_let_go)


class BusyError(RuntimeError):
    """Another process works in this folder."""


class LoadedRecords(NamedTuple):
    """The records of a folder of runs, and a line on each file left out or set aside."""

    records: list[Record]
    left_out: list[str]
    set_aside: list[str]

    @property
    def notes(self) -> list[str]:
        return [*self.left_out, *self.set_aside]


@final
class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path, *, keeps_weights: bool = True) -> None:
        self.path = path
        self.id = path.name
        self.keeps_weights = keeps_weights
        self.plan, self.record = path / "plan.json", path / "record.json"
        self.checkpoint, self.log = path / "checkpoint", path / "log.txt"
        self.attempts, self.environment = path / "attempts", path / "environment.json"
        self.weights = path / "weights.safetensors"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the run; it is released when its process ends, however it ends."""
        descriptor = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        _LOCKS.add(descriptor)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(self.id) from None
            yield
        finally:
            # A forked process has let go of it, and may have another file by its number.
            if descriptor in _LOCKS:
                _LOCKS.discard(descriptor)
                os.close(descriptor)

    def start(self) -> int:
        """Count one more attempt, and delete what a killed one left half-written; its number."""
        for left in self.path.glob(".*.tmp-*"):
            # A plan may be in writing right now, by another driver: it holds no lock for it.
            if not left.name.startswith(f".{self.plan.name}."):
                left.unlink(missing_ok=True)
        number = self.attempt + 1
        write_text(self.attempts, f"{number}\n")
        return number

    @property
    def attempt(self) -> int:
        """How often it was started, as far as that can be read."""
        text = self.attempts.read_text(errors="replace") if self.attempts.exists() else ""
        return int(text) if text.strip().isdecimal() and len(text) < 9 else 0

    @property
    def aside(self) -> list[Path]:
        """Files that were set aside as corrupt."""
        return sorted(self.path.glob("*.corrupt-*"))

    def load(self) -> Record | None:
        """The record, if there is one.

        Raises:
            CorruptRecordError: it is not whole, or of another run.
            OSError: it cannot be read.
        """
        try:
            values = read_record(self.record)
        except FileNotFoundError:
            return None
        return _as_run(self.record.name, values, self.id)

    def read(self, notes: list[str]) -> Record | None:
        """As `load`, but a corrupt record is set aside and noted: for whoever makes runs."""
        try:
            return self.load()
        except CorruptRecordError as error:
            notes.append(f"run {self.id}: {error}; {set_aside(self.record)}")
            return None


def run_folders(root: Path) -> list[RunFolder]:
    """The runs of a folder by name, including lost and broken ones."""
    return [RunFolder(path) for path in sorted(root.iterdir()) if path.is_dir() and _is_run(path)]


def _is_run(path: Path) -> bool:
    # A record may stand without its plan: set aside as corrupt, it is all there is of its run.
    try:
        return any(_OF_A_RUN.match(one.name) for one in path.iterdir())
    except OSError:
        # Why it cannot be looked into is said where it is read.
        return True


def unreadable(path: Path, error: Exception) -> str:
    """The message for a file that cannot be read, or is no whole record."""
    if isinstance(error, OSError):
        return f"{path.name}: cannot be read ({error.strerror or error})"
    return str(error)


def read_runs(root: Path) -> LoadedRecords:
    """Every whole record of a folder of runs, and a line for each other; nothing is changed."""
    folders = run_folders(root)
    lost: list[str] = []
    kept = LoadedRecords(_packed_runs(root, {folder.id for folder in folders}, lost), lost, [])
    for folder in folders:
        record = None
        try:
            record = folder.load()
        except (CorruptRecordError, OSError) as error:
            lost.append(f"run {folder.id}: {unreadable(folder.record, error)}; left out")
        kept.records.extend([record] if record else [])
        for path in folder.aside:
            again = ", and the run made again" if record else ""
            kept.set_aside.append(f"run {folder.id}: {path.name} was set aside as corrupt{again}")
    return kept


def whole_runs(root: Path) -> list[Record]:
    """Every record of a folder of runs, for what would be wrong without one of them."""
    kept = read_runs(root)
    if kept.left_out:
        said = kept.left_out[0].removesuffix("; left out")
        raise UsageError(f"{root}: {said}; put it back as it was")
    return kept.records


def results(root: Path) -> list[Record]:
    """The results in a folder of runs, if there is one; broken or unreadable ones are left out."""
    return [one for one in read_runs(root).records if one.is_result] if root.is_dir() else []


def former_ids(root: Path) -> Values:
    """The present id of each former one in a folder of runs."""
    try:
        return read_record(root / FORMER_IDS)
    except FileNotFoundError:
        return {}
    except CorruptRecordError as error:
        raise UsageError(f"{root}: {error}; put it back as it was") from None


def packed_results(root: Path) -> dict[str, Record]:
    """The packed results of a folder by id, except those that also stand unpacked."""
    live = {folder.id for folder in run_folders(root)}
    return {one.id: one for one in _packed_runs(root, live, []) if one.is_result}


def packed_values(root: Path, notes: list[str]) -> tuple[Values, ...]:
    """The content of the packed file of a folder; do not change it."""
    path = root / PACKED
    try:
        about = path.stat()
        values, said = _unpacked(path, about.st_mtime_ns, about.st_size)
    except FileNotFoundError:
        return ()
    except OSError as error:
        notes.append(f"{unreadable(path, error)}; left out")
        return ()
    notes += said
    return values


# A report asks for runs, certificates and explanations: each file is read once.
@lru_cache(maxsize=32)
def _unpacked(path: Path, _changed: int, _size: int) -> tuple[tuple[Values, ...], list[str]]:
    notes = list[str]()
    return tuple(unpacked(path, notes)), notes


def _packed_runs(root: Path, live: Collection[str], notes: list[str]) -> list[Record]:
    """The packed records of a folder, except those with a folder of their own."""
    found = []
    for values in packed_values(root, notes):
        identity = values.get("id")
        if "spec" in values and identity not in live:
            try:
                found.append(_as_run(PACKED, values, str(identity)))
            except CorruptRecordError as error:
                notes.append(f"run {identity}: {error}; left out")
    return found


def as_spec(file: str, values: Values, kind: type[_SpecType]) -> _SpecType:
    """Values of a file as the spec that a command wrote."""
    try:
        return kind.parse(**values)
    except UsageError as error:
        command = kind.model_fields["kind"].default
        raise CorruptRecordError(f"{file}: no record of rulekeep {command} ({error})") from None


def _as_run(file: str, values: Values, identity: str) -> Record:
    try:
        record = Record.read(values)
        if record.id != identity:
            named = f"{record.id[:40]!a}"
            raise CorruptRecordError(f"it is of another run than its folder says, {named}")
    except CorruptRecordError as error:
        raise CorruptRecordError(f"{file}: {error}") from None
    return record


def write_record(path: Path, values: Values) -> None:
    """Write values with their checksum inside, atomically."""
    body = {**values, "checksum": checksum(values)}
    # In ASCII: a message may hold half a character, which no other encoding takes.
    write_text(path, json.dumps(body, indent=1) + "\n")


def read_record(path: Path) -> Values:
    """Read what `write_record` wrote, without its checksum.

    Raises:
        CorruptRecordError: it is truncated, altered or no record.
        OSError: it cannot be read.
    """
    # A named pipe would be waited for in vain.
    if path.exists() and not path.is_file():
        raise CorruptRecordError(f"{path.name}: not a file")
    try:
        content = path.read_bytes()
    except OSError as error:
        # What fails while it is read is said of no file.
        error.filename = error.filename or str(path)
        raise
    try:
        return checked(json.loads(content.decode()))
    except CorruptRecordError as error:
        raise CorruptRecordError(f"{path.name}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise CorruptRecordError(f"{path.name}: not readable as JSON ({error})") from None


def set_aside(path: Path) -> str:
    """Rename a corrupt file to the first free `….corrupt-N`; what came of it, in words."""
    names = (path.with_name(f"{path.name}.corrupt-{number}") for number in count(1))
    try:
        return f"set aside as {path.rename(next(one for one in names if not one.exists())).name}"
    except FileNotFoundError:
        return "set aside by another process"
    except OSError as error:
        return f"cannot be set aside: {error.strerror}"


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically and durably."""
    write_bytes(path, text_bytes(text))


def text_bytes(text: str) -> bytes:
    """A text as bytes of a file; half a surrogate pair is written as an escape."""
    return text.encode(errors="backslashreplace")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically and durably: nobody sees it half-written."""
    with _finishing(), whole_files(path) as (file,):
        file.write(content)


def write_files(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files that belong together, by their paths in a folder: all of them or none."""
    paths = [folder / name for name in contents]
    new = {path.parent for path in paths if not path.parent.exists()}
    try:
        for parent in new:
            parent.mkdir(parents=True)
        with _finishing(), whole_files(*paths) as files:
            for file, content in zip(files, contents.values(), strict=True):
                file.write(content)
    except BaseException:
        for parent in new:
            with suppress(OSError):
                parent.rmdir()
        raise
    return paths


@contextmanager
def _finishing() -> Iterator[None]:
    """Delay SIGTERM until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        if asked:
            os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def whole_files(*paths: Path) -> Iterator[list[BinaryIO]]:
    """Files to write piece by piece; they get their names only if the block ends well."""
    # What a link points to is written, and the link stays.
    places = [path.resolve() for path in paths]
    beside = [one.with_name(f".{one.name}.tmp-{os.urandom(4).hex()}") for one in places]
    made = dict[Path, BinaryIO]()
    place = places[0]
    try:
        for place, temporary in zip(places, beside, strict=True):
            # `tempfile` would make it for its owner alone, whatever the umask.
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            made[temporary] = os.fdopen(descriptor, "wb")
            with suppress(FileNotFoundError):
                os.fchmod(descriptor, stat.S_IMODE(place.stat().st_mode))
        yield [*made.values()]
        for place, file in zip(places, made.values(), strict=True):  # noqa: B007
            with file:
                file.flush()
                os.fsync(file.fileno())
        for place, temporary in zip(places, made, strict=True):
            temporary.replace(place)
    except BaseException as error:
        for temporary, file in made.items():
            with suppress(OSError):
                file.close()
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, *map(str, beside)):
            # What fails while it is written, as on a full disk, is said of no file.
            error.filename = str(place)
        raise
    for parent in dict.fromkeys(place.parent for place in places):
        folder = os.open(parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

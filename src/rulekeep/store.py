"""Records on disk: one checksummed JSON file each, written whole or not at all.

A record is a dictionary. It is written to a temporary file, flushed to the disk, renamed
over its name, and the folder flushed too: a reader sees the whole record or none.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


class CorruptRecordError(ValueError):
    """A file that is not a whole record: its message says why in one line."""


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Writes a record with its checksum inside, atomically."""
    body = {**record, "checksum": _checksum(record)}
    write_text(path, json.dumps(body, indent=1, ensure_ascii=False) + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """A record without its checksum.

    Raises:
        CorruptRecordError: it is truncated, altered or no record at all.
        FileNotFoundError: there is no such file.
    """
    # A named pipe would be waited for in vain.
    if path.exists() and not path.is_file():
        raise CorruptRecordError(f"{path.name}: not a file")
    try:
        body = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise CorruptRecordError(f"{path.name}: not readable as JSON ({error})") from None
    if not isinstance(body, dict) or "checksum" not in body:
        raise CorruptRecordError(f"{path.name}: no checksum in it")
    checksum = body.pop("checksum")
    if checksum != _checksum(body):
        raise CorruptRecordError(f"{path.name}: its checksum does not match its content")
    return body


def set_aside(path: Path) -> Path:
    """Renames a corrupt file to the first free `….corrupt-N` and returns that name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    path.rename(aside)
    return aside


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically and durably."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically and durably: nothing is ever seen half-written."""
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece, which takes its name only when the block ends well."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _checksum(record: dict[str, Any]) -> str:
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()

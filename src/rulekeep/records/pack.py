"""A finished folder of records as one file: one line per record, each with its checksum.

    RUNS/records.jsonl
        {"shared": {"a1": {"rulekeep": "0.1.0", "cpu": …}, …}}      written once
        {"id": "3f0c…", "spec": …, "environment": {"=": "a1"}, …, "checksum": "69ea…"}

Packing loses nothing: a line gives back its file, checksum included. Rows with the same keys become
columns, {"columns": {"step": [1, 25], "train_loss": [4.9, 4.1]}}. Values that several records share
stand in the first line, and each record names them. A record's own key of one of these names gets
an equals sign before it, {"=columns": 2}.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

PACKED = "records.jsonl"
_COLUMNS, _NAME, _SHARED = "columns", "=", "shared"
# Shorter values cost less than their name.
_WORTH_SHARING = 40
# Their own keys of such names, with as many signs as they have got already.
_ESCAPED = re.compile(f"=*(?:{_COLUMNS}|{_SHARED})|=+")


class CorruptRecordError(ValueError):
    """A file is no whole record; the message says why."""


def checksum(values: dict[str, Any]) -> str:
    """SHA-256 of values in one canonical form."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def checked(values: Any) -> dict[str, Any]:
    """Values without the checksum in them, which must match."""
    if not isinstance(values, dict) or "checksum" not in values:
        raise CorruptRecordError("no checksum in it")
    if values.pop("checksum") != checksum(values):
        raise CorruptRecordError("its checksum does not match its content")
    return values


def packed(records: Iterable[dict[str, Any]]) -> bytes:
    """The file of these records, each without its checksum."""
    given = list(records)
    tight = [_in_columns(record) for record in given]
    counts = Counter(part for record in tight for one in record.values() for part in _parts(one))
    names, shared = dict[str, str](), dict[str, Any]()

    def named(value: Any) -> Any:
        """A value with its shared parts replaced by their names."""
        if not isinstance(value, (dict, list)):
            return value
        text = _text(value)
        if text in names:
            return {_NAME: names[text]}
        if isinstance(value, list):
            inner: Any = [named(one) for one in value]
        elif _COLUMNS in value:
            inner = {_COLUMNS: {key: named(one) for key, one in value[_COLUMNS].items()}}
        else:
            inner = {key: named(one) for key, one in value.items()}
        if counts[text] < 2:
            return inner
        names[text] = name = f"{len(names):x}"
        shared[name] = inner
        return {_NAME: name}

    lines = [{key: named(value) for key, value in record.items()} for record in tight]
    for line, record in zip(lines, given, strict=True):
        line["checksum"] = checksum(record)
    head = [{_SHARED: shared}] if shared else []
    return b"".join(_text(line).encode() + b"\n" for line in (*head, *lines))


def unpacked(path: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    """The records of a packed file without checksums, not to be changed; broken lines are noted."""
    shared: dict[str, Any] = {}

    def whole(found: dict[str, Any]) -> Any:
        if found.keys() == {_NAME}:
            return shared[found[_NAME]]
        if found.keys() == {_COLUMNS}:
            rows = zip(*found[_COLUMNS].values(), strict=True)
            return [dict(zip(found[_COLUMNS], row, strict=True)) for row in rows]
        return {_plain(key): one for key, one in found.items()}

    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            if number == 1 and line.startswith(f'{{"{_SHARED}":'.encode()):
                # What is shared stands after its parts.
                for key, one in json.loads(line.decode())[_SHARED].items():
                    shared[key] = json.loads(_text(one), object_hook=whole)
                continue
            values = checked(json.loads(line.decode(), object_hook=whole))
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            said = error if isinstance(error, CorruptRecordError) else "not readable as a record"
            notes.append(f"{path.name}, line {number}: {said}; left out")
            continue
        yield values


_text = partial(json.dumps, separators=(",", ":"))


def _in_columns(value: Any) -> Any:
    if isinstance(value, dict):
        return {_safe(key): _in_columns(one) for key, one in value.items()}
    if not isinstance(value, list):
        return value
    first = value[0] if len(value) > 1 else None
    if first and all(isinstance(one, dict) and [*one] == [*first] for one in value):
        return {_COLUMNS: {_safe(key): _in_columns([one[key] for one in value]) for key in first}}
    return [_in_columns(one) for one in value]


def _safe(key: str) -> str:
    """A key of a record, never one that packing uses."""
    return f"={key}" if _ESCAPED.fullmatch(key) else key


def _plain(key: str) -> str:
    """The key of a record that `_safe` has escaped."""
    return key[1:] if key.startswith("=") and _ESCAPED.fullmatch(key) else key


def _parts(value: Any) -> Iterator[str]:
    """Every part of a value that is long enough to be shared, as text."""
    if isinstance(value, (dict, list)):
        text = _text(value)
        if len(text) >= _WORTH_SHARING:
            yield text
        inner = value.get(_COLUMNS, value) if isinstance(value, dict) else value
        for one in inner.values() if isinstance(inner, dict) else inner:
            yield from _parts(one)

"""Histories for a product that shortens them itself, and what it has left, in one folder.

    histories.json                          what was asked for
    history-0003.round-1.json               {"messages", "budget"} before its first compaction
    compacted/history-0003.round-1.json     what the product has left of it

A history of round 2 is written once that of round 1 is compacted. No torch.
"""

import json
from pathlib import Path

from rulekeep.compaction.history import made
from rulekeep.compaction.messages import (
    CompactionError,
    Message,
    as_messages,
    read_messages,
    tokens_of,
)
from rulekeep.language.resolving import ResolvedCompaction, resolve_compaction
from rulekeep.records.identity import differing
from rulekeep.records.store import CorruptRecordError, read_record, write_record, write_text
from rulekeep.specs import CompactionSpec, UsageError
from rulekeep.specs.compaction import COMPACTED

_ASKED = "histories.json"


def write(asked: CompactionSpec, folder: Path) -> tuple[int, list[str]]:
    """Write each history before its next compaction: how many are new, and what cannot be read."""
    if (folder / _ASKED).exists():
        resolved = _resolved(asked, folder)
    elif folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder}: holds other files; name a new folder")
    else:
        resolved = resolve_compaction(asked)
        (folder / COMPACTED).mkdir(parents=True)
        values = {"spec": asked.model_dump(mode="json"), "versions": dict(resolved.versions)}
        write_record(folder / _ASKED, values)
    spec, new, failures = resolved.spec, 0, list[str]()
    for number in range(spec.histories):
        history = made(resolved.families, spec, number, resolved.count, resolved.recorded)
        budget = int(spec.budget * tokens_of(history.messages, resolved.count))
        messages = history.messages
        for at in range(spec.rounds):
            if not (file := folder / _name(number, at)).exists():
                given = {"messages": messages, "budget": budget}
                write_text(file, json.dumps(given, ensure_ascii=False, indent=1))
                new += 1
            if not (folder / COMPACTED / _name(number, at)).exists():
                break
            try:
                messages = [*left_of(folder, number, at), *history.fresh[at]]
            except CompactionError as error:
                failures.append(str(error))
                break
    return new, failures


def spec_of(asked: CompactionSpec, folder: Path) -> CompactionSpec:
    """What the histories of a folder were written with, whatever was left out now."""
    return _resolved(asked, folder).spec


def _resolved(asked: CompactionSpec, folder: Path) -> ResolvedCompaction:
    try:
        values = read_record(folder / _ASKED)
    except (OSError, CorruptRecordError):
        raise UsageError(
            f"{folder}: has no whole {_ASKED}; give that of --write-histories"
        ) from None
    spec = CompactionSpec.parse(**{**values["spec"], "compactor": asked.compactor})
    for key, value in asked.model_dump(exclude_defaults=True).items():
        if value != (there := getattr(spec, key)):
            raise UsageError(
                f"{folder}: was written with {key} {there}, not {value}; name another folder"
            )
    resolved = resolve_compaction(spec)
    now = {key: value for key, value in resolved.versions.items() if key != "compactor"}
    if other := differing(values["versions"], now):
        raise UsageError(f"{folder}: was written with {other}; write the histories anew")
    return resolved


def left_of(folder: Path, number: int, at: int) -> list[Message]:
    """What a product has left of a history, in a round counted from 0."""
    file = folder / COMPACTED / _name(number, at)
    try:
        # An empty file is one that was not written; of nothing left it says [].
        if not (written := file.read_bytes()).strip():
            raise CompactionError("is empty; write messages as JSON, or text")
        return as_messages(read_messages(written))
    except OSError as error:
        raise CompactionError(f"{file.name}: {error.strerror}") from None
    except CompactionError as error:
        raise CompactionError(f"{file.name}: {error}") from None


def _name(number: int, at: int) -> str:
    return f"history-{number:04}.round-{at + 1}.json"

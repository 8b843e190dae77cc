"""What a folder of runs holds beside its runs: certificates, explanations, speed."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from rulekeep.records.store import (
    CLAIMS,
    FORMER_IDS,
    CorruptRecordError,
    RunFolder,
    Values,
    as_spec,
    packed_values,
    read_record,
    run_folders,
    unreadable,
)
from rulekeep.specs import Spec

_EXPLAINED = "explain.json"
_SpecType = TypeVar("_SpecType", bound=Spec)


def beside_runs(root: Path, broken: list[str]) -> list[Values]:
    """What stands in files of its own; a line for each broken one."""
    # A run's own folder is no folder of records: its files would be checked out of their place.
    run = RunFolder(root)
    own = {run.plan, run.record, run.environment}
    own |= {root / name for name in (_EXPLAINED, CLAIMS, FORMER_IDS)}
    paths = {*root.glob("*.json")} - own | {one.path / _EXPLAINED for one in run_folders(root)}
    values = []
    for path in sorted(filter(os.path.lexists, paths)):
        try:
            values.append(read_record(path))
        except (CorruptRecordError, OSError) as error:
            line = unreadable(path, error) if isinstance(error, OSError) else str(error)
            if path.name == _EXPLAINED:
                line = f"run {path.parent.name}: {line}; rulekeep explain makes it again"
            broken.append(line)
    return values


def kept_beside(root: Path, broken: list[str]) -> list[Values]:
    """What stands in files of its own or packed.

    A run that was explained anew has its own file beside the packed one, which is left out.
    """
    values = beside_runs(root, broken)
    anew = {one.get("run") for one in values} - {None}
    # What is amiss in the packed file is said where its runs are read.
    packed = (one for one in packed_values(root, []) if "id" not in one)
    return [*values, *(one for one in packed if one.get("run") not in anew)]


def certificates(values: Iterable[Values]) -> list[Values]:
    """The certificates among them."""
    return [one for one in values if one.get("kind") == "certificate"]


def of_kind(values: Iterable[Values], kind: type[_SpecType], notes: list[str]) -> list[_SpecType]:
    """The records of a kind among them; a note for each that is not whole."""
    typed, name = list[_SpecType](), kind.model_fields["kind"].default
    for one in values:
        if one.get("kind") == name:
            try:
                typed.append(as_spec(f"{name} {one.get('run', '')}".strip(), one, kind))
            except CorruptRecordError as error:
                notes.append(f"{error}; left out")
    return typed

"""The folders of runs that a user names, and what they hold beside runs.

Certificates, explanations and speed stand in files of their own, or packed.

A sweep that chooses by its records leaves its command in its folder until it has planned all runs.
"""

import hashlib
import os
import re
import shlex
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, count, pairwise
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from rulekeep.printable import pasted
from rulekeep.records.pack import PACKED
from rulekeep.records.store import (
    CLAIMS,
    FORMER_IDS,
    CorruptRecordError,
    Record,
    RunFolder,
    Values,
    as_spec,
    former_ids,
    packed_values,
    read_record,
    read_runs,
    run_folders,
    unreadable,
    write_record,
)
from rulekeep.specs import RunSpec, Spec, UsageError

# By name the committed runs of a preset, whole.
SHIPPED = Path(__file__).parents[1] / "baselines"
SHIPPED_WHOLE = ("quick",)
# What the tasks of the presets are certified for.
CERTIFICATES = SHIPPED.with_name("certificates")
# An id, or what it begins with.
SHORT_ID = re.compile("[0-9a-f]{4,16}")
_MOST_NAMED = 3
_EXPLAINED = "explain.json"
_SpecType = TypeVar("_SpecType", bound=Spec)


def run_folder(kind: str, out: str | os.PathLike[str] | None) -> Path:
    """The folder that is asked for; by default one named after the kind of run and the time."""
    if out is None:
        named = Path("runs") / time.strftime(f"{kind}-%Y%m%d-%H%M%S")
        names = chain([named], (named.with_name(f"{named.name}-{number}") for number in count(2)))
        return next(name for name in names if not name.exists())
    if not os.fspath(out).strip():
        raise UsageError(f"--out {os.fspath(out)!a}: must be the name of a folder")
    return Path(out)


def make_folder(path: Path, named: str = "") -> None:
    """Make a folder, and check that it can be written to; `named` is the option that asks."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable-{os.getpid()}"
        probe.touch()
        # Another thread may have had the same one.
        probe.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{named or path}: cannot be written ({said}); name another folder"
        ) from None


def existing(folder: str) -> Path:
    """A folder that is there, or the one that ships by this name."""
    root = Path(folder)
    if folder.strip() and root.is_dir():
        return root
    if folder in SHIPPED_WHOLE:
        return SHIPPED / folder
    raise UsageError(
        f"{folder!a}: there is no such folder; name one that a sweep has written, or what ships: "
        f"{', '.join(SHIPPED_WHOLE)}"
    )


def has_runs(root: Path) -> bool:
    """Whether a folder has runs, packed or not."""
    return root.is_dir() and ((root / PACKED).exists() or bool(run_folders(root)))


def no_runs(root: Path) -> UsageError:
    """The error for a folder without runs, and which folder to name."""
    if (root / "record.json").exists():
        return UsageError(f"{root}: is the folder of one run; name the one it stands in")
    inside = {
        path.parent if path.name == PACKED else path.parent.parent
        for depth in ("*", "*/*")
        for name in (PACKED, "*/plan.json", "*/record.json")
        for path in root.glob(f"{depth}/{name}")
    }
    if not inside:
        return UsageError(f"{root}: no run was planned in it; name the --out of a sweep")
    named = shlex.join(map(str, sorted(inside)[:_MOST_NAMED]))
    return UsageError(f"{root}: holds folders of runs; name one or more, as in {named}")


def runs_of_id(begins: str, roots: Iterable[Path]) -> list[tuple[Path, Record]]:
    """The runs with an id or a former id that begins so, each with the folder it stands in."""
    if not SHORT_ID.fullmatch(begins):
        return []
    found = list[tuple[Path, Record]]()
    for root in roots:
        present = {new for former, new in former_ids(root).items() if former.startswith(begins)}
        known = read_runs(root).records
        found += [(root, one) for one in known if one.id.startswith(begins) or one.id in present]
    ids = sorted({one.id for _, one in found})
    if len(ids) > 1 and len(begins) < len(ids[0]):
        raise UsageError(
            f"{begins}: {len(ids)} runs have ids that begin so; give more of it, as {ids[0]}"
        )
    return found


def done_run(named: str) -> tuple[RunFolder, Record, RunSpec]:
    """The run of a folder, or the only one that is done in a folder of runs.

    Four letters of an id are enough. A packed run gets a folder of its own, for what comes of it.
    """
    path = Path(named)
    if named.strip() and not path.exists() and path.parent.is_dir():
        for root, record in runs_of_id(path.name, [path.parent]):
            path = root / record.id
            if not path.exists():
                path.mkdir()
                values = next(one for one in packed_values(root, []) if one.get("id") == record.id)
                write_record(path / "record.json", values)
    if not named.strip() or not path.is_dir():
        raise UsageError(f"{named!a}: there is no such folder; name that of a run, RUNS/ID")
    # A run is known by its folder's name, which `.`, `..` and a link to it have not.
    if path.name in ("", "..") or path.is_symlink():
        path = path.resolve()
    runs = [RunFolder(path)] if (path / "record.json").exists() else run_folders(path)
    if len(runs) > 1:
        # What failed before it was mended does not stand in the way of what came after.
        known = {record.id for record in read_runs(path).records if record.has_model}
        runs = [run for run in runs if run.id in known] or runs
    if len(runs) > 1:
        raise UsageError(f"{named}: has {len(runs)} runs; name one of them, as in {runs[0].path}")
    try:
        done = runs[0].load() if runs else None
    except (CorruptRecordError, OSError) as error:
        again = f"rulekeep resume {pasted(runs[0].path.parent)}"
        raise UsageError(f"{named}: {error}; make the run again: {again}") from None
    if done is None:
        raise UsageError(
            f"{named}: has no record.json; name the folder of a run that is done, RUNS/ID"
        )
    if not done.has_model:
        raise UsageError(f"{named}: the run is {done.status}; name one that is done")
    if done.spec.kind != RunSpec.kind:
        raise UsageError(
            f"{named}: is of kind {done.spec.kind}, which trains no mixer of ours; name a run of "
            "rulekeep run or sweep"
        )
    spec = done.spec.parsed()
    assert isinstance(spec, RunSpec), spec
    return runs[0], done, spec


class Command(NamedTuple):
    """The command of a sweep as it was given: it may ask for runs that no plan has."""

    text: str
    working_folder: str

    @classmethod
    def given(cls) -> Self:
        """The one that was typed, without its folder: `again` names that anew."""
        words = [
            word
            for before, word in pairwise(["", *sys.argv[1:]])
            if "--out" not in (before, word) and not word.startswith("--out=")
        ]
        return cls(shlex.join(["rulekeep", *words]), str(Path.cwd()))

    def pending_file(self, root: Path) -> Path:
        """Its file in a folder of runs until all its runs are planned."""
        name = hashlib.sha256("\0".join(self).encode()).hexdigest()[:8]
        return root / f"sweep-{name}.pending"

    def again(self, root: Path) -> str:
        """The command line to continue, wherever the folder is now."""
        here, there = str(Path.cwd()), self.working_folder
        out = root if here == there else root.absolute()
        go = "" if here == there else f"cd {pasted(there)} && "
        return f"{go}{self.text} --out {pasted(out)}"


def unfinished(root: Path) -> list[Command]:
    """The sweeps of a folder that have not asked for all their runs."""
    found = []
    for path in sorted(root.glob("sweep-*.pending")):
        with suppress(OSError, CorruptRecordError):
            found.append(Command(**read_record(path)))
    return found


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
            line = unreadable(path, error)
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

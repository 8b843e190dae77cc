"""`rulekeep list`: what can be chosen, and all about one of it."""

import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from rulekeep.console import tell
from rulekeep.printable import one_line, pasted
from rulekeep.records.pack import PACKED
from rulekeep.records.store import SHORT_ID, Record, former_ids, read_runs, run_folders, runs_of_id
from rulekeep.specs import UsageError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from rulekeep.tasks import Task


def list_(name: str | None = None, /) -> int:
    """List tasks, mixers and presets, a line each; with a name or an id, all about that one.

    Parameters
    ----------
    name
        A task, a mixer (file.py:Class for one of your own) or a preset: what it does, and its
        options with their defaults. Or a run, FOLDER/ID. Four letters of an id are enough, a
        former id will do, and in this folder, in runs and in results no FOLDER is needed.
    """
    if name is not None:
        tell(_about(name))
        return 0
    from rulekeep.mixers import MIXERS
    from rulekeep.sweeps.presets import PRESETS
    from rulekeep.tasks import TASKS

    # The class of a mixer would load torch: what its file says is read, and not run.
    for group, catalogue in (("tasks", TASKS), ("mixers", MIXERS)):
        tell(f"{group}:")
        for name in catalogue:
            tell(f"  {name:<18} {_first_line(catalogue.about(name))}")
    tell("presets:")
    for name, function in PRESETS.items():
        tell(f"  {name:<18} {_first_line(function.__doc__)}")
    tell("all about one: rulekeep list NAME")
    return 0


def _about_run(named: str) -> str:
    """The record of a run, by its folder, its id or former id, or how one of them begins."""
    path = Path(named)
    # A run is known by its folder's name, which `.`, `..` and a link to it have not.
    if path.name in ("", "..") or path.is_symlink():
        path = Path(os.path.realpath(path))
    if path.is_dir() and not os.path.lexists(path / "record.json"):
        again = pasted(named)
        raise UsageError(f"{named}: has no record.json; for runs in it: rulekeep report {again}")
    roots, where = [path.parent], f"in {path.parent}"
    if path.parent == Path():
        where = "here, in runs or in results; name its folder, FOLDER/ID"
        roots = [one for place in ("", "runs", "results") for one in _folders(Path(place))]
    roots = [*filter(Path.is_dir, roots)]
    found = runs_of_id(path.name, roots)
    if not found:
        for line in (line for root in roots for line in read_runs(root).left_out):
            if line.startswith(f"run {path.name}"):
                raise UsageError(f"{named}: {line}")
        raise UsageError(f"{named}: no run of this id stands {where}")
    return "\n\n".join(_said_of_run(root, record) for root, record in found)


def _folders(place: Path) -> list[Path]:
    """A place and the folders in it that have runs."""
    inside = sorted(place.iterdir()) if place.is_dir() else []
    folders = [path for path in (place, *inside) if path.is_dir() and os.access(path, os.R_OK)]
    return [path for path in folders if (path / PACKED).exists() or run_folders(path)]


def _said_of_run(root: Path, record: Record) -> str:
    spec = record.spec
    options = {**spec.task_options, **spec.mixer_options}
    former = [old for old, new in former_ids(root).items() if new == record.id]
    said = {
        "run": record.id + (f" (formerly {', '.join(former)})" if former else ""),
        "in": root,
        "status": f"{record.status} {record.reason}".strip(),
        "task": spec.task,
        "mixer": spec.mixer,
        "options": ", ".join(f"{key} {value}" for key, value in options.items()),
        "trained": f"to {spec.context} tokens, seed {spec.seed}, rate {spec.learning_rate}",
        "versions": record.code,
        "source": record.source or "not recorded",
        "made with": ", ".join(
            f"{key} {record.environment.get(key, 'unknown')}"
            for key in ("rulekeep", "torch", "cpu", "threads", "commit", "dirty")
        ),
    }
    lines = [f"{key:<10} {value}" for key, value in said.items()]
    tests = [
        f"retention {row.figures['retention']:.3f} at {row.context} tokens"
        for row in record.tests()
        if "retention" in row.figures
    ]
    notes = [f"{'note':<10} {one_line(note)}" for note in record.notes]
    return "\n".join([*lines, *tests, *notes])


def _about(name: str) -> str:
    """The description of a task, mixer or preset, and its options."""
    from rulekeep.mixers import MIXERS
    from rulekeep.specs import choose
    from rulekeep.sweeps.presets import PRESETS
    from rulekeep.tasks import TASKS

    if name in PRESETS:
        return f"{inspect.getdoc(PRESETS[name])}\n\nrulekeep sweep {name} --out RUNS"
    task = _task(name)
    if task is not None:
        fields: Mapping[str, "FieldInfo"] = task.options_type.model_fields
        kind: type[Any] = task
        option, run = "--task-options", f"rulekeep run --task {name}"
    elif name in MIXERS or ":" in name or name.endswith(".py"):
        from rulekeep.registry import options_of

        kind, option, run = MIXERS.find(name), "--mixer-options", f"rulekeep run --mixer {name}"
        fields = options_of(kind).model_fields
    elif "/" in name or SHORT_ID.fullmatch(name) or Path(name).is_dir():
        return _about_run(name)
    else:
        known = dict.fromkeys([*TASKS, *MIXERS, *PRESETS])
        raise UsageError(f"{name!r}: {choose(name, known)}")
    lines = [f"  {option}.{key.replace('_', '-')} {_default(one)}" for key, one in fields.items()]
    # A class without a docstring would show that of its base.
    own = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or vars(kind).get("__doc__") or "")
    return "\n".join([own, "", run, *lines])


def _task(name: str) -> "type[Task] | None":
    """The task of this name, of the catalogue or of one's own; None if it is of none."""
    from rulekeep.registry import is_outside
    from rulekeep.tasks import TASKS

    if name not in TASKS and not is_outside(name):
        return None
    try:
        return TASKS.find(name)
    except UsageError:
        # It may be a mixer: why it is none is said.
        return None


def _default(option: "FieldInfo") -> str:
    if option.is_required():
        return "VALUE (must be given)"
    kind = option.annotation
    choices = f" ({' or '.join(map(str, get_args(kind)))})" if get_origin(kind) is Literal else ""
    if type(None) in get_args(kind) and option.default is not None:
        choices = " (or None)"
    return f"{option.default}{choices}"


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(":.")

"""`rulekeep list`: what can be chosen, and all about one of it."""

import inspect
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from rulekeep.console import tell
from rulekeep.mixers import MIXERS
from rulekeep.printable import one_line, pasted
from rulekeep.records.folders import SHORT_ID, has_runs, runs_of_id
from rulekeep.records.store import Record, former_ids, read_runs
from rulekeep.registry import is_outside, options_of
from rulekeep.specs import UsageError, choose
from rulekeep.sweeps.presets import PRESETS
from rulekeep.tasks import TASKS

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


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
    # The class of a mixer would load torch: what its file says is read, and not run.
    groups = {
        "tasks": {name: TASKS.about(name) for name in TASKS},
        "mixers": {name: MIXERS.about(name) for name in MIXERS},
        "presets": {name: inspect.getdoc(function) or "" for name, function in PRESETS.items()},
    }
    for group, abouts in groups.items():
        tell(f"{group}:")
        for name, about in abouts.items():
            first_line = about.partition("\n")[0].rstrip(":.")
            tell(f"  {name:<18} {first_line}")
    tell("all about one: rulekeep list NAME")
    return 0


def _about(name: str) -> str:
    """The description of a task, mixer or preset with its options, or of a run."""
    if name in PRESETS:
        return f"{inspect.getdoc(PRESETS[name])}\n\nrulekeep sweep {name} --out RUNS"
    outside = is_outside(name) or name.endswith(".py")
    if name in TASKS or outside:
        try:
            task = TASKS.find(name)
        except UsageError:
            # It may be a mixer: why it is none is said.
            pass
        else:
            return _about_class("task", name, task, task.options_type.model_fields)
    if name in MIXERS or outside:
        mixer = MIXERS.find(name)
        return _about_class("mixer", name, mixer, options_of(mixer).model_fields)
    if "/" in name or SHORT_ID.fullmatch(name) or Path(name).is_dir():
        return _about_run(name)
    raise UsageError(f"{name!r}: {choose(name, dict.fromkeys([*TASKS, *MIXERS, *PRESETS]))}")


def _about_class(
    what: Literal["task", "mixer"], name: str, kind: type[Any], options: "dict[str, FieldInfo]"
) -> str:
    """What a class does, and how a run takes it with each of its options."""
    # A class without a docstring would show that of its base.
    own = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or vars(kind).get("__doc__") or "")
    before = f"  --{what}-options."
    lines = [f"{before}{key.replace('_', '-')} {_default(of)}" for key, of in options.items()]
    return "\n".join([own, "", f"rulekeep run --{what} {name}", *lines])


def _default(option: "FieldInfo") -> str:
    if option.is_required():
        return "VALUE (must be given)"
    kind = option.annotation
    choices = f" ({' or '.join(map(str, get_args(kind)))})" if get_origin(kind) is Literal else ""
    if type(None) in get_args(kind) and option.default is not None:
        choices = " (or None)"
    return f"{option.default}{choices}"


def _about_run(named: str) -> str:
    """The record of a run, by its folder, its id or former id, or how one of them begins."""
    path = Path(named)
    # A run is known by its folder's name, which `.`, `..` and a link to it have not.
    if path.name in ("", "..") or path.is_symlink():
        path = path.resolve()
    if path.is_dir() and not os.path.lexists(path / "record.json"):
        again = pasted(named)
        raise UsageError(f"{named}: has no record.json; for runs in it: rulekeep report {again}")
    roots, where = [path.parent], f"in {path.parent}"
    if path.parent == Path():
        where = "here, in runs or in results; name its folder, FOLDER/ID"
        places = [place for place in map(Path, ("", "runs", "results")) if place.is_dir()]
        roots = [root for place in places for root in (place, *sorted(place.iterdir()))]
    roots = [root for root in roots if has_runs(root)]
    runs = runs_of_id(path.name, roots)
    if not runs:
        for line in (line for root in roots for line in read_runs(root).left_out):
            if line.startswith(f"run {path.name}"):
                raise UsageError(f"{named}: {line}")
        raise UsageError(f"{named}: no run of this id stands {where}")
    return "\n\n".join(_said_of_run(root, record) for root, record in runs)


def _said_of_run(root: Path, record: Record) -> str:
    spec = record.spec
    options = {**spec.task_options, **spec.mixer_options}
    former = [old for old, new in former_ids(root).items() if new == record.id]
    lines = {
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
    tests = [
        f"retention {row.figures['retention']:.3f} at {row.context} tokens"
        for row in record.tests()
        if "retention" in row.figures
    ]
    notes = [f"{'note':<10} {one_line(note)}" for note in record.notes]
    return "\n".join([*(f"{key:<10} {value}" for key, value in lines.items()), *tests, *notes])

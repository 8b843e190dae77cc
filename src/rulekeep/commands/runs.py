"""`rulekeep run`, `sweep` and `resume`: make runs, and show what came of them."""

import shlex
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_origin

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from rulekeep.commands import beside
from rulekeep.commands.options import Flag
from rulekeep.console import EXIT_FAILED, EXIT_USAGE, say, tell
from rulekeep.executors import LocalExecutor
from rulekeep.printable import counted, pasted
from rulekeep.records.folders import Command, run_folder, unfinished
from rulekeep.records.store import results
from rulekeep.running.building import run_spec
from rulekeep.specs import (
    LEFT_OUT,
    MODEL,
    USUAL,
    AnySpec,
    CompactionSpec,
    LanguageSpec,
    Option,
    PredictorSpec,
    RunSpec,
    UsageError,
    option_name,
    scalar,
)
from rulekeep.sweeps import planning
from rulekeep.sweeps.asked import Grid, How, Make, Where, grid_of
from rulekeep.sweeps.making import Made, make_runs

AnyHow = Annotated[How, Parameter(name="*")]
Anywhere = Annotated[Where, Parameter(name="*")]
AnyGrid = Annotated[Grid, Parameter(name="*")]
_HOW, _HERE, _GRID = How(), Where(), Grid()


def _flag(name: str, field: FieldInfo) -> tuple[Any, None]:
    """A field of a run as a flag; what is left out is None."""
    # What a dict holds is text, to be read as that of brackets is.
    is_dict = get_origin(field.annotation) is dict
    kind: Any = dict[str, Any] if is_dict else Annotated[field.annotation, Field(), *field.metadata]
    default = USUAL.get(name, field.default)
    text = LEFT_OUT.get(name, f" [default: {default}]" if default not in ({}, None) else "")
    help_text = f"{(field.description or '').rstrip('.')}. {text.strip()}"
    # What is on without a word can be turned off.
    negative = None if field.default is True else ""
    return Annotated[kind | None, Parameter(help=help_text, negative=negative)], None


_FIELDS: dict[str, Any] = {name: _flag(name, field) for name, field in RunSpec.model_fields.items()}
# Not checked yet: a value of the file may be missing.
Flags: type[BaseModel] = create_model(
    "Flags", __config__=ConfigDict(allow_inf_nan=False), **_FIELDS
)


def run(
    file: str | None = None,
    /,
    *,
    flags: Annotated[Flags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
    predictor: str | None = None,
    out: str | None = None,
    how: AnyHow = _HOW,
) -> int:
    """Train and test one mixer on one task, or score an outside model, and keep the record.

    The exit code is 1 if the run fails, diverges, or has outputs that are not finite.

    Parameters
    ----------
    file
        A TOML file with the spec's values; a flag overrides its value.
    flags
        The spec's values.
    predictor
        An outside model to score, file.py:Class or module:Class; nothing is trained.
    out
        Folder of runs, runs/run-TIME if left out. A run that stands there is not made again.
    """
    values = spec_values(file, flags)
    if predictor is None:
        spec: AnySpec = run_spec(values)
    else:
        spec = PredictorSpec.parse(**values, predictor=predictor)
    root = run_folder("run", out)
    return ended(make_runs(lambda _: [spec], root, LocalExecutor(1), how), root)


def sweep(
    what: str,
    /,
    *,
    mixers: str | None = None,
    asked: AnyGrid = _GRID,
    out: str | None = None,
    dry_run: Flag = False,
    where: Anywhere = _HERE,
    how: AnyHow = _HOW,
) -> int:
    """Make every missing run of a grid.

    The exit code is 1 if a run fails, or if none is whole: all diverge or are not finite.

    Parameters
    ----------
    what
        A preset (see `rulekeep list`), or FILE.py with a function `sweep` that returns specs,
        or FILE.py:function. A function with an argument gets the results of the folder
        so far, and is called again until it adds nothing.
    mixers
        For presets that compare mixers, the ones to run instead of the preset's own, between
        commas: names, file.py:Class, each with options in brackets, as in delta[heads=8]. What
        is no option of the mixer is a setting of its runs, as in delta[hidden=248].
    out
        Folder of runs, runs/sweep-TIME if left out. Runs that stand there are not made again.
    dry_run
        Name the runs that would be made first, and make none.
    """
    executor = where.made()
    make, chooses = grid_of(what, mixers, asked)
    root = run_folder("sweep", out)
    if dry_run:
        return _listed(make, root, chooses)
    words = ["rulekeep", "sweep", what, *([] if mixers is None else ["--mixers", mixers])]
    for name, value in asked.given.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    command = Command(shlex.join(words), str(Path.cwd()))
    return ended(make_runs(make, root, executor, how, command, chooses=chooses), root)


def resume(folder: str, /, *, where: Anywhere = _HERE, how: AnyHow = _HOW) -> int:
    """Continue a folder of runs: make those that are missing or have failed.

    Parameters
    ----------
    folder
        Folder of runs, the --out of a sweep.
    """
    root = Path(folder)
    made = make_runs(None, root, where.made(), how)
    for asked in unfinished(root):
        say(f"more may be asked for by a sweep that planned these runs: {asked.again(root)}")
    return ended(made, root)


def ended(made: Made, root: Path) -> int:
    """Say which runs failed, print the results, and give the exit code."""
    from rulekeep.commands.printed import print_compaction, print_language, print_scores

    code = made.say_failed(root)
    if code == EXIT_USAGE:
        # In one line: what went before it stands, and the same command goes on.
        return code
    if len(made.records) == 1:
        (record,) = made.records.values()
        print_scores(record)
        if record.spec.kind == RunSpec.kind and record.tests():
            beside.show(record)
    done = sum(record.is_result for record in made.records.values())
    ends = Counter(record.status for record in made.records.values())
    others = "".join(f", {ends[one]} {one}" for one in ("diverged", "not_finite") if ends[one])
    total = counted(len(made.records) + made.lost, "run")
    tell(f"records: {root} ({done} of {total} finished{others})")
    tell(f"report:  rulekeep report {pasted(root)}")
    kinds = {record.spec.kind for record in made.records.values()}
    if LanguageSpec.kind in kinds:
        print_language(results(root))
    if CompactionSpec.kind in kinds:
        print_compaction([*made.records.values()])
    # A grid may have rates that diverge: only where nothing else came of it, it went wrong.
    none_whole = bool(made.records) and not ends["done"]
    return code or (EXIT_FAILED if none_whole else 0)


def _listed(make: Make, root: Path, chooses: bool) -> int:
    """The runs that a sweep begins with if some are made already, a line each."""
    labels = {planning.identity(spec): _label(spec) for spec in make(root)}
    for record in results(root):
        labels.pop(record.id, None)
    for label in labels.values():
        tell(label)
    more = "; what more it makes, it chooses by their records" if chooses else ""
    tell(f"runs to begin with: {len(labels):,}{more}")
    return 0


def _label(spec: AnySpec) -> str:
    """The name of a run, and its other settings."""
    if not isinstance(spec, RunSpec):
        return spec.label
    given = spec.model_dump(include={*MODEL}, exclude_defaults=True)
    options = {**spec.task_options, **spec.mixer_options, **given}
    return ", ".join([spec.label, *(f"{key} {value}" for key, value in options.items())])


def spec_values(file: str | None, flags: BaseModel | None) -> dict[str, Any]:
    """The values of a spec: those of the file, overridden by the flags.

    Raises:
        UsageError: the file cannot be read.
    """
    values = {} if file is None else _from_toml(file)
    for name, given in flags.model_dump(exclude_none=True).items() if flags else ():
        if isinstance(given, dict):
            values[name] = {**values.get(name, {}), **dict(named_options(given))}
        else:
            values[name] = given
    return values


def _from_toml(name: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(Path(name).read_text("utf-8"))
    except OSError as error:
        fix = f"; a class of yours goes to --mixer {name}" if ".py:" in name else ""
        raise UsageError(f"{name}: {error.strerror}; name a TOML file{fix}") from None
    except ValueError as error:
        raise UsageError(f"{name}: is not TOML: {error}; write name = value") from None
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    return {**values, **{key: dict(_by_name(table)) for key, table in tables.items()}}


def named_options(options: Mapping[str, Any]) -> Iterator[tuple[str, Option]]:
    """Options typed as text, by name."""
    for name, text in _by_name(options):
        yield option_name(name), scalar(text)


def _by_name(options: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Options with their values; a hybrid's `delta.heads` comes from a nested table."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _by_name(value, f"{before}{key}.")
        else:
            yield before + key, value

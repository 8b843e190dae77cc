"""`rulekeep run`, `sweep` and `resume`: plan runs, make them, keep and show them as they finish."""

import inspect
import math
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from cyclopts import Parameter
from pydantic import ValidationError

from rulekeep.commands import beside
from rulekeep.commands.live import shown
from rulekeep.commands.options import (
    Flag,
    Integers,
    Lengths,
    Rates,
    Seconds,
    Texts,
    Workers,
    run_folder,
)
from rulekeep.commands.run_options import Flags, spec_values, with_defaults
from rulekeep.console import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    say,
    tell,
)
from rulekeep.executors import DaskExecutor, Executor, LocalExecutor
from rulekeep.executors.base import USAGE
from rulekeep.executors.here import ThisProcess
from rulekeep.printable import counted, pasted
from rulekeep.records import Record
from rulekeep.records.store import results
from rulekeep.registry import failure_line, find_function
from rulekeep.running.building import check_device, own_options_first
from rulekeep.running.trackers import TrackerName, check_tracker
from rulekeep.specs import (
    KINDS,
    MODEL,
    AnySpec,
    CompactionSpec,
    LanguageSpec,
    PredictorSpec,
    RunSpec,
    UsageError,
    mixer_specs,
    validation_line,
)
from rulekeep.sweeps import planning
from rulekeep.sweeps import sweep as sweeps
from rulekeep.sweeps.presets import PRESET_TASKS, PRESETS

# The specs of a sweep, where some of its folder may be made already.
_Make: TypeAlias = Callable[[Path], Sequence[AnySpec]]
_MOST_RUNS = 100_000
_SPECS = {kind.__name__: kind for kind in KINDS.values()}


class Settled(list[AnySpec]):
    """The specs of a sweep that has chosen: whatever its records will say, no more follow."""


@Parameter(name="*")
@dataclass(frozen=True)
class How:
    """How runs are made.

    Parameters
    ----------
    time_limit
        Seconds after which a run is stopped; loading a plug-in does not count.
    tracker
        none, tensorboard, wandb or trackio.
    no_weights
        Keep no trained weights beside the record: rulekeep test then has nothing to test.
    """

    time_limit: Seconds = None
    tracker: TrackerName = "none"
    no_weights: Flag = False

    def check(self) -> None:
        """Report what a tracker lacks before anything is made."""
        if note := check_tracker(self.tracker):
            say(note)


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Where runs are made.

    Parameters
    ----------
    executor
        local: processes on this machine; dask: a Dask cluster.
    workers
        Runs side by side on this machine; as many as there are cores if left out.
    scheduler
        Address of the Dask scheduler, as in tcp://10.0.0.1:8786.
    resources
        What a run asks of a Dask worker, as in GPU=1.
    """

    executor: Literal["local", "dask"] = "local"
    workers: Workers = None
    scheduler: str | None = None
    resources: str | None = None

    def made(self) -> Executor:
        """The executor.

        Raises:
            UsageError: an option is of the other one, or impossible.
        """
        if self.executor == "local":
            for option in ("scheduler", "resources"):
                if (value := getattr(self, option)) is not None:
                    raise UsageError(f"--{option} {value!r}: is for --executor dask only")
            return LocalExecutor(self.workers)
        if self.workers is not None:
            raise UsageError(f"--workers {self.workers}: a Dask cluster has its own; leave it out")
        if self.scheduler is None:
            raise UsageError(
                "--executor dask: needs --scheduler ADDRESS, as in tcp://10.0.0.1:8786"
            )
        return DaskExecutor(self.scheduler, _resources(self.resources))


_HOW, _HERE = How(), Where()


def run(
    file: str | None = None,
    /,
    *,
    flags: Annotated[Flags | None, Parameter(name="*")] = None,
    predictor: str | None = None,
    out: str | None = None,
    how: How = _HOW,
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
    values = spec_values(file, {} if flags is None else flags.model_dump(exclude_none=True))
    kind: type[RunSpec] | type[PredictorSpec] = RunSpec
    if predictor is not None:
        kind = PredictorSpec
        values["predictor"] = predictor
    else:
        values = with_defaults(values)
    spec = kind.parse(**values)
    how.check()
    return carry_out(lambda _: [spec], run_folder("run", out), LocalExecutor(1), how)


def sweep(
    what: str,
    /,
    *,
    mixers: str | None = None,
    tuning_seeds: int | None = None,
    seeds: Integers | None = None,
    tasks: Texts | None = None,
    learning_rates: Rates | None = None,
    test_contexts: Lengths | None = None,
    out: str | None = None,
    dry_run: Flag = False,
    where: Where = _HERE,
    how: How = _HOW,
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
    tuning_seeds
        For presets that choose learning rates, the number of seeds that choose.
    seeds
        For a preset, the seeds to run instead of its own, between commas.
    tasks
        For a preset, those of its tasks to run, between commas.
    learning_rates
        For presets that choose learning rates, the ones to choose from, between commas.
    test_contexts
        For a preset, the lengths in tokens to test at beside the shortest, between commas.
    out
        Folder of runs, runs/sweep-TIME if left out. Runs that stand there are not made again.
    dry_run
        Name the runs that would be made first, and make none.
    """
    executor = where.made()
    how.check()
    asked = {
        "tuning_seeds": tuning_seeds, "seeds": seeds, "tasks": tasks,
        "learning_rates": learning_rates, "test_contexts": test_contexts,
    }  # fmt: skip
    asked = {name: value for name, value in asked.items() if value is not None}
    make, chooses = maker(what, mixers, asked)
    root = run_folder("sweep", out)
    if dry_run:
        return _listed(make, root, chooses)
    named = [what] if mixers is None else [what, "--mixers", mixers]
    for name, value in asked.items():
        named += [_option(name), _as_typed(value)]
    command = planning.Command(shlex.join(["rulekeep", "sweep", *named]), str(Path.cwd()))
    return carry_out(make, root, executor, how, command, chooses=chooses)


def resume(folder: str, /, *, where: Where = _HERE, how: How = _HOW) -> int:
    """Continue a folder of runs: make those that are missing or have failed.

    Parameters
    ----------
    folder
        Folder of runs, the --out of a sweep.
    """
    executor = where.made()
    how.check()
    root = Path(folder)
    return carry_out(None, root, executor, how)


class Made(NamedTuple):
    """Records by id, the number of lost runs in the folder, and whether Ctrl-C came."""

    records: dict[str, Record]
    lost: int
    interrupted: bool = False

    @property
    def failed(self) -> list[Record]:
        """Runs without a result."""
        return [record for record in self.records.values() if not record.is_result]

    @property
    def is_usage(self) -> bool:
        """Whether nothing went wrong but what a user can mend."""
        failed = self.failed
        by_user = all(one.reason.startswith(USAGE) for one in failed)
        return bool(failed) and by_user and not self.lost

    def say_failed(self, root: Path) -> int:
        """Name each run without a result; the exit code."""
        failed = self.failed
        # What a user can mend is said once, whatever number of runs it has stopped.
        usage = [one for one in failed if one.reason.startswith(USAGE)]
        for line in dict.fromkeys(one.reason.removeprefix(USAGE) for one in usage):
            say(f"rulekeep: {line}")
        if self.is_usage:
            return EXIT_USAGE
        for record in failed:
            if record in usage:
                continue
            log = root / record.id / "log.txt"
            where = f" (see {log})" if log.exists() else ""
            say(f"run {record.id}: {record.status}: {record.reason}{where}")
        return EXIT_FAILED if failed or self.lost else 0


def carry_out(
    make: _Make | None,
    root: Path,
    executor: Executor,
    how: How = _HOW,
    command: planning.Command | None = None,
    *,
    chooses: bool = False,
) -> int:
    """Make the runs, and print the result."""
    made = make_runs(make, root, executor, how, command, chooses=chooses)
    if made.interrupted:
        return EXIT_INTERRUPTED
    if made.is_usage:
        # In one line: what went before it stands, and the same command goes on.
        return made.say_failed(root)
    for asked in planning.unfinished(root) if make is None else ():
        say(f"more may be asked for by a sweep that planned these runs: {asked.again(root)}")
    from rulekeep.commands.printed import print_compaction, print_language, print_scores

    if len(made.records) == 1:
        (record,) = made.records.values()
        print_scores(record)
        if record.spec.kind == RunSpec.kind and record.tests():
            beside.show(record)
    done = sum(record.is_result for record in made.records.values())
    ends = Counter(record.status for record in made.records.values())
    said = "".join(f", {ends[one]} {one}" for one in ("diverged", "not_finite") if ends[one])
    total = counted(len(made.records) + made.lost, "run")
    tell(f"records: {root} ({done} of {total} finished{said})")
    tell(f"report:  rulekeep report {pasted(root)}")
    kinds = {record.spec.kind for record in made.records.values()}
    if LanguageSpec.kind in kinds:
        print_language(results(root))
    if CompactionSpec.kind in kinds:
        print_compaction([*made.records.values()])
    # A grid may have rates that diverge: only where nothing else came of it, it went wrong.
    none_whole = bool(made.records) and not ends["done"]
    return made.say_failed(root) or (EXIT_FAILED if none_whole else 0)


def make_runs(
    make: _Make | None,
    root: Path,
    executor: Executor,
    how: How = _HOW,
    command: planning.Command | None = None,
    *,
    chooses: bool = False,
) -> Made:
    """Make the runs; a sweep that chooses by records is called until it adds none."""
    executor.prepare()
    specs = make(root) if make else []
    planned = _planned(specs, root, executor, command) if make else planning.plan_again(root)
    more = chooses and not isinstance(specs, Settled)
    total = len(planned.finished) + len(planned.jobs) + len(planned.lost)
    if planned.finished:
        stand = counted(total, "run stands", "runs stand")
        say(f"{len(planned.finished)} of {stand} finished in {root}")
        if any(isinstance(spec, PredictorSpec) for spec in specs):
            say("weights of a predictor are no part of its run: for others give another --out")
    elif total > 1 and not sys.stderr.isatty():
        # A terminal shows it; elsewhere nothing would be said until the first run ends.
        say(f"{counted(len(planned.jobs), 'run')} to make in {root}")
    records = {record.id: record for record in planned.finished}
    open_jobs = {job.id for job in planned.jobs}
    lost, heard = set[str](), set[str]()
    try:
        while True:
            for note in planned.notes:
                if note not in heard:
                    say(note)
                heard.add(note)
            lost |= {*planned.lost}
            # What cannot be read may be what the sweep chooses by.
            if command and not (more or lost):
                command.pending_file(root).unlink(missing_ok=True)
            jobs = [job for job in planned.jobs if job.id not in records]
            events = sweeps.execute(
                planned._replace(jobs=jobs), executor, how.time_limit, how.tracker,
                keep_weights=not how.no_weights,
            )  # fmt: skip
            for event in shown(events, jobs):
                records[event.job.id] = event.record
            # What comes next is chosen from what came: not from half of it.
            if not (make and more) or not all(r.is_result for r in records.values()):
                break
            specs = make(root)
            planned = _planned(specs, root, executor, command)
            # A run that stood finished is news as well: more may follow from it.
            news = {job.id for job in planned.jobs} | {r.id for r in planned.finished}
            more = not (isinstance(specs, Settled) or news <= records.keys())
            records |= {record.id: record for record in planned.finished}
            open_jobs |= {job.id for job in planned.jobs}
    except KeyboardInterrupt:
        # What a worker wrote as the interruption came stands, though nothing was heard of it.
        wanted = records.keys() | open_jobs
        done = sum(record.id in wanted for record in results(root))
        said = counted(len(wanted) + len(lost), "run is", "runs are")
        again = _again(root, executor, command if more or lost else None)
        say(f"interrupted: {done} of {said} finished; for the rest: {again}")
        return Made(records, len(lost), interrupted=True)
    return Made(records, len(lost))


def _again(root: Path, executor: Executor, command: planning.Command | None) -> str:
    """What to type after an interruption; a sweep that chooses needs its own command."""
    if isinstance(executor, ThisProcess):
        return "the same call again"
    again = command.again(root) if command else f"rulekeep resume {pasted(root)}"
    if isinstance(executor, DaskExecutor):
        again += " with the same --executor and --scheduler (without them, on this machine)"
    return again


def _listed(make: _Make, root: Path, chooses: bool) -> int:
    """The runs that a sweep begins with if some are made already, a line each."""
    planning.check_folder(root)
    labels = {planning.identity(spec): _said(spec) for spec in make(root)}
    for record in results(root):
        labels.pop(record.id, None)
    for label in labels.values():
        tell(label)
    more = "; what more it makes, it chooses by their records" if chooses else ""
    tell(f"runs to begin with: {len(labels):,}{more}")
    return 0


def _said(spec: AnySpec) -> str:
    """The name of a run, and its other settings."""
    if not isinstance(spec, RunSpec):
        return spec.label
    given = spec.model_dump(include={*MODEL}, exclude_defaults=True)
    options = {**spec.task_options, **spec.mixer_options, **given}
    return ", ".join([spec.label, *(f"{key} {value}" for key, value in options.items())])


def _planned(
    specs: Sequence[AnySpec], root: Path, executor: Executor, command: planning.Command | None
) -> planning.Plan:
    # A cluster's workers may have what this machine has not.
    for spec in () if isinstance(executor, DaskExecutor) else specs:
        if isinstance(spec, (RunSpec, LanguageSpec)):
            check_device(spec.device)
    return planning.plan(specs, root, command)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _as_typed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def maker(
    what: str, mixers: str | None, asked: Mapping[str, Any] = MappingProxyType({})
) -> tuple[_Make, bool]:
    """The function of a sweep, and whether it chooses by its records.

    `asked` are values of its arguments. Its specs are checked as they come.
    """
    function: Callable[..., Any] = (
        PRESETS[what] if what in PRESETS else find_function(what, PRESETS, "sweep")
    )
    if inspect.iscoroutinefunction(function):
        raise UsageError(f"sweep {what!r}: is async; return a list of RunSpec without it")
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:
        raise UsageError(f"sweep {what!r}: {error}; write a function in Python") from None
    given: dict[str, Any] = {}
    if mixers is not None:
        if "mixers" not in parameters:
            raise UsageError(f"--mixers {mixers!r}: {what} has its own; leave it out")
        named = mixer_specs(mixers)
        given["mixers"] = tuple(own_options_first(one, of_runs=MODEL) for one in named)
    for name, value in asked.items():
        if name not in parameters:
            typed = f"{_option(name)} {_as_typed(value)}"
            raise UsageError(f"{typed}: {what} takes none; leave it out")
        given[name] = value
    if wrong := {*asked.get("tasks", ())} - {*PRESET_TASKS}:
        raise UsageError(f"--tasks {min(wrong)!a}: choose from {', '.join(PRESET_TASKS)}")
    takes_records = any(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters.values()
    )

    def make(root: Path) -> Sequence[AnySpec]:
        # The folder is read for who asks for it alone.
        asked = [results(root)] if takes_records else []
        try:
            made = function(*asked, **given)
            if not isinstance(made, Iterable):
                kind = type(made).__name__
                raise UsageError(f"sweep {what!r}: it returned a {kind}; return a list of RunSpec")
            specs = list(islice(made, _MOST_RUNS + 1))
        except UsageError:
            raise
        except ValidationError as error:
            known = _SPECS.get(error.title, RunSpec).model_fields
            raise UsageError(f"sweep {what!r}: {validation_line(error, known)}") from None
        # Whatever it raises, an early exit included, is the user's to read in one line.
        except (Exception, SystemExit) as error:
            raise UsageError(f"sweep {what!r}: {failure_line(error)}") from error
        if not specs:
            raise UsageError(f"sweep {what!r}: it returned no spec; return a list of RunSpec")
        if len(specs) > _MOST_RUNS:
            raise UsageError(f"sweep {what!r}: it returned more than {_MOST_RUNS} specs; split it")
        try:
            return [_whole(spec) for spec in specs]
        except UsageError as error:
            raise UsageError(f"sweep {what!r}: {error}") from None

    return make, takes_records


def _whole(spec: Any) -> AnySpec:
    """A spec of a sweep, checked: a copy with other values is made without validation."""
    if not isinstance(spec, AnySpec):
        raise UsageError(f"it returned a {type(spec).__name__}; return a list of RunSpec")
    try:
        values = spec.model_dump(mode="json", warnings=False)
    except ValueError as error:
        raise UsageError(f"not a value that a spec can hold: {error}") from None
    # A name that is no field stands in the copy, and in nothing that is made of it.
    return type(spec).parse(**{**vars(spec), **values})


def _resources(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    found = {}
    for part in text.split(","):
        name, equals, amount = part.partition("=")
        try:
            value = float(amount)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise UsageError(f"--resources {text[:80]!a}: must be NAME=AMOUNT, as in GPU=1")
        if not 0 < value < math.inf:
            raise UsageError(f"--resources {text[:80]!a}: an amount must be a number above 0")
        found[name.strip()] = value
    return found

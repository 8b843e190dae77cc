"""Makes runs: plans what a folder lacks, gives it to an executor, and shows how far it is.

    made = make_runs(lambda _: specs, Path("runs/mine"), LocalExecutor())

A sweep is a function that returns specs. One with an argument chooses by the records of the folder
so far, and is called until it asks for nothing more.
"""

import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import Field, field_validator

from rulekeep.console import EXIT_FAILED, EXIT_USAGE, say
from rulekeep.executors import DaskExecutor, Executor, LocalExecutor
from rulekeep.executors.base import USAGE
from rulekeep.executors.here import ThisProcess
from rulekeep.printable import counted, pasted
from rulekeep.records import Record
from rulekeep.records.folders import Command
from rulekeep.records.store import results
from rulekeep.registry import failure_line, find_function
from rulekeep.running.building import check_device, own_options_first
from rulekeep.running.trackers import TrackerName, check_tracker
from rulekeep.specs import (
    MODEL,
    AnySpec,
    LanguageSpec,
    PredictorSpec,
    RunSpec,
    Spec,
    UsageError,
    choose,
    mixer_specs,
)
from rulekeep.specs.base import between_commas
from rulekeep.sweeps import planning
from rulekeep.sweeps import sweep as sweeps
from rulekeep.sweeps.live import shown
from rulekeep.sweeps.presets import PRESET_TASKS, PRESETS

# The specs of a sweep, where some of its folder may be made already.
Make: TypeAlias = Callable[[Path], Sequence[AnySpec]]


class Settled(list[AnySpec]):
    """The specs of a sweep that has chosen: whatever its records will say, no more follow."""


class How(Spec, strict=False):
    """How runs are made."""

    time_limit: float | None = Field(
        default=None,
        gt=0,
        description="Seconds after which a run is stopped; loading a plug-in does not count.",
    )
    tracker: TrackerName = Field(default="none", description="none, tensorboard, wandb or trackio.")
    weights: bool = Field(
        default=True,
        description="Keep the trained weights beside the record: rulekeep test needs them.",
    )


class Where(Spec, strict=False):
    """Where runs are made."""

    executor: Literal["local", "dask"] = Field(
        default="local", description="local: processes on this machine; dask: a Dask cluster."
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="Runs side by side on this machine; as many as there are cores if left out.",
    )
    scheduler: str | None = Field(
        default=None, description="Address of the Dask scheduler, as in tcp://10.0.0.1:8786."
    )
    resources: str | None = Field(
        default=None, description="What a run asks of a Dask worker, as in GPU=1."
    )

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


def _resources(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    try:
        amounts = {name.strip(): float(amount) for name, _, amount in pairs}
    except ValueError:
        amounts = {}
    if not amounts or not all(0 < amount < math.inf for amount in amounts.values()):
        raise UsageError(f"--resources {text!a}: must be NAME=AMOUNT, as in GPU=1")
    return amounts


class Grid(Spec, strict=False):
    """What a preset may be told instead of its own."""

    seeds: tuple[int, ...] | None = Field(
        default=None, description="For a preset, the seeds to run, between commas."
    )
    tasks: tuple[str, ...] | None = Field(
        default=None, description="For a preset, those of its tasks to run, between commas."
    )
    learning_rates: tuple[float, ...] | None = Field(
        default=None,
        description="For presets that choose learning rates, those to choose from, between commas.",
    )
    test_contexts: tuple[int, ...] | None = Field(
        default=None,
        description="For a preset, the lengths in tokens to test at beside the shortest, between "
        "commas.",
    )
    tuning_seeds: int | None = Field(
        default=None,
        description="For presets that choose learning rates, the number of seeds that choose.",
    )

    _texts = field_validator("seeds", "tasks", "learning_rates", "test_contexts", mode="before")(
        between_commas
    )

    @property
    def given(self) -> dict[str, Any]:
        """What was said, by name."""
        return self.model_dump(exclude_none=True)


class Made(NamedTuple):
    """Records by id, and the number of runs in the folder whose plan or record is lost."""

    records: Mapping[str, Record]
    lost: int

    def say_failed(self, root: Path) -> int:
        """Name each run without a result; the exit code.

        What its user can mend is said once, whatever number of runs it has stopped.
        """
        failed = [record for record in self.records.values() if not record.is_result]
        usage = [record for record in failed if record.reason.startswith(USAGE)]
        for line in dict.fromkeys(record.reason.removeprefix(USAGE) for record in usage):
            say(f"rulekeep: {line}")
        if usage and len(usage) == len(failed) and not self.lost:
            return EXIT_USAGE
        for record in failed:
            if record not in usage:
                log = root / record.id / "log.txt"
                where = f" (see {log})" if log.exists() else ""
                say(f"run {record.id}: {record.status}: {record.reason}{where}")
        return EXIT_FAILED if failed or self.lost else 0


def grid_of(what: str, mixers: str | None, asked: Grid) -> tuple[Make, bool]:
    """What makes the specs of a preset or of FILE.py:function, and whether it chooses by records.

    Raises:
        UsageError: there is no such function, or it takes no such argument.
    """
    function: Callable[..., Any] = (
        PRESETS[what] if what in PRESETS else find_function(what, PRESETS, "sweep")
    )
    parameters = inspect.signature(function).parameters
    given = asked.given if mixers is None else {"mixers": mixers, **asked.given}
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for name in () if takes_any else given.keys() - parameters.keys():
        raise UsageError(f"{name} {given[name]!r}: {what} takes none; leave it out")
    for task in {*(asked.tasks or ())} - {*PRESET_TASKS}:
        raise UsageError(f"tasks {task!r}: {choose(task, PRESET_TASKS)}")
    if mixers is not None:
        named = mixer_specs(mixers)
        given["mixers"] = tuple(own_options_first(one, of_runs=MODEL) for one in named)
    chooses = any(one.kind < one.VAR_POSITIONAL for one in parameters.values())

    def make(root: Path) -> Sequence[AnySpec]:
        try:
            # The folder is read for who asks for it alone.
            specs = list(function(*([results(root)] if chooses else []), **given))
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"sweep {what!r}: {failure_line(error)}") from error
        if not specs or not all(isinstance(spec, AnySpec) for spec in specs):
            raise UsageError(f"sweep {what!r}: return a list of RunSpec")
        return [_whole(spec) for spec in specs]

    return make, chooses


def _whole(spec: AnySpec) -> AnySpec:
    """A spec checked: a copy with other values is made without validation."""
    values = spec.model_dump(mode="json", warnings=False)
    # A name that is no field stands in the copy, and in nothing that is made of it.
    return type(spec).parse(**{**vars(spec), **values})


def make_runs(
    make: Make | None,
    root: Path,
    executor: Executor,
    how: How | None = None,
    command: Command | None = None,
    *,
    chooses: bool = False,
) -> Made:
    """Make the runs that a folder lacks; without `make`, those that were planned in it.

    Raises:
        UsageError: a spec is impossible, or the folder cannot be written.
        KeyboardInterrupt: with a line that says how many are finished, and how to go on.
    """
    how = how or How()
    if note := check_tracker(how.tracker):
        say(note)
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
    wanted, lost, heard = {*records}, set[str](), set[str]()
    try:
        while True:
            for note in planned.notes:
                if note not in heard:
                    say(note)
            heard |= {*planned.notes}
            lost |= {*planned.lost}
            # What cannot be read may be what the sweep chooses by.
            if command and not (more or lost):
                command.pending_file(root).unlink(missing_ok=True)
            jobs = [job for job in planned.jobs if job.id not in records]
            wanted |= {job.id for job in jobs}
            events = sweeps.execute(
                planned._replace(jobs=jobs), executor, how.time_limit, how.tracker,
                keep_weights=how.weights,
            )  # fmt: skip
            for event in shown(events, jobs):
                records[event.job.id] = event.record
            # What comes next is chosen from what came: not from half of it.
            if not (make and more) or not all(r.is_result for r in records.values()):
                return Made(records, len(lost))
            specs = make(root)
            planned = _planned(specs, root, executor, command)
            # A run that stood finished is news as well: more may follow from it.
            news = {job.id for job in planned.jobs} | {r.id for r in planned.finished}
            more = not (isinstance(specs, Settled) or news <= records.keys())
            records |= {record.id: record for record in planned.finished}
            wanted |= news
    except KeyboardInterrupt:
        # What a worker wrote as the interruption came stands, though nothing was heard of it.
        done = sum(record.id in wanted for record in results(root))
        runs = counted(len(wanted) + len(lost), "run is", "runs are")
        again = _again(root, executor, command if more or lost else None)
        raise KeyboardInterrupt(
            f"interrupted: {done} of {runs} finished; for the rest: {again}"
        ) from None


def _again(root: Path, executor: Executor, command: Command | None) -> str:
    """What to type after an interruption; a sweep that chooses needs its own command."""
    if isinstance(executor, ThisProcess):
        return "the same call again"
    again = command.again(root) if command else f"rulekeep resume {pasted(root)}"
    if isinstance(executor, DaskExecutor):
        again += " with the same --executor and --scheduler (without them, on this machine)"
    return again


def _planned(
    specs: Sequence[AnySpec], root: Path, executor: Executor, command: Command | None
) -> planning.Plan:
    # A cluster's workers may have what this machine has not.
    for spec in () if isinstance(executor, DaskExecutor) else specs:
        if isinstance(spec, (RunSpec, LanguageSpec)):
            check_device(spec.device)
    return planning.plan(specs, root, command)

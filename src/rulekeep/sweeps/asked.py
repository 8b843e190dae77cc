"""What a sweep is asked for: which runs, and how and where they are made.

A sweep is a function that returns specs. One with an argument chooses by the records of the folder
so far, and is called until it asks for nothing more.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, field_validator

from rulekeep.executors import DaskExecutor, Executor, LocalExecutor
from rulekeep.records.store import results
from rulekeep.registry import failure_line, find_function
from rulekeep.running.building import own_options_first
from rulekeep.specs import MODEL, AnySpec, Spec, UsageError, choose, mixer_specs
from rulekeep.specs.base import between_commas
from rulekeep.sweeps.presets import PRESET_TASKS, PRESETS

# The specs of a sweep, where some of its folder may be made already.
Make: TypeAlias = Callable[[Path], Sequence[AnySpec]]


class Settled(list[AnySpec]):
    """The specs of a sweep that has chosen: whatever its records will say, no more follow."""


class How(Spec, strict=False, use_attribute_docstrings=True):
    """How runs are made."""

    time_limit: float | None = Field(default=None, gt=0)
    """Seconds after which a run is stopped; loading a plug-in does not count."""
    tracker: str = ""
    """What hears of a run's figures as they come, file.py or file.py:function; see docs/runs.md."""
    weights: bool = True
    """Keep the trained weights beside the record: rulekeep test needs them."""


class Where(Spec, strict=False, use_attribute_docstrings=True):
    """Where runs are made."""

    executor: Literal["local", "dask"] = "local"
    """local: processes on this machine; dask: a Dask cluster."""
    workers: int | None = Field(default=None, ge=1)
    """Runs side by side on this machine; as many as there are cores if left out."""
    scheduler: str | None = None
    """Address of the Dask scheduler, as in tcp://10.0.0.1:8786."""
    resources: str | None = None
    """What a run asks of a Dask worker, as in GPU=1."""

    def made(self) -> Executor:
        """The executor."""
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


class Grid(Spec, strict=False, use_attribute_docstrings=True):
    """What a preset may be told instead of its own."""

    seeds: tuple[int, ...] | None = None
    """For a preset, the seeds to run, between commas."""
    tasks: tuple[str, ...] | None = None
    """For a preset, those of its tasks to run, between commas."""
    learning_rates: tuple[float, ...] | None = None
    """For presets that choose learning rates, those to choose from, between commas."""
    test_contexts: tuple[int, ...] | None = None
    """For a preset, the lengths in tokens to test at beside the shortest, between commas."""
    tuning_seeds: int | None = None
    """For presets that choose learning rates, the number of seeds that choose."""

    _texts = field_validator("seeds", "tasks", "learning_rates", "test_contexts", mode="before")(
        between_commas
    )

    @property
    def given(self) -> dict[str, Any]:
        """What was said, by name."""
        return self.model_dump(exclude_none=True)


def grid_of(what: str, mixers: str | None, asked: Grid) -> tuple[Make, bool]:
    """What makes the specs of a preset or FILE.py:function, and whether it chooses by records."""
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

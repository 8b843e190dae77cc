"""Where jobs run: they go in, and their outcomes come out as they finish, in any order."""

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from rulekeep.registry import failure_place
from rulekeep.specs import UsageError


class RunFailedError(RuntimeError):
    """A run left no result: how it ended, and why, in one line."""


# How the reason of a failure begins that the user can mend.
USAGE = f"{UsageError.__name__}: "
Progress: TypeAlias = Callable[[int], None]
# A step, and figures of it by name.
Log: TypeAlias = Callable[[int, Mapping[str, float]], None]
# A job's function gets the job and a callback for the number of steps it has done. It must
# be importable by name: other processes run it. As `module:function` they alone import it.
JobFunction: TypeAlias = Callable[[Any, Progress], Any] | str


class Started(NamedTuple):
    """A job starts, for the `start`-th time: what ran it before was lost."""

    job: Any
    start: int = 1


class Advanced(NamedTuple):
    """A job has done this many steps so far."""

    job: Any
    steps: int


class Failure(NamedTuple):
    """Why a job has no result: a kind, one line for a reader, and the traceback if any."""

    status: Literal["failed", "killed", "out_of_memory", "timeout"]
    reason: str
    traceback: str = ""


class Finished(NamedTuple):
    """A job has ended, with a result or with a failure."""

    job: Any
    result: Any
    failure: Failure | None


class Executor(ABC):
    """Runs jobs that do not depend on each other."""

    def prepare(self) -> None:  # noqa: B027
        """Start what takes a while before the first job can run; optional."""

    @abstractmethod
    def run(
        self, function: JobFunction, jobs: Sequence[Any], time_limit: float | None = None
    ) -> Iterator[Started | Advanced | Finished]:
        """Start the jobs in this order and yield what happens, one `Finished` per job.

        A job that fails, whose process dies, or that takes longer than `time_limit` seconds ends
        alone. Closing the iterator, or an exception in its consumer, stops the jobs that still run.
        """

    def result(self, function: JobFunction, job: Any, heard: Progress) -> Any:
        """The result of one job; `heard` is called with its steps.

        Raises:
            UsageError: the job cannot be done.
            RunFailedError: its process failed.
        """
        self.prepare()
        for event in self.run(function, [job]):
            if isinstance(event, Advanced):
                heard(event.steps)
            elif isinstance(event, Finished):
                if event.failure is None:
                    return event.result
                if event.failure.reason.startswith(USAGE):
                    raise UsageError(event.failure.reason.removeprefix(USAGE))
                raise RunFailedError(f"{event.failure.status}: {event.failure.reason}")
        raise AssertionError("a job ends")


def failure_of(error: BaseException) -> Failure:
    """An exception as a failure, with its place if it comes from a user's code."""
    first_line = next(iter(str(error).strip().splitlines()), "")[:500]
    reason = f"{type(error).__name__}: {first_line}{failure_place(error)}"
    trace = "".join(traceback.format_exception(error))
    # torch raises a plain RuntimeError where a CPU has no memory left.
    no_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if no_memory or "can't allocate memory" in reason:
        return Failure("out_of_memory", reason, trace)
    return Failure("failed", reason, trace)

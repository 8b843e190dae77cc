"""Where runs happen: jobs go in, and outcomes come out as they finish, in any order."""

import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from rulekeep.specs import UsageError

# How the reason of a failure begins that the user can mend.
USAGE = f"{UsageError.__name__}: "
Progress: TypeAlias = Callable[[int], None]
# A job's function gets the job and a callback for the number of steps it has done. It must
# be importable by name: other processes run it.
JobFunction: TypeAlias = Callable[[Any, Progress], Any]


class Advanced(NamedTuple):
    """A job has done this many steps so far."""

    job: int
    steps: int


def unseen(folder: str, what: str) -> UsageError:
    """The error where a process of another machine does not see what the driver sees."""
    return UsageError(
        f"{folder}: the worker on {platform.node()} does not see {what}; put it where all nodes "
        "see it (docs/cluster.md)"
    )


class Started(NamedTuple):
    """A job starts, for the `start`-th time; at 0 what ran it was lost, and it waits to start."""

    job: int
    start: int


class Failure(NamedTuple):
    """Why a job has no result: a kind, one line for a reader, and the traceback if any."""

    status: Literal["failed", "killed", "out_of_memory", "timeout"]
    reason: str
    traceback: str


class Finished(NamedTuple):
    """A job has ended, with a result or with a failure."""

    job: int
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

"""Where runs happen: jobs go in, outcomes come out as they are finished, in any order."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

Progress: TypeAlias = Callable[[int], None]
# A job's function gets the job and a callback for the number of steps it has done. It must
# be importable by name: other processes run it.
JobFunction: TypeAlias = Callable[[Any, Progress], Any]


class Advanced(NamedTuple):
    """A job has done this many steps so far."""

    job: int
    steps: int


class Finished(NamedTuple):
    """A job has ended: with a result, or with the reason why there is none."""

    job: int
    result: Any
    error: str | None


class Executor(ABC):
    """Runs jobs that do not depend on each other."""

    @abstractmethod
    def run(self, function: JobFunction, jobs: Sequence[Any]) -> Iterator[Advanced | Finished]:
        """Starts the jobs in this order and yields what happens, one `Finished` a job.

        A job that fails, or whose process dies, ends alone. Closing the iterator, or an
        exception in its consumer, stops what still runs.
        """

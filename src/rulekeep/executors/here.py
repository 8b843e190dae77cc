"""Runs jobs in this process, one after another: for classes that no other process can import.

    executor_for(names, workers)    # other processes wherever possible

A class of a notebook exists in the process of the notebook alone. Threads, folder and other
settings that a job changes are restored after it.
"""

import sys
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, final

from rulekeep.executors.base import (
    Advanced,
    Executor,
    Finished,
    JobFunction,
    Started,
    failure_of,
)
from rulekeep.executors.local import LocalExecutor
from rulekeep.registry import held_class

_SAID_SECONDS = 30.0


def executor_for(names: Collection[str], workers: int | None = None) -> Executor:
    """An executor with its own processes, or this process if only it has one of these classes."""
    held = [name for name in names if held_class(name) is not None]
    return ThisProcess() if held else LocalExecutor(workers)


@final
class ThisProcess(Executor):
    """Runs jobs in the calling process: Ctrl-C ends one, and no time limit can."""

    def run(
        self, function: JobFunction, jobs: Sequence[Any], time_limit: float | None = None
    ) -> Iterator[Started | Advanced | Finished]:
        """As in `Executor.run`; steps are printed on standard error, since none can be yielded."""
        assert time_limit is None, "a class of this process cannot be stopped"
        for job in jobs:
            yield Started(job)
            try:
                with set_back():
                    called = resolve_name(function) if isinstance(function, str) else function
                    result = called(job, _Said())
            except Exception as error:
                yield Finished(job, None, failure_of(error))
            else:
                yield Finished(job, result, None)


class _Said:
    """Prints a step every 30 seconds: events cannot be yielded while a job runs."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _SAID_SECONDS

    def __call__(self, steps: int) -> None:
        if time.monotonic() > self._next:
            sys.stderr.write(f"step {steps}\n")
            self._next += _SAID_SECONDS


@contextmanager
def set_back() -> Iterator[None]:
    """Restore the settings of the process after the block."""
    # What trains has loaded it by now.
    import torch

    threads, written = torch.get_num_threads(), warnings.formatwarning
    try:
        with chdir(Path.cwd()):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        warnings.formatwarning = written

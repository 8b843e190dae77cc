"""Runs on this machine: one fresh process per job, as many at once as there are cores.

    job ─ pickled ─> process of the fork server ─ steps, then the outcome ─> pipe ─> events

Processes come from a fork server that has loaded torch and started no thread, so one costs little.
They do not get Ctrl-C, which is for the driver, and end when the driver does. Each has its own pipe
and shares nothing: a killed one harms no other.
"""

import gc
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from multiprocessing.connection import Connection, wait
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any, final

from rulekeep.executors.base import (
    Advanced,
    Executor,
    Failure,
    Finished,
    JobFunction,
    Started,
    failure_of,
)

# A training step frees and asks again for the same hundreds of megabytes. By default glibc
# gives them back to the system each time, and a third of a long step goes into fresh pages:
# keep them, in huge pages. Read by the C library when a process starts; others ignore it.
WORKER_ENVIRONMENT = {
    "GLIBC_TUNABLES": ":".join(
        [
            "glibc.malloc.hugetlb=1",
            "glibc.malloc.mmap_max=0",
            "glibc.malloc.trim_threshold=18446744073709551615",
            "glibc.malloc.top_pad=268435456",
        ]
    ),
    # numpy's library would start its threads as it is loaded, in the fork server.
    "OPENBLAS_NUM_THREADS": "1",
}
# What the fork server imports, once for all jobs.
PRELOADED = ["rulekeep.sweeps.preloaded"]
# In the environment of a job: its place among those that run at once, from 0.
SLOT = "RULEKEEP_SLOT"
# What is asked to end has this long for it.
GRACE_SECONDS = 5.0
# How often time limits, and whether the jobs are wanted still, are looked at.
_LOOK_SECONDS = 0.5
_start_lock = threading.Lock()


@final
class LocalExecutor(Executor):
    """Fresh processes here, `workers` at a time; as soon as `wanted` says no, they are stopped."""

    def __init__(
        self,
        workers: int | None = None,
        wanted: Callable[[], bool] = lambda: True,
        preloaded: Sequence[str] = PRELOADED,
    ) -> None:
        self.workers = workers or available_cores()
        self.preloaded = preloaded
        self.wanted = wanted

    def prepare(self) -> None:
        """Start the fork server, which loads torch while the caller does something else."""
        multiprocessing.get_context("forkserver").set_forkserver_preload([*self.preloaded])
        with self._starting():
            multiprocessing.forkserver.ensure_running()

    def run(
        self, function: JobFunction, jobs: Sequence[Any], time_limit: float | None = None
    ) -> Iterator[Started | Advanced | Finished]:
        if jobs:
            self.prepare()
        waiting, running = deque(jobs), list[_Worker]()
        try:
            while (waiting or running) and self.wanted():
                while waiting and len(running) < self.workers:
                    job = waiting.popleft()
                    # Ctrl-C waits meanwhile: no worker is started and then not known.
                    with self._starting():
                        free = {*range(self.workers)} - {one.slot for one in running}
                        running.append(_Worker(function, job, time_limit, min(free)))
                    yield Started(job)
                watched = [each for one in running for each in (one.reader, one.process.sentinel)]
                wait(watched, _LOOK_SECONDS)
                for worker in [*running]:
                    worker.stop_if_late()
                    has_ended = worker.process.exitcode is not None
                    for steps in worker.read():
                        yield Advanced(worker.job, steps)
                    if has_ended:
                        running.remove(worker)
                        yield worker.finished()
        finally:
            for worker in running:
                worker.process.terminate()
            until = time.monotonic() + GRACE_SECONDS
            for worker in running:
                worker.process.join(max(0.0, until - time.monotonic()))
                worker.process.kill()
                worker.process.join()

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """What is started inside has the workers' environment, and never hears Ctrl-C."""
        # Language models use as many threads as they may: side by side each has its share.
        share = {"OMP_NUM_THREADS": str(max(1, available_cores() // self.workers))}
        # The threads of a Dask worker start jobs too.
        with _start_lock:
            # Its own start would unblock the signal.
            multiprocessing.resource_tracker.ensure_running()
            unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            # The user's script is not run once more: it would ask for the same runs.
            script, environment = sys.modules["__main__"], dict(os.environ)
            sys.modules["__main__"] = ModuleType("__main__")
            os.environ.update({**share, **environment, **WORKER_ENVIRONMENT})
            try:
                yield
            finally:
                for name in (*share, *WORKER_ENVIRONMENT):
                    del os.environ[name]
                os.environ.update(environment)
                sys.modules["__main__"] = script
                signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


class _Worker:
    """The driver's handle on a job's process."""

    def __init__(
        self, function: JobFunction, job: Any, time_limit: float | None, slot: int
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        self.job, self.time_limit, self.slot = job, time_limit, slot
        self.reader, writer = context.Pipe(duplex=False)
        # As a daemon, so that no exit of the driver ever waits for it.
        self.process = context.Process(
            target=_work, args=(writer, function, job, slot), daemon=True
        )
        self._out_of_memory_kills = out_of_memory_kills()
        with writer:
            self.process.start()
        self._deadline = time.monotonic() + (inf if time_limit is None else time_limit)
        self._is_late = False
        self._outcome: tuple[Any, Failure | None] | None = None

    def stop_if_late(self) -> None:
        """Past its limit it is asked to end, and killed if it does not."""
        if time.monotonic() >= self._deadline:
            (self.process.kill if self._is_late else self.process.terminate)()
            self._is_late = True
            self._deadline = time.monotonic() + GRACE_SECONDS

    def read(self) -> Iterator[int]:
        """The steps that it has told; its outcome is kept."""
        with suppress(EOFError, ConnectionError):
            while self.reader.poll():
                message = self.reader.recv()
                if isinstance(message, int):
                    yield message
                else:
                    self._outcome = message

    def finished(self) -> Finished:
        """How it ended, once all is read."""
        self.reader.close()
        return Finished(self.job, *(self._outcome or (None, self._why_not())))

    def _why_not(self) -> Failure:
        code = self.process.exitcode
        assert code is not None, "asked for after its end"
        if self._is_late:
            return Failure("timeout", f"stopped after its limit of {self.time_limit:g} s")
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        if code == -signal.SIGKILL and out_of_memory_kills() > self._out_of_memory_kills:
            return Failure("out_of_memory", f"the system had no memory left: {cause}")
        return Failure("killed", f"its process ended by {cause}")


def _work(writer: Connection, function: JobFunction, job: Any, slot: int) -> None:
    os.environ[SLOT] = str(slot)
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    # What the fork server loaded is never garbage. It collects none while it loads.
    gc.freeze()
    gc.enable()
    # A plug-in may have processes of its own.
    multiprocessing.current_process().daemon = False

    def send(message: Any) -> None:
        # Without its driver it ends at once, and has nobody to tell.
        with suppress(BrokenPipeError):
            writer.send(message)

    try:
        called = resolve_name(function) if isinstance(function, str) else function
        send((called(job, send), None))
    # Early exits too: whatever ends a job is a failure of that job.
    except BaseException as error:
        send((None, failure_of(error)))
    sys.stdout.flush()
    sys.stderr.flush()
    # What a plug-in has left running, as a thread, is not waited for.
    os._exit(0)


def _end_with_the_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None, "runs in a process of an executor"
    wait([driver.sentinel])
    os._exit(1)


def available_cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def out_of_memory_kills() -> int:
    """How many processes the kernel has ended for lack of memory, if it counts them."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0

"""Runs on this machine: one fresh process a job, as many at once as there are cores.

Processes come from a fork server that has loaded torch and started no thread, so that one
costs little. They do not hear Ctrl-C, which is for the driver, and end when the driver does.
"""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import queue
import signal
import struct
import sys
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, final

from pebble import ProcessExpired, ProcessPool

from rulekeep.executors.base import Advanced, Executor, Failure, Finished, JobFunction
from rulekeep.executors.parent import die_with_parent

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
    )
}
_PRELOAD = ["rulekeep.executors.fork_server", "torch"]
_POLL_SECONDS = 0.1


@final
class LocalExecutor(Executor):
    """Fresh processes here, `workers` at a time."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or available_cores()

    def run(
        self, function: JobFunction, jobs: Sequence[Any], time_limit: float | None = None
    ) -> Iterator[Advanced | Finished]:
        """As in `Executor.run`."""
        if not jobs:
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        with _worker_environment(), _interrupts_blocked():
            multiprocessing.forkserver.ensure_running()
        reader, writer = context.Pipe(duplex=False)
        os.set_blocking(reader.fileno(), False)
        ended: queue.SimpleQueue[Finished] = queue.SimpleQueue()
        pool = ProcessPool(
            max_workers=min(self.workers, len(jobs)),
            max_tasks=1,
            initializer=_start_worker,
            initargs=(writer,),
            context=context,
        )

        def finish(number: int, future: Future[Any]) -> None:
            if not future.cancelled():
                error = future.exception()
                failure = _failure(error, time_limit) if error else None
                ended.put(Finished(number, None if error else future.result(), failure))

        try:
            for number, job in enumerate(jobs):
                future = pool.schedule(_run_job, (function, number, job), timeout=time_limit)
                future.add_done_callback(partial(finish, number))
            left = len(jobs)
            while left:
                yield from _news(reader.fileno())
                try:
                    event = ended.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    continue
                left -= 1
                yield event
        finally:
            pool.stop()
            pool.join()
            reader.close()
            writer.close()


def _failure(error: BaseException, time_limit: float | None) -> Failure:
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, ProcessExpired):
        number = -error.exitcode
        cause = f"signal {number}" if number > 0 else f"exit code {error.exitcode}"
        return Failure("killed", f"its process ended by {cause}", "")
    if isinstance(error, TimeoutError):
        return Failure("timeout", f"stopped after its limit of {time_limit:g} s", "")
    # torch raises a plain RuntimeError where a CPU has no memory left.
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return Failure("out_of_memory", text, trace)
    return Failure("failed", text, trace)


def available_cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# A message is one short write, which a pipe takes whole or not at all: no lock that a killed
# worker could keep. If the pipe is full, the news is dropped: it is for a progress bar only.
_MESSAGE = struct.Struct("<qq")
_writer: Any = None


def _news(descriptor: int) -> Iterator[Advanced]:
    while True:
        try:
            content = os.read(descriptor, 1024 * _MESSAGE.size)
        except BlockingIOError:
            return
        yield from map(Advanced._make, _MESSAGE.iter_unpack(content))


def _start_worker(writer: Any) -> None:
    global _writer
    _writer = writer
    os.set_blocking(writer.fileno(), False)
    die_with_parent()


def _run_job(function: JobFunction, number: int, job: Any) -> Any:
    def progress(steps: int) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(_writer.fileno(), _MESSAGE.pack(number, steps))

    return function(job, progress)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    # What is started inside inherits this: neither the fork server nor a worker hears Ctrl-C.
    # The resource tracker goes first: its start unblocks the signal.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _worker_environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

"""Runs on this machine: one fresh process a job, as many at once as there are cores.

Processes come from a fork server that has loaded torch and started no thread, so that one
costs little. They ignore Ctrl-C, which is for the driver, and end when the driver does.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import queue
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, final

from pebble import ProcessPool

from rulekeep.executors.base import Advanced, Executor, Finished, JobFunction
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
_PRELOAD = ["rulekeep.executors.fork_server", "torch", "numpy", "rulekeep.article.cell"]
_POLL_SECONDS = 0.1


@final
class LocalExecutor(Executor):
    """Fresh processes here, `workers` at a time."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or available_cores()

    def run(self, function: JobFunction, jobs: Sequence[Any]) -> Iterator[Advanced | Finished]:
        """As in `Executor.run`."""
        if not jobs:
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        with _worker_environment():
            multiprocessing.forkserver.ensure_running()
        news: multiprocessing.SimpleQueue[Advanced] = context.SimpleQueue()
        events: queue.SimpleQueue[Finished] = queue.SimpleQueue()
        pool = ProcessPool(
            max_workers=min(self.workers, len(jobs)),
            max_tasks=1,
            initializer=_start_worker,
            initargs=(news,),
            context=context,
        )

        def finish(number: int, future: Future[Any]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                events.put(Finished(number, future.result(), None))
            else:
                events.put(Finished(number, None, f"{type(error).__name__}: {error}"))

        try:
            for number, job in enumerate(jobs):
                future = pool.schedule(_run_job, args=(function, number, job))
                future.add_done_callback(partial(finish, number))
            left = len(jobs)
            while left:
                while not news.empty():
                    yield news.get()
                try:
                    event = events.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    continue
                left -= 1
                yield event
        finally:
            pool.stop()
            pool.join()


def available_cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_news: Any = None


def _start_worker(news: Any) -> None:
    global _news
    _news = news
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def _run_job(function: JobFunction, number: int, job: Any) -> Any:
    return function(job, lambda steps: _news.put(Advanced(number, steps)))


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

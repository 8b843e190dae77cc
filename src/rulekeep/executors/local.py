"""Runs on this machine: one fresh process per job, as many at once as there are cores.

Processes come from a fork server that has loaded torch and started no thread, so one costs little.
They do not get Ctrl-C, which is for the driver, and end when the driver does. Each has its own pipe
and shares nothing: a killed one harms no other.
"""

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import pickle
import signal
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from types import ModuleType
from typing import Any, final

from rulekeep.executors.base import Advanced, Executor, Failure, Finished, JobFunction, Started
from rulekeep.executors.worker import Worker, failure_of
from rulekeep.mixers import MIXERS
from rulekeep.specs import UsageError
from rulekeep.tasks import TASKS

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
# All that a run needs, so that only a plug-in is imported again for each.
PRELOADED = [
    "rulekeep.executors.fork_server",
    # The code as it stands now: what is loaded here is what each run says it was made by.
    "rulekeep.records.provenance",
    "torch",
    # The first optimizer loads it: a second and more of every run.
    "torch._dynamo",
    "rulekeep.executors.worker",
    "rulekeep.sweeps.job",
    "rulekeep.running.run",
    "rulekeep.running.predicting",
    "rulekeep.article.cell",
    *map(MIXERS.module, MIXERS),
    *map(TASKS.module, TASKS),
]
_STARTS, _START_SECONDS = 10, 0.1
# A job that was started this often and lost its fork server each time is given up.
_LOST_STARTS = 3
# A socket's name may have so many bytes: 104 on macOS, 108 on Linux, with a zero at its end.
_SOCKET_BYTES = 103
# What multiprocessing puts behind the folder for temporary files.
_SHORT_FOLDERS = ("/tmp", "/var/tmp")
_SOCKET_NAME = "/pymp-xxxxxxxx/listener-xxxxxxxx"


@final
class LocalExecutor(Executor):
    """Fresh processes here, `workers` at a time."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or available_cores()

    def prepare(self) -> None:
        """Start the fork server, which loads torch while the caller does something else.

        Raises:
            UsageError: no folder for temporary files can hold its socket.
        """
        _make_socket_folder()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        with _starting():
            multiprocessing.forkserver.ensure_running()

    def run(
        self, function: JobFunction, jobs: Sequence[Any], time_limit: float | None = None
    ) -> Iterator[Started | Advanced | Finished]:
        """As in `Executor.run`.

        If the fork server is lost, its running jobs are lost too. They start again one at a time,
        to find the one that kills it; that one is given up after a few starts.
        """
        if not jobs:
            return
        self.prepare()
        context = multiprocessing.get_context("forkserver")
        waiting, lost = deque(range(len(jobs))), deque[int]()
        starts: Counter[int] = Counter()
        running: list[Worker] = []
        try:
            while waiting or running or lost:
                if not (waiting or running):
                    waiting.append(lost.popleft())
                while waiting and len(running) < self.workers:
                    number = waiting.popleft()
                    starts[number] += 1
                    work = (function, jobs[number])
                    failure = _start(context, running, number, work, time_limit)
                    if failure is None:
                        yield Started(number, starts[number])
                    else:
                        yield Finished(number, None, failure)
                Worker.wait(running)
                for worker in list(running):
                    ended = worker.has_ended()
                    for steps in worker.news():
                        yield Advanced(worker.number, steps)
                    if not ended:
                        continue
                    running.remove(worker)
                    finished = worker.finished()
                    if not worker.is_lost:
                        yield finished
                    elif starts[worker.number] < _LOST_STARTS:
                        lost.append(worker.number)
                        yield Started(worker.number, 0)
                    else:
                        yield finished._replace(failure=_GIVEN_UP)
        finally:
            Worker.stop(running)


_GIVEN_UP = Failure(
    "killed",
    f"it took its fork server along each of the {_LOST_STARTS} times that it started, or ended by "
    "exit code 255",
    "",
)


def _start(
    context: ForkServerContext,
    running: list[Worker],
    number: int,
    work: tuple[JobFunction, Any],
    time_limit: float | None,
) -> Failure | None:
    """Add a worker to the running ones; why not, if it cannot be started."""
    try:
        content = pickle.dumps(work)
    except Exception as error:
        return failure_of(error)
    left = _STARTS
    while True:
        try:
            # Ctrl-C waits meanwhile: no worker is started and then not known.
            with _starting(hides_script=b"__main__" not in content):
                running.append(Worker(context, number, content, time_limit))
            return None
        except (OSError, EOFError) as error:
            # A fork server that was killed takes a moment to be known as dead.
            left -= 1
            if not left:
                return Failure("killed", f"its process could not be started: {error}", "")
            time.sleep(_START_SECONDS)


def _make_socket_folder() -> None:
    """Have multiprocessing make its folder at a path short enough for the name of a socket.

    Raises:
        UsageError: there is no such path.
    """
    before = tempfile.tempdir
    wanted = tempfile.gettempdir()
    for folder in (wanted, *_SHORT_FOLDERS):
        if len(os.fsencode(folder + _SOCKET_NAME)) <= _SOCKET_BYTES:
            try:
                # It makes its folder once, and keeps it.
                tempfile.tempdir = folder
                multiprocessing.util.get_temp_dir()
                return
            except OSError:
                continue
            finally:
                tempfile.tempdir = before
    raise UsageError(
        f"TMPDIR={wanted}: is too long for the name of a socket, and "
        f"{' and '.join(_SHORT_FOLDERS)} cannot be written; set TMPDIR to a short folder"
    )


def available_cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _starting(*, hides_script: bool = True) -> Iterator[None]:
    # What is started inside inherits this, the fork server above all, which is started again
    # if it was killed. Neither it nor a worker hears Ctrl-C. The resource tracker goes first:
    # its start unblocks the signal.
    multiprocessing.resource_tracker.ensure_running()
    # Nor does it run the user's script once more, which would ask for the same runs; but for a job
    # that is defined there.
    script = sys.modules["__main__"]
    if hides_script:
        sys.modules["__main__"] = ModuleType("__main__")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    found = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        yield
    finally:
        sys.modules["__main__"] = script
        for name, value in found.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

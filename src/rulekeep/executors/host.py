"""A process beside a Dask worker that runs one job after another, each in a fresh process.

A Dask worker is a daemon by default and may have no children, and a job must not end the worker. So
the worker starts this as a plain program and talks to it through a socket. It has a fork server
with torch loaded (see `local`), which serves one job after another. It ends with its worker, and
ends its job too.

The worker never unpickles a job or a result: plug-in code runs only in the process of the job.
"""

import os
import pickle
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple, final

from rulekeep.executors.base import Advanced, Failure, Finished, Progress, unseen
from rulekeep.executors.local import LocalExecutor

# A host without work ends after this; one is taken up again only well before.
_IDLE_SECONDS = 60.0
_REUSE_SECONDS = 30.0
_NEWS_SECONDS = 0.2
# A host that is killed cannot clear up: Python says so, and does it.
_QUIET = "ignore:resource_tracker"
# Dask sets it for its workers. It would undo what `local` asks of the C library.
_UNWANTED = "MALLOC_TRIM_THRESHOLD_"


class Order(NamedTuple):
    """A job to send: the pickled function and job, where to run it, and for how long."""

    content: bytes
    folder: str
    time_limit: float | None


class Ended(NamedTuple):
    """How a job ended: its pickled result, or its failure."""

    content: bytes | None
    failure: Failure | None


@final
class Host:
    """A worker's handle on its host process, for one job at a time."""

    def __init__(self) -> None:
        self.connection, other = Pipe()
        with other:
            self.process = subprocess.Popen(
                [sys.executable, "-W", _QUIET, "-c", _PROGRAM, str(other.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                # Ctrl-C is for the driver, also where it shares a terminal with its workers.
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if name != _UNWANTED},
            )
        self._free_since = time.monotonic()

    def is_usable(self) -> bool:
        """Whether another job can be sent."""
        recent = time.monotonic() - self._free_since < _REUSE_SECONDS
        return self.process.poll() is None and recent

    def send(self, order: Order) -> None:
        """Start a job; `receive` then tells how it goes."""
        self.connection.send(order)

    def receive(self, timeout: float) -> int | Ended | None:
        """What has happened: steps done, the end, or nothing within `timeout` seconds."""
        try:
            if not self.connection.poll(timeout):
                return None
            news: int | Ended = self.connection.recv()
        except (EOFError, ConnectionError):
            self.stop()
            code = self.process.returncode
            cause = f"signal {-code}" if code < 0 else f"exit code {code}"
            return Ended(None, Failure("killed", f"what started it ended by {cause}", ""))
        self._free_since = time.monotonic()
        return news

    def stop(self) -> None:
        """End the process, and its job."""
        # The job goes when the fork server goes, and that when this goes: see `local`.
        if not self.connection.closed:
            self.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


_PROGRAM = "import sys; from rulekeep.executors.host import serve; serve(int(sys.argv[1]))"


def serve(descriptor: int) -> None:
    """The host process: run what the worker sends, until it has sent nothing for a while."""
    executor = LocalExecutor(1)
    executor.prepare()
    orders = _Orders(Connection(descriptor))
    while (order := orders.next(_IDLE_SECONDS)) is not None:
        newest = 0.0
        for event in executor.run(_run_pickled, [order], order.time_limit):
            if isinstance(event, Finished):
                orders.connection.send(Ended(event.result, event.failure))
            elif isinstance(event, Advanced) and time.monotonic() - newest >= _NEWS_SECONDS:
                newest = time.monotonic()
                orders.connection.send(event.steps)


class _Orders:
    # A thread reads, so that the end of the worker is noticed while a job runs. What starts
    # processes is the main thread: the kernel takes the end of a thread for its parent's.
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._order: Order | None = None
        self._arrived = threading.Semaphore(0)
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, timeout: float) -> Order | None:
        return self._order if self._arrived.acquire(timeout=timeout) else None

    def _read(self) -> None:
        try:
            while True:
                self._order = self.connection.recv()
                self._arrived.release()
        except (EOFError, OSError):
            os._exit(0)


def _run_pickled(order: Order, progress: Progress) -> bytes:
    # Imported where it is needed: with Dask, which needs it as well.
    import cloudpickle

    # Relative paths mean here what they mean to the driver.
    try:
        os.chdir(order.folder)
    except FileNotFoundError:
        raise unseen(order.folder, "this working folder") from None
    function, job = pickle.loads(order.content)
    result: Any = function(job, progress)
    content: bytes = cloudpickle.dumps(result)
    return content

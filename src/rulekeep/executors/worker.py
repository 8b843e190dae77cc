"""One job in one process: the driver's handle on it, and what the process does.

A pipe joins them. Numbers of steps come through it in short writes that the pipe takes whole or not
at all. A full pipe drops them: they are for a progress bar only. At the end come the length of the
outcome, as a negative number, and the outcome.
"""

import gc
import math
import multiprocessing
import os
import pickle
import signal
import struct
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import final

from rulekeep.executors.base import Failure, Finished
from rulekeep.executors.parent import die_with_parent
from rulekeep.plugins import failure_place

_NUMBER = struct.Struct("<q")
# What is asked to end has this long for it.
GRACE_SECONDS = 5.0
_DAY_SECONDS = 86_400.0
# What multiprocessing says of a process whose fork server has not said how it ended.
_UNKNOWN = 255


@final
class Worker:
    """A driver's handle on a running job."""

    def __init__(
        self, context: ForkServerContext, number: int, work: bytes, time_limit: float | None
    ) -> None:
        self.number = number
        self._reader, writer = context.Pipe(duplex=False)
        os.set_blocking(self._reader.fileno(), False)
        # As a daemon, so that no exit of the driver ever waits for it.
        self._process = context.Process(target=_work, args=(writer, work), daemon=True)
        self._out_of_memory_kills = _out_of_memory_kills()
        with writer:
            self._process.start()
        self._limit = time_limit
        self._deadline = math.inf if time_limit is None else time.monotonic() + time_limit
        self._asked_to_end = self._overdue = False
        self._is_open = True
        self._received = bytearray()
        self._length: int | None = None
        self.is_lost = False

    @staticmethod
    def wait(workers: "Sequence[Worker]") -> None:
        """Wait until something has happened in one of them, or one exceeds its limit."""
        if workers:
            nearest = min(worker._deadline for worker in workers)
            # Asked again once a day: the system takes no more than 24 of them.
            timeout = min(_DAY_SECONDS, max(0.0, nearest - time.monotonic()))
            pipes = [worker._reader for worker in workers if worker._is_open]
            wait([*pipes, *(worker._process.sentinel for worker in workers)], timeout)

    @staticmethod
    def stop(workers: "Sequence[Worker]") -> None:
        """End them; what they are writing may finish for a while."""
        for worker in workers:
            worker._process.terminate()
        until = time.monotonic() + GRACE_SECONDS
        for worker in workers:
            worker._process.join(max(0.0, until - time.monotonic()))
            worker._close()

    def news(self) -> Iterator[int]:
        """Steps done, as they came."""
        while self._is_open:
            try:
                content = os.read(self._reader.fileno(), 2**16)
            except BlockingIOError:
                break
            self._received += content
            self._is_open = bool(content)
        while self._length is None and len(self._received) >= _NUMBER.size:
            (number,) = _NUMBER.unpack_from(self._received)
            del self._received[: _NUMBER.size]
            if number < 0:
                self._length = -number
                # What hangs after its work is done must not hold up the others.
                self._deadline = min(self._deadline, time.monotonic() + GRACE_SECONDS)
            else:
                yield number

    def has_ended(self) -> bool:
        """Whether it has ended; one over its limit is ended."""
        if self._process.exitcode is not None:
            return True
        if time.monotonic() >= self._deadline:
            if self._asked_to_end:
                self._process.kill()
            else:
                self._process.terminate()
            self._asked_to_end = self._overdue = True
            self._deadline = time.monotonic() + GRACE_SECONDS
        return False

    def finished(self) -> Finished:
        """How it ended, after its last news; `is_lost` if it went with its fork server."""
        code = self._process.exitcode
        assert code is not None, "asked for after its end"
        self.is_lost = code == _UNKNOWN and not (self._overdue or self._has_outcome())
        if self.is_lost and self._process.pid is not None:
            # It may have asked the kernel not to be ended with its fork server.
            with suppress(OSError):
                os.kill(self._process.pid, signal.SIGKILL)
        self._close()
        if self._has_outcome():
            result, failure = pickle.loads(self._received)
            return Finished(self.number, result, failure)
        return Finished(self.number, None, self._why(code))

    def _why(self, code: int) -> Failure:
        if self._overdue:
            # Without one it is the grace after its work that it has overrun.
            limit = (
                "its work was done" if self._limit is None else f"its limit of {self._limit:g} s"
            )
            return Failure("timeout", f"stopped after {limit}", "")
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        if code == -9 and _out_of_memory_kills() > self._out_of_memory_kills:
            return Failure("out_of_memory", f"the system had no memory left: {cause}", "")
        return Failure("killed", f"its process ended by {cause}", "")

    def _has_outcome(self) -> bool:
        return self._length is not None and len(self._received) >= self._length

    def _close(self) -> None:
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._process.close()
        self._reader.close()


def failure_of(error: BaseException) -> Failure:
    """An exception as a failure, with its place if it comes from a user's code."""
    try:
        said = str(error).strip().splitlines()
    # A plug-in's own exception may be broken as well.
    except Exception:
        said = ["its message cannot be shown"]
    reason = f"{type(error).__name__}: {said[0][:500] if said else ''}{failure_place(error)}"
    trace = "".join(traceback.format_exception(error))
    # torch raises a plain RuntimeError where a CPU has no memory left.
    no_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if no_memory or "can't allocate memory" in reason:
        return Failure("out_of_memory", reason, trace)
    return Failure("failed", reason, trace)


def _out_of_memory_kills() -> int:
    """How many processes the kernel has ended for lack of memory, if it counts them."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0


def _work(writer: Connection, work: bytes) -> None:
    """The work of the process."""
    die_with_parent()
    driver = multiprocessing.parent_process()
    if driver is None or not driver.is_alive():
        # It went before we asked to go with it.
        os._exit(1)
    # What the fork server loaded is never garbage. It collects none while it loads.
    gc.freeze()
    gc.enable()
    # A plug-in may have processes of its own.
    multiprocessing.current_process().daemon = False
    descriptor = writer.fileno()
    os.set_blocking(descriptor, False)

    def progress(steps: int) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(descriptor, _NUMBER.pack(steps))

    try:
        function, job = pickle.loads(work)
        outcome = pickle.dumps((function(job, progress), None))
    # Early exits too: whatever ends a job is a failure of that job.
    except BaseException as error:
        outcome = pickle.dumps((None, failure_of(error)))
    os.set_blocking(descriptor, True)
    with suppress(BrokenPipeError), open(descriptor, "wb", closefd=False) as file:
        file.write(_NUMBER.pack(-len(outcome)) + outcome)

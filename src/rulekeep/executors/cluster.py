"""Runs on a Dask cluster, wherever Dask deploys workers: Slurm, PBS, Kubernetes.

Each job is a Dask task that runs the local executor: a fresh process beside the Dask worker, with
the environment and the bits of a run here. Dask gives the jobs of a lost worker to another one. A
cancelled job is stopped. The package `distributed` is needed, on the workers too; `docs/cluster.md`
shows a cluster.
"""

import logging
import multiprocessing
import os
import platform
import queue
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any, final

from rulekeep.executors.base import (
    Advanced,
    Executor,
    Failure,
    Finished,
    JobFunction,
    Started,
    failure_of,
)
from rulekeep.executors.local import LocalExecutor
from rulekeep.specs import UsageError

if TYPE_CHECKING:
    from distributed import Client, Future

_CONNECT_SECONDS = 5
_POLL_SECONDS = 0.1
# How often the scheduler is asked whether a worker can take the jobs.
_LOOK_SECONDS = 10.0


class ClusterWarning(UserWarning):
    """A condition of the cluster that a reader of the results should know."""


@final
class DaskExecutor(Executor):
    """Fresh processes beside the workers of the Dask cluster with this scheduler.

    Args:
        scheduler: its address, as `tcp://10.0.0.1:8786`.
        resources: what each job takes of the resources of its worker, as `{"GPU": 1}`.

    Raises:
        UsageError: Dask is not installed, or no scheduler answers there.
    """

    def __init__(self, scheduler: str, resources: dict[str, float] | None = None) -> None:
        self.scheduler, self.resources = scheduler, dict(resources or {})
        with self._connected():
            pass

    def run(
        self, function: JobFunction, jobs: Sequence[Any], time_limit: float | None = None
    ) -> Iterator[Started | Advanced | Finished]:
        """As in `Executor.run`.

        A job whose worker is lost starts again elsewhere, as often as Dask allows. If the scheduler
        is lost, every job without a result ends as killed.
        """
        # A future that has ended, or what a worker says of a job: its number, and steps or None.
        news: queue.SimpleQueue[Future[Any] | tuple[int, Any]] = queue.SimpleQueue()
        starts: Counter[int] = Counter()
        lost = Failure("killed", f"lost with its scheduler {self.scheduler}, or cancelled there")
        told = set[str]()
        with self._connected() as client:
            topic = f"rulekeep-{uuid.uuid4().hex}"
            client.subscribe_topic(topic, lambda event: news.put(tuple(event[1])))
            futures = {
                client.submit(
                    _run_there, function, job, time_limit, topic, number,
                    key=f"{topic}-{number}", priority=-number, resources=self.resources or None,
                ): number
                for number, job in enumerate(jobs)
            }  # fmt: skip
            for future in futures:
                future.add_done_callback(news.put)
            looked = time.monotonic()
            try:
                while futures:
                    # With a timeout: a wait without one would not hear Ctrl-C on every system.
                    try:
                        latest = news.get(timeout=_POLL_SECONDS)
                    except queue.Empty:
                        if client.status != "running":
                            for number in futures.values():
                                yield Finished(jobs[number], None, lost)
                            return
                        if not starts and time.monotonic() - looked > _LOOK_SECONDS:
                            looked = time.monotonic()
                            told |= _warned(self._lacking(client), told)
                        continue
                    if not isinstance(latest, tuple):
                        job = jobs[futures.pop(latest)]
                        yield Finished(job, *_outcome(latest, lost))
                    elif latest[0] not in futures.values():
                        # Said by another way than its end, which was faster.
                        continue
                    elif isinstance(latest[1], int):
                        yield Advanced(jobs[latest[0]], latest[1])
                    else:
                        starts[latest[0]] += 1
                        yield Started(jobs[latest[0]], starts[latest[0]])
                        told |= _warned(_difference(latest[1]), told)
            finally:
                client.cancel(list(futures), force=True)

    @contextmanager
    def _connected(self) -> "Iterator[Client]":
        try:
            from distributed import Client
            from distributed.comm.addressing import get_address_host_port
        except ImportError:
            raise UsageError(
                "the cluster executor needs Dask, which is not installed: "
                "pip install 'rulekeep[dask]'"
            ) from None
        # What Dask logs of a lost scheduler, at length, is told in a line as a failure or an error.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            # Without one, a client would start a cluster of its own.
            get_address_host_port(self.scheduler)
            client = Client(self.scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"scheduler {self.scheduler!a}: no Dask scheduler answers there within "
                f"{_CONNECT_SECONDS} s; give what `dask scheduler` prints, tcp://HOST:PORT"
            ) from error
        try:
            yield client
        finally:
            client.close(timeout=_CONNECT_SECONDS)

    def _lacking(self, client: "Client") -> str:
        """Why no worker can take a job; nothing if one can."""
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        if any(
            all(worker["resources"].get(name, 0) >= n for name, n in self.resources.items())
            for worker in workers
        ):
            return ""
        asked = ",".join(f"{name}={amount:g}" for name, amount in self.resources.items())
        offers = f" that offers {asked}" if asked else ""
        return f"waiting for a worker{offers} at {self.scheduler}"


def _outcome(future: "Future[Any]", lost: Failure) -> tuple[Any, Failure | None]:
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()  # type: ignore[no-any-return]
    except CancelledError:
        return None, lost
    except KilledWorker as error:
        return None, Failure("killed", f"its Dask worker was lost each time: {error}")
    except Exception as error:
        return None, failure_of(error)


def _warned(line: str, told: set[str]) -> set[str]:
    """Warn of this, once; what is told by then."""
    if line and line not in told:
        warnings.warn(line, ClusterWarning, stacklevel=3)
    return {line}


def _versions() -> dict[str, str]:
    # Without the build, such as +cpu.
    packages = {name: metadata.version(name).partition("+")[0] for name in ("rulekeep", "torch")}
    return {"python": platform.python_version(), **packages}


def _difference(theirs: dict[str, str]) -> str:
    pairs = [
        f"{name} {theirs[name]} instead of {version}"
        for name, version in _versions().items()
        if theirs[name] != version
    ]
    return f"a worker runs {', '.join(pairs)}: its figures may differ" if pairs else ""


def _run_there(
    function: JobFunction, job: Any, time_limit: float | None, topic: str, number: int
) -> tuple[Any, Failure | None]:
    from distributed import Reschedule, get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        # Dask tells a thread nothing: a task that is no more wanted is cancelled in its state.
        task = worker.state.tasks.get(key)
        runs = worker.status.name in ("running", "paused")
        return runs and task is not None and task.state != "cancelled"

    # A Dask worker is a daemon by default, which may start no process.
    multiprocessing.current_process().daemon = False
    # Dask sets it for its workers. It would undo what `local` asks of the C library.
    os.environ.pop("MALLOC_TRIM_THRESHOLD_", None)
    worker.log_event(topic, [number, _versions()])
    for event in LocalExecutor(1, wanted).run(function, [job], time_limit):
        if isinstance(event, Advanced):
            worker.log_event(topic, [number, event.steps])
        if isinstance(event, Finished):
            return event.result, event.failure
    # Cancelled, or on a worker that leaves: Dask sends it elsewhere if need be.
    raise Reschedule

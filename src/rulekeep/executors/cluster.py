"""Runs on a Dask cluster, wherever Dask deploys workers: Slurm, PBS, Kubernetes.

Each job is a Dask task. A host process beside the worker runs it in a fresh process (see `host`).
So a job hangs, leaks or dies alone, with the environment and the bits of a local run. Dask gives
the jobs of a lost worker to another one. The package `distributed` is needed, on the workers too;
`docs/cluster.md` shows a cluster.
"""

import logging
import platform
import queue
import time
import traceback
import uuid
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, final

from rulekeep.executors.base import Advanced, Executor, Failure, Finished, JobFunction, Started
from rulekeep.executors.host import Ended, Host, Order
from rulekeep.specs import UsageError

if TYPE_CHECKING:
    from distributed import Client, Future

_CONNECT_SECONDS = 5
_POLL_SECONDS = 0.1
# How often the scheduler is asked who is there.
_LOOK_SECONDS = 10.0
# A job that was started this often and lost its worker each time is given up.
_STARTS = 3
_TOPIC = "rulekeep"
_COMPARED = ("rulekeep", "torch")

# What the driver waits for: the number of a job whose task has ended, or a worker's message.
_News: TypeAlias = int | Mapping[str, Any]


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
        self.scheduler = scheduler
        self.resources = dict(resources or {})
        for name, amount in self.resources.items():
            if not amount > 0:
                raise UsageError(f"resource {name}={amount}: must be more than 0")
        with _connected(scheduler):
            pass

    def run(
        self, function: JobFunction, jobs: Sequence[Any], time_limit: float | None = None
    ) -> Iterator[Started | Advanced | Finished]:
        """As in `Executor.run`; relative paths are relative to the driver's folder.

        A job whose worker is lost starts again elsewhere, a few times at most. If the scheduler is
        lost, every job without a result ends as killed.
        """
        if not jobs:
            return
        with ExitStack() as stack:
            try:
                client = stack.enter_context(_connected(self.scheduler))
            except UsageError:
                # It answered when this executor was made.
                for number in range(len(jobs)):
                    yield Finished(number, None, _lost(self.scheduler))
                return
            sweep = _Sweep(self, client, function, jobs, time_limit)
            try:
                yield from sweep.events()
            finally:
                sweep.cancel()


class _Sweep:
    # The driver's side of one `run`: a future for each job that has not ended.
    def __init__(
        self,
        executor: DaskExecutor,
        client: "Client",
        function: JobFunction,
        jobs: Sequence[Any],
        time_limit: float | None,
    ) -> None:
        self.executor = executor
        self.client = client
        self.function = function
        self.jobs = jobs
        self.time_limit = time_limit
        self.folder = str(Path.cwd())
        self.name = uuid.uuid4().hex
        self.news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self.starts: Counter[int] = Counter()
        # The address of the worker that has the job.
        self.places: dict[int, str] = {}
        self.lacking = ""
        self.submitted: Counter[int] = Counter()
        self.futures: dict[int, Future[Ended]] = {}

    def events(self) -> Iterator[Started | Advanced | Finished]:
        self.client.subscribe_topic(_TOPIC, self._hear)
        for number in range(len(self.jobs)):
            self._submit(number)
        told: set[str] = set()
        looks = 0.0
        while self.futures:
            # With a timeout: a wait without one would not hear Ctrl-C on every system.
            try:
                latest = self.news.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self.client.status != "running":
                    yield from self._all_lost()
                elif time.monotonic() >= looks:
                    yield from self._look()
                    looks = time.monotonic() + _LOOK_SECONDS
                continue
            if isinstance(latest, int):
                if latest not in self.futures:
                    continue
                if (finished := self._finished(latest)) is not None:
                    yield finished
            elif "steps" in latest:
                if latest["job"] in self.futures:
                    yield Advanced(latest["job"], latest["steps"])
            else:
                number = latest["job"]
                self.starts[number] += 1
                self.lacking = ""
                if number in self.futures:
                    self.places[number] = latest["worker"]
                    yield Started(number, self.starts[number])
                line = _difference(latest["versions"])
                if line and line not in told:
                    told.add(line)
                    warnings.warn(line, ClusterWarning, stacklevel=3)

    def _look(self) -> Iterator[Started]:
        # No message comes of a worker that was lost, or of one that is waited for.
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        lacking = _lacking(workers.values(), self.executor.scheduler, self.executor.resources)
        if lacking and lacking != self.lacking:
            # With the time, which parts it from an earlier one: no line is shown twice.
            line = f"{lacking}: waiting for one since {time.strftime('%H:%M:%S')}"
            warnings.warn(line, ClusterWarning, stacklevel=4)
        self.lacking = lacking
        for number, address in list(self.places.items()):
            if address not in workers:
                del self.places[number]
                yield Started(number, 0)

    def _all_lost(self) -> Iterator[Finished]:
        # What was submitted just as the scheduler was lost would be waited for in vain.
        for number in list(self.futures):
            del self.futures[number]
            yield Finished(number, None, _lost(self.executor.scheduler))

    def cancel(self) -> None:
        if self.futures:
            self.client.cancel(list(self.futures.values()), force=True)

    def _submit(self, number: int) -> None:
        import cloudpickle

        content = cloudpickle.dumps((self.function, self.jobs[number]))
        # Another key each time: that of a job that was lost while it waited is answered at once.
        self.submitted[number] += 1
        future: Future[Ended] = self.client.submit(
            _run_beside,
            Order(content, self.folder, self.time_limit),
            self.name,
            number,
            key=f"rulekeep-{self.name}-{number}-{self.submitted[number]}",
            priority=-number,
            resources=self.executor.resources or None,
        )
        self.futures[number] = future
        future.add_done_callback(lambda _: self.news.put(number))

    def _hear(self, event: tuple[float, Any]) -> None:
        _, message = event
        if message["sweep"] == self.name:
            self.news.put(message)

    def _finished(self, number: int) -> Finished | None:
        import cloudpickle
        from distributed import CancelledError, KilledWorker

        future = self.futures.pop(number)
        self.places.pop(number, None)
        try:
            ended = future.result()
            result = None if ended.content is None else cloudpickle.loads(ended.content)
            return Finished(number, result, ended.failure)
        except CancelledError:
            return Finished(number, None, _lost(self.executor.scheduler))
        except KilledWorker:
            starts = self.starts[number]
            if starts < _STARTS:
                # Dask counts losses of a worker against what only waited there, too.
                self._submit(number)
                return None
            reason = f"its Dask worker was lost each of the {starts} times that it started"
            return Finished(number, None, Failure("killed", reason, ""))
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            trace = "".join(traceback.format_exception(error))
            return Finished(number, None, Failure("failed", text, trace))
        finally:
            future.release()


def _lost(scheduler: str) -> Failure:
    return Failure("killed", f"lost with its scheduler {scheduler}, or cancelled there", "")


@contextmanager
def _connected(scheduler: str) -> "Iterator[Client]":
    try:
        from distributed import Client
        from distributed.comm.addressing import get_address_host_port
    except ImportError:
        raise UsageError(
            "the cluster executor needs Dask, which is not installed: pip install 'rulekeep[dask]'"
        ) from None
    try:
        # A client of a malformed address is half made, and closes with a traceback.
        get_address_host_port(scheduler)
    except ValueError as error:
        raise UsageError(
            f"scheduler {scheduler!a}: {error}; give what `dask scheduler` prints, tcp://HOST:PORT"
        ) from None
    # What Dask logs of a lost scheduler, at length, is told in a line as a failure or an error.
    logger = logging.getLogger("distributed.client")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        logger.setLevel(level)
        raise UsageError(
            f"scheduler {scheduler!a}: no Dask scheduler answers there within {_CONNECT_SECONDS} s"
            " (start one with `dask scheduler` and give the address it prints)"
        ) from error
    try:
        yield client
    finally:
        client.close(timeout=_CONNECT_SECONDS)
        logger.setLevel(level)


def _lacking(
    workers: Collection[Mapping[str, Any]], scheduler: str, resources: Mapping[str, float]
) -> str:
    """Why no worker can take a job; nothing if one can."""
    if not workers:
        return f"no worker is at {scheduler}"
    if any(
        all(worker["resources"].get(name, 0) >= amount for name, amount in resources.items())
        for worker in workers
    ):
        return ""
    asked = ",".join(f"{name}={amount:g}" for name, amount in resources.items())
    return f"no worker at {scheduler} offers {asked}"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _COMPARED:
        try:
            # Without the build, such as +cpu.
            found[package] = metadata.version(package).partition("+")[0]
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def _difference(theirs: Mapping[str, str]) -> str:
    pairs = [
        f"{name} {theirs[name]} instead of {version}"
        for name, version in _versions().items()
        if theirs[name] != version
    ]
    return f"a worker runs {', '.join(pairs)}: its figures may differ" if pairs else ""


# What follows runs in a Dask worker.

_idle: list[Host] = []


def _run_beside(order: Order, sweep: str, number: int) -> Ended:
    from distributed import Reschedule, get_worker

    worker = get_worker()
    key = worker.get_current_task()
    begun = {"worker": worker.contact_address, "versions": _versions()}
    worker.log_event(_TOPIC, {"sweep": sweep, "job": number, **begun})
    host = _take_host()
    try:
        host.send(order)
        while not isinstance(news := host.receive(_POLL_SECONDS), Ended):
            if news is not None:
                worker.log_event(_TOPIC, {"sweep": sweep, "job": number, "steps": news})
            if not _is_wanted(worker, key):
                # Cancelled, or on a worker that leaves: Dask sends it elsewhere if need be.
                raise Reschedule
    except BaseException:
        host.stop()
        raise
    if host.is_usable():
        _idle.append(host)
    return news


def _take_host() -> Host:
    # The threads of a worker share them: one may find what another has taken.
    with suppress(IndexError):
        while not (host := _idle.pop()).is_usable():
            host.stop()
        return host
    return Host()


def _is_wanted(worker: Any, key: Any) -> bool:
    task = worker.state.tasks.get(key)
    runs = worker.status.name in ("running", "paused")
    return runs and task is not None and task.state != "cancelled"

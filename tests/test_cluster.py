"""The cluster executor on a real scheduler with two real workers, by the commands of Dask."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import tiny
from cluster_jobs import job
from distributed import Client
from tiny import alive, until

import rulekeep
from rulekeep.executors import (
    Advanced,
    ClusterWarning,
    DaskExecutor,
    Finished,
    LocalExecutor,
    Started,
    host,
)
from rulekeep.executors import cluster as cluster_module
from rulekeep.records.store import BusyError, RunFolder
from rulekeep.specs import RunSpec, UsageError
from rulekeep.sweeps import planning, sweep
from rulekeep.sweeps.job import MakeRun

pytestmark = pytest.mark.xdist_group("cluster")


class Cluster(NamedTuple):
    address: str
    scheduler: subprocess.Popen


@contextmanager
def command(name: str, log: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen]:
    path = [str(Path(__file__).parent), str(Path(rulekeep.__file__).parent.parent)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{name}", *options, "--no-dashboard"],
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment},
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(tiny.WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def cluster(folder: Path, *workers: tuple[str, ...]) -> Iterator[Cluster]:
    with ExitStack() as stack:
        log = folder / "scheduler.log"
        options = ("--host", "127.0.0.1", "--port", "0")
        # A job that loses every worker is given up sooner than by default.
        sooner = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
        scheduler = stack.enter_context(command("scheduler", log, *options, **sooner))
        address = until(lambda: re.search(r"tcp://127\.0\.0\.1:\d+", log.read_text()))[0]
        for number, more in enumerate(workers):
            own = ("--nthreads", "1", "--name", str(number), "--local-directory", str(folder))
            log = folder / f"worker-{number}.log"
            stack.enter_context(command("worker", log, address, *own, *more, WORKER=str(number)))
        for number in range(len(workers)):
            log = folder / f"worker-{number}.log"
            until(lambda log=log: "Registered to" in log.read_text())
        yield Cluster(address, scheduler)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster(tmp_path_factory.mktemp("dask"), (), ("--resources", "GPU=1")) as running:
        yield running.address


@pytest.fixture
def address(shared: str) -> str:
    # A worker that a test before has killed is started again by its nanny.
    with Client(shared, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=tiny.WAIT_SECONDS)
    return shared


def pids(folder: Path, kind: str) -> list[int]:
    return [int(path.name.removeprefix(f"{kind}-")) for path in folder.glob(f"{kind}-*")]


def finished(events: Iterator) -> dict[int, Finished]:
    ends = [event for event in events if isinstance(event, Finished)]
    assert len({event.job for event in ends}) == len(ends)
    return {event.job: event for event in ends}


def test_results_are_those_of_the_local_executor(address: str, tmp_path: Path) -> None:
    jobs = [("a", tmp_path), ("bb", tmp_path), ("ccc", tmp_path)]
    there = finished(DaskExecutor(address).run(job, jobs))
    here = finished(LocalExecutor(2).run(job, jobs))
    assert there == here
    assert [there[i].result[0] for i in range(3)] == ["a", "bb", "ccc"]


def test_a_sweep_there_leaves_the_bits_of_one_here(address: str, tmp_path: Path) -> None:
    specs = [tiny.tiny(mixer=mixer) for mixer in ("slots", "delta")]
    for name, executor in (("there", DaskExecutor(address)), ("here", LocalExecutor(2))):
        list(sweep.execute(planning.plan(specs, tmp_path / name), executor))
    there = tiny.timeless_records(tmp_path / "there")
    assert there == tiny.timeless_records(tmp_path / "here")
    assert [record["status"] for record in there.values()] == ["done"] * 2


# In a run: its fork server, what Dask's worker starts beside it, that worker.
LOSE_THE_WORKER = """
if not flag.exists():
    flag.touch()
    parent = lambda pid: int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[1])
    os.kill(parent(parent(os.getppid())), signal.SIGKILL)
    time.sleep(600)
"""


def grid(folder: Path, forward: str) -> list[str]:
    """The words of a command that sweeps two runs whose mixer does this."""
    return ["sweep", tiny.sweep_file(folder, flagged(folder, forward)), "--out", "runs"]


def flagged(folder: Path, forward: str) -> list[RunSpec]:
    mixer = tiny.plugin(folder, "mine", f"flag = Path({str(folder / 'flag')!r})", forward)
    return [tiny.tiny(mixer=mixer, seed=seed) for seed in (1, 2)]


@pytest.mark.skipif(sys.platform != "linux", reason="looks up its worker in /proc")
def test_the_command_gets_every_record_when_a_worker_is_killed_in_a_run(
    address: str, tmp_path: Path
) -> None:
    there = ["--executor", "dask", "--scheduler", address]
    done = tiny.rulekeep(*grid(tmp_path, LOSE_THE_WORKER), *there, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tiny.statuses(tmp_path / "runs") == ["done"] * 2
    records = tiny.records(tmp_path / "runs").values()
    assert sorted(record["attempt"] for record in records) == [1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="waits for locks that go with a process")
def test_a_killed_driver_leaves_no_run_behind_and_resume_makes_them(
    address: str, tmp_path: Path
) -> None:
    words = grid(tmp_path, "while flag.exists(): time.sleep(0.1)")
    (tmp_path / "flag").touch()
    there = ["--executor", "dask", "--scheduler", address]
    driver = tiny.start(*words, *there, cwd=tmp_path)
    begun = until(lambda: list(tmp_path.glob("runs/*/attempts")), driver)
    tiny.kill([driver.pid])
    driver.communicate()

    def is_free() -> bool:
        with suppress(BusyError), RunFolder(begun[0].parent).locked():
            return True
        return False

    # Long before what it waits for comes: the run has been ended.
    until(is_free)
    (tmp_path / "flag").unlink()
    done = tiny.rulekeep("resume", "runs", *there, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tiny.statuses(tmp_path / "runs") == ["done"] * 2


def test_a_job_that_raises_dies_or_hangs_ends_alone(address: str, tmp_path: Path) -> None:
    kinds = ["raise", "hang", "die", "a"]
    events = DaskExecutor(address).run(job, [(kind, tmp_path) for kind in kinds], time_limit=8)
    steps = []
    ends = finished(steps.append(e) if isinstance(e, Advanced) else e for e in events)
    assert [ends[i].failure and ends[i].failure.status for i in range(4)] == [
        "failed", "timeout", "killed", None,
    ]  # fmt: skip
    assert ends[0].failure.reason.startswith("ValueError: told to (")
    assert "in job" in ends[0].failure.traceback
    assert ends[1].failure.reason == "stopped after its limit of 8 s"
    assert ends[2].failure.reason == "its process ended by signal 9"
    assert Advanced(1, 1) in steps
    assert not any(map(alive, pids(tmp_path, "hang")))


# Whether no worker is left when it is looked, before the nanny has another, is a matter of time.
@pytest.mark.filterwarnings("ignore::rulekeep.executors.cluster.ClusterWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="looks up its worker in /proc")
def test_a_job_that_loses_every_worker_is_given_up(address: str, tmp_path: Path) -> None:
    ends = finished(DaskExecutor(address).run(job, [("lose the worker", tmp_path)]))
    assert ends[0].failure.status == "killed"
    assert re.search(r"lost each of the \d times that it started$", ends[0].failure.reason)


def test_a_job_goes_where_its_resources_are_and_runs_in_the_drivers_folder(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ends = finished(DaskExecutor(address, {"GPU": 1}).run(job, [("where", tmp_path)] * 3))
    assert [ends[i].result for i in range(3)] == [("1", str(tmp_path))] * 3


def test_a_resource_that_no_worker_offers_is_waited_for_and_said(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, waits = cluster_module._Sweep._look, threading.Event()

    def interrupt() -> None:
        # As a user would: not before it is said.
        if waits.wait(tiny.WAIT_SECONDS):
            os.kill(os.getpid(), signal.SIGINT)

    def looked(*arguments: object) -> Iterator[Started]:
        yield from look(*arguments)
        waits.set()

    monkeypatch.setattr(cluster_module._Sweep, "_look", looked)
    events = DaskExecutor(address, {"TPU": 2}).run(job, [("a", tmp_path)])
    threading.Thread(target=interrupt, daemon=True).start()
    # In this order: an interruption that goes through `warns` is not looked at there.
    with (
        pytest.warns(ClusterWarning, match="no worker .* offers TPU=2: waiting for one since"),
        pytest.raises(KeyboardInterrupt),
    ):
        next(events)


def test_a_job_without_its_worker_waits_and_each_time_nobody_is_left_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_module, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(cluster_module, "_POLL_SECONDS", 0.01)
    client = FakeClient()
    executor = SimpleNamespace(resources={}, scheduler="tcp://here:1")
    monkeypatch.setattr(cluster_module, "_versions", dict)
    one = cluster_module._Sweep(executor, client, abs, [1], None)
    events = one.events()

    def heard() -> Iterator[Started]:
        for worker in ("a", "b"):
            client.workers = {worker: {"resources": {}}}
            one.news.put({"job": 0, "worker": worker, "versions": {}})
            yield next(events)
            client.workers = {}
            yield next(events)

    with pytest.warns(ClusterWarning) as warned:
        assert [event.start for event in heard()] == [1, 0, 2, 0]
    said = r"no worker is at tcp://here:1: waiting for one since \d\d:\d\d:\d\d"
    assert [bool(re.fullmatch(said, str(line.message))) for line in warned] == [True] * 2


class FakeClient:
    """A cluster whose workers do nothing."""

    status = "running"
    workers: dict[str, dict]

    def subscribe_topic(self, *given: object) -> None: ...

    def add_done_callback(self, call: object) -> None: ...

    def submit(self, *given: object, **more: object) -> "FakeClient":
        return self

    def scheduler_info(self, n_workers: int) -> dict[str, dict]:
        return {"workers": self.workers}


def test_closing_ends_what_runs_and_what_waits(address: str, tmp_path: Path) -> None:
    events = DaskExecutor(address).run(job, [("hang", tmp_path)] * 6)
    until(lambda: isinstance(next(events), Advanced) and len(pids(tmp_path, "hang")) == 2)
    events.close()
    until(lambda: not any(map(alive, pids(tmp_path, "hang"))))
    assert len(pids(tmp_path, "hang")) == 2


def test_other_versions_at_the_workers_are_said_once(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {**cluster_module._versions(), "python": "3.99.0"}
    monkeypatch.setattr("rulekeep.executors.cluster._versions", lambda: own)
    said = r"^a worker runs python 3\.\S+ instead of 3\.99\.0: its figures may differ$"
    with pytest.warns(ClusterWarning, match=said) as warned:
        finished(DaskExecutor(address).run(job, [("a", tmp_path)] * 3))
    assert len(warned) == 1


def test_another_build_of_the_same_version_is_no_other_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = iter(["0.1", "2.15.0+cu132", "0.1", "2.15.0"])
    monkeypatch.setattr(cluster_module.metadata, "version", lambda _: next(versions))
    assert cluster_module._difference(cluster_module._versions()) == ""


def test_a_lost_scheduler_ends_every_run_as_killed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    held = "(flag.parent / f'in-{os.getpid()}').touch()\nwhile flag.exists(): time.sleep(0.1)"
    planned = planning.plan(flagged(tmp_path, held), tmp_path / "runs")
    (tmp_path / "flag").touch()
    with cluster(tmp_path, ("--no-nanny",)) as running:
        # It is known to have begun as soon as it waits.
        events = sweep.execute(planned, DaskExecutor(running.address))
        threading.Thread(
            target=lambda: until(lambda: pids(tmp_path, "in")) and running.scheduler.kill()
        ).start()
        records = [event.record for event in events if hasattr(event, "record")]
        until(lambda: not any(map(alive, pids(tmp_path, "in"))))
    reason = f"lost with its scheduler {running.address}, or cancelled there"
    assert [(record.status, record.reason) for record in records] == [("killed", reason)] * 2
    assert tiny.statuses(tmp_path / "runs") == ["killed"] * 2
    assert capfd.readouterr() == ("", "")


def test_a_scheduler_lost_before_a_job_is_sent_ends_every_job(tmp_path: Path) -> None:
    with cluster(tmp_path) as running:
        executor = DaskExecutor(running.address)
    ends = finished(executor.run(job, [("a", tmp_path)] * 2))
    assert [ends[i].failure.status for i in range(2)] == ["killed"] * 2
    assert running.address in ends[0].failure.reason


def test_a_worker_that_does_not_see_the_folders_of_the_sweep_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "far")
    monkeypatch.setattr("warnings.formatwarning", None)
    gone = tmp_path / "gone"
    fix = r"put it where all nodes see it \(docs/cluster\.md\)$"
    with pytest.raises(UsageError, match=f"^{gone}: the worker on far does not see .*; {fix}"):
        host._run_pickled(host.Order(b"", str(gone), None), print)
    # Not a line a run: they are told apart by their text.
    run = planning.Job(str(gone), "an id", "a run", 4)
    with pytest.raises(UsageError, match=f"^{gone}: the worker on far does not see .*; {fix}"):
        MakeRun("none", keep_weights=False)(run, print)


def test_a_scheduler_that_is_not_there_is_said_in_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        wrong = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"^scheduler '{wrong}': no Dask scheduler") as caught:
            DaskExecutor(wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["", "host", "host:port", "nonsense://host:1"])
def test_what_is_no_address_of_a_scheduler_is_refused_at_once(address: str) -> None:
    with pytest.raises(UsageError, match=r"give what `dask scheduler` prints, tcp://HOST:PORT$"):
        DaskExecutor(address)


def test_a_resource_must_be_more_than_nothing() -> None:
    with pytest.raises(UsageError, match="resource GPU=0: must be more than 0"):
        DaskExecutor("tcp://127.0.0.1:1", {"GPU": 0})


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'rulekeep\[dask\]'$"):
        DaskExecutor("tcp://127.0.0.1:8786")


def test_a_job_that_is_submitted_again_has_another_name() -> None:
    """By the old one Dask answers at once that it is lost, and so for ever."""
    keys = []

    class Remembers:
        def submit(self, *given: object, key: str, **more: object) -> "Remembers":
            keys.append(key)
            return self

        def add_done_callback(self, call: object) -> None: ...

    executor = SimpleNamespace(resources={})
    sent = cluster_module._Sweep(executor, Remembers(), abs, [1], None)
    for _ in range(2):
        sent._submit(0)
    assert len(set(keys)) == 2
    assert sent.starts[0] == 0

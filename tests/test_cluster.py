"""The cluster executor on a real scheduler with two real workers, by the commands of Dask."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import tiny
from cluster_jobs import job
from distributed import Client
from tiny import alive, until

import rulekeep
from rulekeep.executors import (
    Advanced,
    DaskExecutor,
    Finished,
    LocalExecutor,
)
from rulekeep.specs import RunSpec, UsageError
from rulekeep.sweeps import making, planning

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


def finished(events: Iterator) -> dict[str, Finished]:
    ends = [event for event in events if isinstance(event, Finished)]
    assert len({event.job for event in ends}) == len(ends)
    return {event.job[0]: event for event in ends}


def test_the_commands_of_the_page_leave_the_bits_of_a_sweep_here(
    address: str, tmp_path: Path
) -> None:
    specs = [tiny.tiny(mixer=mixer) for mixer in ("slots", "delta")]
    words = ["sweep", tiny.sweep_file(tmp_path, specs), "--executor", "dask", "--out", "there"]
    done = tiny.rulekeep(*words, "--scheduler", address, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    list(making.execute(planning.plan(specs, tmp_path / "here"), LocalExecutor(2)))
    there = tiny.timeless_records(tmp_path / "there")
    assert there == tiny.timeless_records(tmp_path / "here")
    assert [record["status"] for record in there.values()] == ["done"] * 2


# In one run of those that begin: its fork server, and the Dask worker that started it.
LOSE_THE_WORKER = """
with contextlib.suppress(FileExistsError):
    flag.touch(exist_ok=False)
    parent = lambda pid: int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[1])
    os.kill(parent(os.getppid()), signal.SIGKILL)
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


def test_a_job_that_raises_dies_or_hangs_ends_alone(address: str, tmp_path: Path) -> None:
    kinds = ["raise", "hang", "die", "a"]
    events = DaskExecutor(address).run(job, [(kind, tmp_path) for kind in kinds], time_limit=8)
    steps = []
    ends = finished(steps.append(e) if isinstance(e, Advanced) else e for e in events)
    assert [ends[kind].failure and ends[kind].failure.status for kind in kinds] == [
        "failed", "timeout", "killed", None,
    ]  # fmt: skip
    assert ends["raise"].failure.reason.startswith("ValueError: told to (")
    assert ends["hang"].failure.reason == "stopped after its limit of 8 s"
    assert ends["die"].failure.reason == "its process ended by signal 9"
    assert "mmap_max=0" in ends["a"].result[1]
    assert Advanced(("hang", tmp_path), 1) in steps
    assert not any(map(alive, pids(tmp_path, "hang")))


@pytest.mark.skipif(sys.platform != "linux", reason="looks up its worker in /proc")
def test_a_job_that_loses_every_worker_is_given_up(address: str, tmp_path: Path) -> None:
    (end,) = finished(DaskExecutor(address).run(job, [("lose the worker", tmp_path)])).values()
    assert end.failure.status == "killed"
    assert end.failure.reason.startswith("its Dask worker was lost each time: ")


def test_a_job_goes_where_its_resources_are(address: str, tmp_path: Path) -> None:
    there = DaskExecutor(address, {"GPU": 1})
    (end,) = finished(there.run(job, [("where", tmp_path)])).values()
    assert end.result == "1"


def test_closing_ends_what_runs_and_what_waits(address: str, tmp_path: Path) -> None:
    events = DaskExecutor(address).run(job, [("hang", tmp_path)] * 6)
    until(lambda: isinstance(next(events), Advanced) and len(pids(tmp_path, "hang")) == 2)
    events.close()
    until(lambda: not any(map(alive, pids(tmp_path, "hang"))))
    assert len(pids(tmp_path, "hang")) == 2


@pytest.mark.parametrize("address", ["", "host:port", "nonsense://host:1", "a free port"])
def test_a_scheduler_that_is_not_there_is_said_in_one_line(address: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        wrong = address.replace("a free port", f"tcp://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(UsageError, match=f"^scheduler '{wrong}': no Dask scheduler") as caught:
            DaskExecutor(wrong)
    assert "\n" not in str(caught.value)

"""The local executor with fakes: jobs that finish, fail, die, or are waited for in vain."""

import multiprocessing.forkserver
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from executor_jobs import job
from tiny import alive, until

from rulekeep.executors import Advanced, Finished, LocalExecutor, Started, local, worker
from rulekeep.specs import UsageError

# A fork server that is up soon, for jobs that need no more.
LIGHT = ["rulekeep.executors.fork_server"]


def finished(jobs: list, workers: int = 2) -> dict[int, Finished]:
    events = list(LocalExecutor(workers).run(job, jobs))
    ends = [event for event in events if isinstance(event, Finished)]
    assert sorted(event.job for event in ends) == list(range(len(jobs)))
    assert all(isinstance(event, (Started, Advanced, Finished)) for event in events)
    return {event.job: event for event in ends}


def test_every_job_runs_once_in_a_fresh_process_with_the_workers_environment() -> None:
    ends = finished(["a", "b", "c"])
    assert [ends[i].result[0] for i in range(3)] == ["a", "b", "c"]
    assert len({ends[i].result[1] for i in range(3)} | {os.getpid()}) == 4
    assert all("mmap_max=0" in ends[i].result[2] for i in range(3))
    assert "mmap_max=0" not in os.environ.get("GLIBC_TUNABLES", "")


def test_a_job_that_fails_or_dies_ends_alone() -> None:
    ends = finished(["raise", "a", "die", "b"])
    assert ends[0].failure.status == "failed"
    assert ends[0].failure.reason.startswith("ValueError: told to (")
    assert "in job" in ends[0].failure.traceback
    assert ends[2].failure.status == "killed"
    assert ends[2].failure.reason == "its process ended by signal 9"
    assert [ends[i].result[0] for i in (1, 3)] == ["a", "b"]


def test_jobs_over_their_time_limit_are_stopped_or_killed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "GRACE_SECONDS", 0.5)
    events = LocalExecutor(2).run(job, ["hang", "stubborn", "a", "b"], time_limit=8)
    ends = {event.job: event for event in events if isinstance(event, Finished)}
    assert {ends[i].failure.status for i in (0, 1)} == {"timeout"}
    assert ends[0].failure.reason == "stopped after its limit of 8 s"
    assert [ends[i].result[0] for i in (2, 3)] == ["a", "b"]


def test_memory_that_cannot_be_had_is_told_apart() -> None:
    failure = finished(["greedy"])[0].failure
    assert failure.status == "out_of_memory"
    assert "\n" not in failure.reason


def test_news_of_progress_arrives_in_order_and_is_never_waited_for() -> None:
    events = list(LocalExecutor(1).run(job, ["talkative"]))
    steps = [event.steps for event in events if isinstance(event, Advanced)]
    assert steps == sorted(steps)
    assert len(steps) > 1000


def test_whatever_ends_a_job_is_said_in_one_line() -> None:
    ends = finished(["exits", "cannot say why", "unsendable", lambda: None])
    said = [ends[i].failure.reason for i in range(4)]
    expected = ["SystemExit: told to", "UnspeakableError: its message cannot be shown"]
    assert [line.partition(" (executor_jobs.py, line")[0] for line in said[:2]] == expected
    assert all("<lambda>" in line for line in said[2:])
    assert all("\n" not in line for line in said)
    assert {ends[i].failure.status for i in range(4)} == {"failed"}


def test_a_result_of_any_size_comes_through() -> None:
    assert finished(["large"])[0].result == "x" * 2**22


def test_a_job_whose_process_lingers_after_its_work_has_its_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "GRACE_SECONDS", 0.5)
    assert finished(["lingers"])[0].result[0] == "lingers"


def test_a_kill_by_the_system_for_want_of_memory_is_told_from_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kills = iter([7, 8])
    monkeypatch.setattr(worker, "_out_of_memory_kills", lambda: next(kills))
    failure = finished(["die"])[0].failure
    assert failure.status == "out_of_memory"
    assert failure.reason == "the system had no memory left: signal 9"


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A control group that the kernel gives 64 MiB."""
    limits = {"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"}
    for root, limit in limits.items():
        group = Path(root) / f"rulekeep-test-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            try:
                if (group / limit).exists():
                    (group / limit).write_text(str(2**26))
                    yield group
                    return
            finally:
                group.rmdir()
    pytest.skip("no control group for memory can be made: needs root")


def test_a_process_that_the_kernel_ends_for_want_of_memory_ends_alone(small_memory: Path) -> None:
    ends = finished([f"eats in {small_memory}", "a"])
    assert ends[0].failure.status == "out_of_memory"
    assert ends[0].failure.reason == "the system had no memory left: signal 9"
    assert ends[1].result[0] == "a"


@pytest.mark.skipif(sys.platform != "linux", reason="workers follow the fork server on Linux only")
def test_a_job_that_kills_its_fork_server_is_given_up_and_costs_no_other_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "PRELOADED", LIGHT)
    kills = f"lose the fork server and outlive it in {tmp_path}"
    ends = finished([kills, f"hang once in {tmp_path}", "a"])
    assert ends[0].failure.status == "killed"
    assert ends[0].failure.reason.startswith("it took its fork server along each of the 3 times")
    assert ends[1].failure is None
    assert ends[2].result[0] == "a"
    pids = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    assert len(pids) == 3
    until(lambda: not any(map(alive, pids)))
    # The next test gets one that has loaded more.
    multiprocessing.forkserver._forkserver._stop()


def test_a_long_tmpdir_holds_up_no_job(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    code = (
        "from rulekeep.executors import LocalExecutor, local\n"
        "if __name__ == '__main__':\n"
        "    local.PRELOADED.clear()\n"
        "    *_, end = LocalExecutor(1).run(divmod, [7])\n"
        "    print(end.failure.reason)\n"
    )
    script = tmp_path / "driver.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # The job has run: it is no job that can.
    assert done.stdout.startswith("TypeError: "), done.stderr


def test_a_tmpdir_without_a_short_folder_beside_it_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "_SHORT_FOLDERS", ())
    monkeypatch.setattr(local.tempfile, "tempdir", "/" + "long" * 30)
    with pytest.raises(UsageError, match=r"^TMPDIR=/long.*; set TMPDIR to a short folder$"):
        LocalExecutor(1).prepare()
    assert local.tempfile.tempdir == "/" + "long" * 30


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_job_begins_with_one_thread_and_all_modules_loaded() -> None:
    assert finished(["threads"])[0].result == 1


def test_a_job_collects_garbage_though_its_fork_server_does_not() -> None:
    assert finished(["collects"])[0].result is True


def test_no_job_is_no_event() -> None:
    assert list(LocalExecutor(2).run(job, [])) == []


@pytest.mark.skipif(sys.platform != "linux", reason="workers follow their driver on Linux only")
def test_workers_do_not_outlive_their_driver(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        textwrap.dedent("""
        import os, time
        from pathlib import Path
        from rulekeep.executors import LocalExecutor, local

        def sleep(folder, progress):
            (Path(folder) / f"pid-{os.getpid()}").touch()
            time.sleep(600)

        if __name__ == "__main__":
            local.PRELOADED[1:] = []  # The job only sleeps.
            list(LocalExecutor(2).run(sleep, [os.environ["FOLDER"]] * 2))
        """)
    )
    driver = subprocess.Popen([sys.executable, script], env={**os.environ, "FOLDER": str(tmp_path)})
    until(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
    driver.kill()
    driver.wait()
    pids = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    until(lambda: not any(map(alive, pids)))


def test_a_limit_of_a_month_is_waited_for() -> None:
    *_, end = LocalExecutor(1).run(job, ["a"], time_limit=30 * 24 * 3600)
    assert (end.failure, end.result[0]) == (None, "a")


def test_what_hangs_after_its_work_is_said_so_without_a_limit() -> None:
    overdue = object.__new__(worker.Worker)
    overdue._overdue, overdue._limit = True, None
    assert overdue._why(-9).reason == "stopped after its work was done"

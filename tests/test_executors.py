"""The local executor with fakes: jobs that finish, fail, die, or are waited for in vain."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from executor_jobs import job
from tiny import alive, until

from rulekeep.executors import Advanced, Finished, LocalExecutor, Started, local


def finished(jobs: list[str], limit: float | None = None) -> dict[str, Finished]:
    events = list(LocalExecutor(2).run(job, jobs, limit))
    ends = [event for event in events if isinstance(event, Finished)]
    assert sorted(event.job for event in ends) == sorted(jobs)
    assert all(isinstance(event, (Started, Advanced, Finished)) for event in events)
    return {event.job: event for event in ends}


def test_every_job_runs_once_in_a_fresh_process_with_the_workers_environment() -> None:
    ends = finished(["a", "b", "large", "lingers"])
    assert ends["large"].result == "x" * 2**22
    assert [ends[name].result[0] for name in ("a", "b", "lingers")] == ["a", "b", "lingers"]
    assert len({ends[name].result[1] for name in ("a", "b", "lingers")} | {os.getpid()}) == 4
    assert "mmap_max=0" in ends["a"].result[2]
    assert "mmap_max=0" not in os.environ.get("GLIBC_TUNABLES", "")


@pytest.mark.parametrize("given", [None, "3"])
def test_workers_share_the_cores_unless_the_user_says_how_many_threads(given: str | None) -> None:
    words = "LocalExecutor(2, preloaded=[]).result('os:getenv', 'OMP_NUM_THREADS', print)"
    code = f"from rulekeep.executors import LocalExecutor; print({words})"
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": given} if given else {}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout.decode().strip() == (given or str(max(1, local.available_cores() // 2)))


def test_a_job_that_fails_or_dies_ends_alone_and_is_said_in_one_line() -> None:
    ends = finished(["raise", "a", "die", "exits", "unsendable", "greedy", "b"])
    said = {name: end.failure for name, end in ends.items() if end.failure}
    assert {name: failure.status for name, failure in said.items()} == {
        "raise": "failed", "die": "killed", "exits": "failed", "unsendable": "failed",
        "greedy": "out_of_memory",
    }  # fmt: skip
    assert said["raise"].reason.startswith("ValueError: told to (executor_jobs.py, line")
    assert "in job" in said["raise"].traceback
    assert said["die"].reason == "its process ended by signal 9"
    assert said["exits"].reason.startswith("SystemExit: told to (")
    assert not any("\n" in failure.reason for failure in said.values())


def test_jobs_over_their_time_limit_are_stopped_or_killed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "GRACE_SECONDS", 0.5)
    ends = finished(["hang", "stubborn", "a", "b"], limit=8)
    assert {ends[name].failure.status for name in ("hang", "stubborn")} == {"timeout"}
    assert ends["hang"].failure.reason == "stopped after its limit of 8 s"
    assert [ends[name].result[0] for name in ("a", "b")] == ["a", "b"]


def pids(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


def test_what_is_closed_or_no_more_wanted_is_stopped(tmp_path: Path) -> None:
    hang = f"hang in {tmp_path}"
    events = LocalExecutor(2).run(job, [hang] * 3)
    until(lambda: next(events) and len(pids(tmp_path)) == 2)
    events.close()
    assert not any(map(alive, pids(tmp_path)))
    unwanted = LocalExecutor(2, wanted=lambda: len(pids(tmp_path)) < 4)
    assert not [event for event in unwanted.run(job, [hang] * 3) if isinstance(event, Finished)]
    assert len(pids(tmp_path)) == 4
    assert not any(map(alive, pids(tmp_path)))


@pytest.mark.skipif(sys.platform != "linux", reason="looks up processes in /proc")
def test_workers_do_not_outlive_their_driver_and_run_its_script_once(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from executor_jobs import job\n"
        "from rulekeep.executors import LocalExecutor, local\n"
        "local.PRELOADED.clear()\n"
        f"list(LocalExecutor(2).run(job, ['hang in {tmp_path}'] * 2))\n"
    )
    driver = subprocess.Popen([sys.executable, script])
    until(lambda: len(pids(tmp_path)) == 2, driver)
    driver.kill()
    driver.wait()
    until(lambda: not any(map(alive, pids(tmp_path))))


def test_jobs_that_run_at_once_have_slots_of_their_own() -> None:
    slots = list[int]()
    jobs = [f"slot {n}" for n in range(5)]
    for event in LocalExecutor(2).run(job, jobs):
        if isinstance(event, Finished):
            slots.append(int(event.result))
    assert {*slots} == {0, 1}

"""The local executor with fakes: jobs that finish, fail, die, or are waited for in vain."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from rulekeep.executors import Advanced, Finished, LocalExecutor


def job(value, progress):
    progress(1)
    if value == "raise":
        raise ValueError("told to")
    if value == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if value == "hang":
        time.sleep(600)
    if value == "greedy":
        torch.empty(2**60, dtype=torch.uint8)
    if value == "talkative":
        for steps in range(2, 100_000):
            progress(steps)
        return value
    progress(2)
    return value, os.getpid(), os.environ.get("GLIBC_TUNABLES")


def finished(jobs: list, workers: int = 2) -> dict[int, Finished]:
    events = list(LocalExecutor(workers).run(job, jobs))
    ends = [event for event in events if isinstance(event, Finished)]
    assert sorted(event.job for event in ends) == list(range(len(jobs)))
    assert all(isinstance(event, (Advanced, Finished)) for event in events)
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
    assert ends[0].failure.reason == "ValueError: told to"
    assert "in job" in ends[0].failure.traceback
    assert ends[2].failure.status == "killed"
    assert ends[2].failure.reason == "its process ended by signal 9"
    assert [ends[i].result[0] for i in (1, 3)] == ["a", "b"]


def test_a_job_over_its_time_limit_is_stopped_and_the_others_go_on() -> None:
    events = list(LocalExecutor(2).run(job, ["hang", "a", "b"], time_limit=8))
    ends = {event.job: event for event in events if isinstance(event, Finished)}
    assert ends[0].failure.status == "timeout"
    assert ends[0].failure.reason == "stopped after its limit of 8 s"
    assert [ends[i].result[0] for i in (1, 2)] == ["a", "b"]


def test_memory_that_cannot_be_had_is_told_apart() -> None:
    failure = finished(["greedy"])[0].failure
    assert failure.status == "out_of_memory"
    assert "\n" not in failure.reason


def test_news_of_progress_arrives_in_order_and_is_never_waited_for() -> None:
    events = list(LocalExecutor(1).run(job, ["talkative"]))
    steps = [event.steps for event in events if isinstance(event, Advanced)]
    assert steps == sorted(steps)
    assert len(steps) > 1000


def test_no_job_is_no_event() -> None:
    assert list(LocalExecutor(2).run(job, [])) == []


@pytest.mark.skipif(sys.platform != "linux", reason="workers follow their driver on Linux only")
def test_workers_do_not_outlive_their_driver(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        textwrap.dedent("""
        import os, time
        from pathlib import Path
        from rulekeep.executors import LocalExecutor

        def sleep(folder, progress):
            (Path(folder) / f"pid-{os.getpid()}").touch()
            time.sleep(120)

        if __name__ == "__main__":
            list(LocalExecutor(2).run(sleep, [os.environ["FOLDER"]] * 2))
        """)
    )
    driver = subprocess.Popen([sys.executable, script], env={**os.environ, "FOLDER": str(tmp_path)})
    deadline = time.monotonic() + 60
    while len(found := list(tmp_path.glob("pid-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    pids = [int(path.name.removeprefix("pid-")) for path in found]
    driver.kill()
    driver.wait()
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(pids) == 2
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False

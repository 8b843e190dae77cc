"""Runs whose process is lost, or that another process holds: each ends with a word."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny

from rulekeep.executors import Executor, Failure, Finished, LocalExecutor
from rulekeep.records.store import RunFolder
from rulekeep.sweeps import sweep

HOLD = (
    "import sys; from pathlib import Path; from rulekeep.records.store import RunFolder\n"
    "with RunFolder(Path(sys.argv[1])).locked(): print(flush=True); sys.stdin.readline()"
)
KILLED = Failure("killed", "lost with its scheduler", "")


class Fake(Executor):
    """Ends every job so, and says how often it was asked."""

    def __init__(self, result: object, failure: Failure | None) -> None:
        self.result, self.failure, self.asked = result, failure, 0

    def run(self, function, jobs, time_limit=None):
        self.asked += 1
        assert self.asked < 5, "started again and again"
        for number in range(len(jobs)):
            yield Finished(number, self.result, self.failure)


@contextmanager
def held(folder: RunFolder) -> Iterator[subprocess.Popen]:
    """Another process has the run until it reads a line."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder.path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout.readline() == "\n"
        yield other
        other.stdin.close()


@pytest.mark.skipif(sys.platform != "linux", reason="workers follow the fork server on Linux only")
def test_a_run_that_kills_its_fork_server_is_recorded_after_three_starts(tmp_path: Path) -> None:
    mixer = tiny.plugin(tmp_path, "kills", forward="os.kill(os.getppid(), 9)\ntime.sleep(600)")
    planned = sweep.plan([tiny.tiny(mixer=mixer), tiny.tiny()], tmp_path / "runs")
    events = list(sweep.execute(planned, LocalExecutor(1), time_limit=100))
    records = {event.job.id: event.record for event in events if hasattr(event, "record")}
    killed, done = (records[job.id] for job in planned.jobs)
    assert [killed.status, killed.attempt, done.status] == ["killed", 3, "done"]
    assert killed.reason.startswith("it took its fork server along each of the 3 times")
    assert not [event for event in events if isinstance(event, sweep.JobAwaited)]


def test_a_lost_run_that_is_held_for_a_while_is_recorded_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_LET_GO_SECONDS", 0.3)
    planned = sweep.plan([tiny.tiny()], tmp_path)
    executor = Fake(None, KILLED)
    with held(RunFolder(tmp_path / planned.jobs[0].id)) as other:
        events = sweep.execute(planned, executor)
        assert isinstance(next(events), sweep.JobAwaited)
        other.communicate("\n")
        (ended,) = events
    assert [ended.record.status, ended.record.reason] == ["killed", KILLED.reason]
    assert RunFolder(tmp_path / planned.jobs[0].id).load() == ended.record
    assert executor.asked == 1


def test_a_run_that_another_process_holds_past_the_limit_is_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(sweep, "_LET_GO_SECONDS", 0.1)
    planned = sweep.plan([tiny.tiny()], tmp_path)
    folder = RunFolder(tmp_path / planned.jobs[0].id)
    with held(folder):
        awaited, ended = sweep.execute(planned, Fake("busy", None), time_limit=0.5)
    assert isinstance(awaited, sweep.JobAwaited)
    assert ended.record.status == "timeout"
    assert ended.record.reason == ("another process has held it for longer than the limit of 0.5 s")
    # It is that process's to record.
    assert folder.load() is None

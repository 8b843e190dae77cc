"""Sweeps that are killed, interrupted, shared and planned anew."""

import os
import signal
from pathlib import Path

import pytest
import tiny
from tiny import made, plugin, rulekeep, start, sweep_file, until, workers

from rulekeep.commands import runs
from rulekeep.mixers import GRU
from rulekeep.records.store import Record, RunFolder
from rulekeep.sweeps import job, planning

GRID = [tiny.tiny(seed=seed, mixer=mixer) for seed in (1, 2) for mixer in ("gru", "attention")]
IN_A_WORKER = (
    "import multiprocessing\nfrom rulekeep.records import store\nfrom rulekeep.sweeps import job\n"
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    root = tmp_path_factory.mktemp("uninterrupted")
    made(GRID, root)
    return tiny.timeless_records(root)


def attempts(root: Path) -> dict[str, int]:
    return {path.parent.name: int(path.read_text()) for path in root.glob("*/attempts")}


@pytest.mark.core
def test_a_run_that_is_planned_with_other_versions_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (planned,) = planning.plan([tiny.tiny()], tmp_path / "runs").jobs
    monkeypatch.setattr(GRU, "version", 2)
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(tmp_path / "runs" / planned.id)
    with pytest.raises(planning.FormerVersionError, match=r"planned with gru 1 \(here 2\)$"):
        job._make(folder, lambda _: None, "none")
    assert not folder.record.exists()


def test_a_killed_worker_loses_its_own_run_and_resume_makes_it(
    tmp_path: Path, uninterrupted: dict[str, Record]
) -> None:
    file = sweep_file(tmp_path, GRID)
    driver = start("sweep", file, "--out", "runs", "--workers", "1", cwd=tmp_path)
    # Before that, what runs there tries the sweep's file.
    until(lambda: any((tmp_path / "runs").glob("*/plan.json")), driver)
    os.kill(until(lambda: workers(driver), driver)[0], signal.SIGKILL)
    _, errors = driver.communicate(timeout=tiny.WAIT_SECONDS)
    assert driver.returncode == 1
    assert tiny.statuses(tmp_path / "runs") == ["done", "done", "done", "killed"]
    assert "killed: its process ended by signal 9" in errors
    done = rulekeep("resume", "runs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 of 4 runs stand finished" in done.stderr
    assert tiny.timeless_records(tmp_path / "runs") == uninterrupted
    assert sorted(attempts(tmp_path / "runs").values()) in ([1, 1, 1, 1], [1, 1, 1, 2])


def test_a_killed_driver_takes_its_workers_and_resume_does_the_rest_once(
    tmp_path: Path, uninterrupted: dict[str, Record]
) -> None:
    hold, inside = tmp_path / "hold", tmp_path / "inside"
    top = f"{IN_A_WORKER}hold, inside = Path({str(hold)!r}), Path({str(inside)!r})"
    forward = """
    if multiprocessing.parent_process() and hold.exists():
        inside.touch()
        while hold.exists():
            time.sleep(0.01)
    """
    # A run that ends only once it is let: its worker does not end by itself.
    long = tiny.tiny(mixer=plugin(tmp_path, "long", top, forward))
    file = sweep_file(tmp_path, [GRID[0], long, *GRID[1:]])
    root = tmp_path / "runs"
    hold.touch()
    driver = start("sweep", file, "--out", "runs", "--workers", "1", cwd=tmp_path)
    try:
        until(inside.exists, driver)
        running = workers(driver)
        assert running
        driver.kill()
        until(lambda: not any(map(tiny.command_line, running)))
    finally:
        hold.unlink()
    driver.communicate()
    stood = {name: root / name / "record.json" for name in tiny.records(root)}
    assert list(stood) == [planning.identity(GRID[0])]
    written = {name: path.stat().st_mtime_ns for name, path in stood.items()}
    assert rulekeep("resume", "runs", cwd=tmp_path).returncode == 0
    assert {name: path.stat().st_mtime_ns for name, path in stood.items()} == written
    assert {attempts(root)[name] for name in stood} == {1}
    made = tiny.timeless_records(root)
    assert made.pop(planning.identity(long))["status"] == "done"
    assert made == uninterrupted


def test_ctrl_c_finishes_writing_and_resume_does_the_rest(tmp_path: Path) -> None:
    top = (
        f"{IN_A_WORKER}fsync, folder = os.fsync, Path({str(tmp_path)!r})\n"
        "def slowly(descriptor):\n"
        "    (folder / 'writing').touch()\n"
        "    while not (folder / 'interrupted').exists(): time.sleep(0.01)\n"
        "    time.sleep(1)\n"
        "    fsync(descriptor)\n"
        "if multiprocessing.parent_process():\n"
        "    store.os.fsync = slowly\n"
    )
    slow = tiny.tiny(mixer=plugin(tmp_path, "slow", top))
    file = sweep_file(tmp_path, [slow, *GRID])
    options = ("--out", "my runs", "--workers", "1", "--no-weights")
    driver = start("sweep", file, *options, cwd=tmp_path)
    until((tmp_path / "writing").exists, driver)
    os.killpg(driver.pid, signal.SIGINT)
    (tmp_path / "interrupted").touch()
    out, errors = driver.communicate(timeout=tiny.WAIT_SECONDS)
    assert driver.returncode == 130
    assert out == ""
    # Its line was not heard any more, but what was written counts.
    assert errors.splitlines()[-1] == (
        "interrupted: 1 of 5 runs are finished; for the rest: rulekeep resume 'my runs'"
    )
    assert "Traceback" not in errors
    (record,) = tiny.records(tmp_path / "my runs").values()
    assert record["spec"]["mixer"] == slow.mixer
    done = rulekeep("resume", "my runs", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 5 runs stand finished" in done.stderr
    assert tiny.statuses(tmp_path / "my runs") == ["done"] * 5


def test_two_drivers_on_one_folder_make_each_run_once(
    tmp_path: Path, uninterrupted: dict[str, Record]
) -> None:
    file = sweep_file(tmp_path, GRID)
    drivers = [
        start("sweep", file, "--out", "runs", "--workers", "1", cwd=tmp_path) for _ in range(2)
    ]
    ends = [driver.communicate(timeout=tiny.WAIT_SECONDS) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], ends
    assert all("(4 of 4 runs finished)" in out for out, _ in ends)
    assert set(attempts(tmp_path / "runs").values()) == {1}
    assert tiny.timeless_records(tmp_path / "runs") == uninterrupted


ASKING = """
from rulekeep.specs import RunSpec


def sweep(records):
    return [RunSpec(seed=seed, **{values}) for seed in range(1, min(3, len(records) + 1) + 1)]
"""


PLAIN = """
import random

from rulekeep.specs import RunSpec


def sweep():
    return [RunSpec(seed=1, **{values})]
"""


def test_a_sweep_that_chooses_by_its_records_goes_on_by_its_own_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = GRID[0].model_dump(mode="json", exclude={"seed"}, exclude_defaults=True)
    (tmp_path / "asking.py").write_text(ASKING.format(values=values))
    monkeypatch.chdir(tmp_path)

    def interrupted(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("rulekeep.sweeps.making.execute", interrupted)
        with pytest.raises(KeyboardInterrupt) as ended:
            runs.sweep("asking.py", out="runs", where=runs.Where(workers=1))
    again = "rulekeep sweep asking.py --out runs"
    assert str(ended.value).endswith(f"for the rest: {again}")
    # What was planned is made, and what would follow is said.
    done = rulekeep("resume", "runs", cwd=tmp_path)
    assert done.returncode == 0
    said = "more may be asked for by a sweep that planned these runs: "
    assert f"{said}{again}\n" in done.stderr
    # Another sweep of the folder leaves its word alone.
    (tmp_path / "one.py").write_text(PLAIN.format(values=values))
    assert rulekeep("sweep", "one.py", "--out", "runs", cwd=tmp_path).returncode == 0
    assert len(list((tmp_path / "runs").glob("*.pending"))) == 1
    assert len(tiny.records(tmp_path / "runs")) == 1
    done = rulekeep(*again.split()[1:], cwd=tmp_path)
    assert "(3 of 3 runs finished)" in done.stdout
    # Asked for in full, it leaves no word of itself.
    assert said not in rulekeep("resume", "runs", cwd=tmp_path).stderr
    assert not list((tmp_path / "runs").glob("*.pending"))

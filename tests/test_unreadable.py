"""A record that the disk does not give costs its own run only; who only reads renames nothing."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from report_records import record as made_up
from report_records import typed

from rulekeep.records.store import read_runs, write_record
from rulekeep.reporting.write import write_report
from rulekeep.sweeps import planning

SPECS = [tiny.tiny(seed=seed) for seed in (1, 2, 3)]


def finished(root: Path) -> list[Path]:
    """The records of three runs that were planned, and finished so far as a record says."""
    planned = planning.plan(SPECS, root)
    paths = [root / job.id / "record.json" for job in planned.jobs]
    for path, spec in zip(paths, SPECS, strict=True):
        content = made_up(seed=spec.seed, mixer="gru")
        content |= {"id": path.parent.name, "notes": [], "spec": spec.model_dump(mode="json")}
        write_record(path, content)
    return paths


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Makes the disk fail as a file is read: the error names no file, as the system's does not."""

    def fail(path: Path, number: int) -> None:
        real = Path.read_bytes

        def read(self: Path) -> bytes:
            if self.name == path.name and self.parent.name == path.parent.name:
                raise OSError(number, os.strerror(number))
            return real(self)

        monkeypatch.setattr(Path, "read_bytes", read)

    return fail


CAUSES = {
    "EIO": "Input/output error",
    "ELOOP": "Too many levels of symbolic links",
}


@pytest.fixture(params=CAUSES)
def broken(request, tmp_path: Path, failing) -> tuple[Path, str]:
    """A folder of three results, the second of which cannot be read; the line that says so."""
    root = tmp_path / "runs"
    path = finished(root)[1]
    if request.param == "ELOOP":
        link_to_itself(path)
    else:
        failing(path, getattr(errno, request.param))
    said = f"run {path.parent.name}: record.json: cannot be read ({CAUSES[request.param]})"
    return root, said


@pytest.mark.core
def test_a_report_leaves_it_out_and_says_so(broken, run, undrawn) -> None:
    root, said = broken
    code, output, errors = run("report", "runs")
    assert (code, errors) == (1, f"{said}; left out\n")
    assert output.startswith(b"2 records read")
    text = (root / "report" / "report.md").read_text().replace("\\", "")
    assert f"{said}; left out" in text


@pytest.mark.core
def test_a_run_in_the_folder_of_another_is_left_out_and_not_renamed(
    tmp_path: Path, run, undrawn
) -> None:
    first, *_ = finished(tmp_path / "runs")
    copy = tmp_path / "runs" / "a copy"
    shutil.copytree(first.parent, copy)
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.*")}
    code, output, errors = run("report", "runs", "--out", "report")
    assert output.startswith(b"3 records read")
    said = "run a copy: record.json: it is of another run than its folder says, "
    (note,) = read_runs(tmp_path / "runs").notes
    assert note == f"{said}'{first.parent.name}'; left out"
    assert (code, errors) == (1, f"{note}\n")
    code, _, errors = run("verify", "runs")
    assert code == 1
    assert errors == f"{said}'{first.parent.name}'\n"
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.*")} == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("report.md", "mine\n"),
        ("report.html", "<title>mine</title>"),
        ("tables.csv", "a,b\n"),
    ],
)
def test_a_report_replaces_a_former_report_and_no_other_file(
    tmp_path: Path, run, undrawn, name: str, text: str
) -> None:
    finished(tmp_path / "runs")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_text(text)
    code, output, errors = run("report", "runs", "--out", "other")
    assert (code, output) == (2, b"")
    assert errors == f"rulekeep: other/{name}: is of no report; name another --out\n"
    assert [(path.name, path.read_text()) for path in (tmp_path / "other").iterdir()] == [
        (name, text)
    ]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.md").write_text("mine\n")
    for _ in range(2):
        assert run("report", "runs", "--out", "own")[0] == 0
    assert (tmp_path / "own" / "mine.md").read_text() == "mine\n"


def test_a_report_that_cannot_be_written_whole_leaves_what_stood_there(
    tmp_path: Path, monkeypatch, run
) -> None:
    root = tmp_path / "runs"
    finished(root)
    from rulekeep.analysis import panels

    drawn = panels.Picture((), {"a figure.svg": b"<svg/>", "another.png": b""})
    monkeypatch.setattr(panels, "draw", lambda chart: drawn)
    folder = tmp_path / "report"
    write_report(typed([made_up()]), folder, "c")
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    assert folder / "figures" / "a figure.svg" in before
    written = iter(range(100))

    def full(descriptor: int) -> None:
        if next(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for out in ("report", "new"):
        written = iter(range(100))
        code, output, errors = run("report", "runs", "--out", out)
        assert (code, output) == (2, b"")
        (line,) = errors.splitlines()
        assert line.endswith("No space left on device; mend it, or name another place")
        assert f"{out}/" in line
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    assert not [*(tmp_path / "new").iterdir()]

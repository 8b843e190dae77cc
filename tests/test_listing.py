"""What there is to choose from, what a sweep would make, runs of several folders in one page."""

from pathlib import Path

import pytest
from report_records import record, written

from rulekeep.commands.records import report
from rulekeep.commands.runs import sweep

ROOT = Path(__file__).parent.parent


def test_a_dry_run_names_what_a_sweep_begins_with_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep("standard", mixers="delta", dry_run=True, out="runs") == 0
    *runs, last = capsys.readouterr().out.splitlines()
    # Three rates for each of four tasks.
    assert len(set(runs)) == 12
    assert all(" delta context 256 seed 1 rate " in run for run in runs)
    assert last.startswith("runs to begin with: 12; ")
    assert not list(tmp_path.iterdir())


def test_several_folders_are_one_report_and_what_stands_in_two_is_one_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], undrawn: None
) -> None:
    cell = [record(mixer, seed) for mixer in ("attention", "slots") for seed in (1, 2)]
    for place, run in enumerate(cell):
        run["id"] = f"run-{place}"
    for folder, runs in (("mine", cell[:3]), ("theirs", cell[1:])):
        for run in runs:
            written(tmp_path / folder, run)
    assert report(str(tmp_path / "mine"), str(tmp_path / "theirs")) == 0
    assert f"{len(cell)} records read and drawn" in capsys.readouterr().out
    page = (tmp_path / "mine" / "report" / "report.md").read_text()
    assert f"rulekeep report {tmp_path}/mine {tmp_path}/theirs" in page
    assert "attention" in page
    assert "slots" in page
    assert "is shown" not in page

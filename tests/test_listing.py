"""What there is to choose from, what a sweep would make, runs of several folders in one page."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from report_records import record

from rulekeep.commands.listing import list_
from rulekeep.commands.records import report, verify
from rulekeep.commands.runs import sweep
from rulekeep.mixers import MIXERS
from rulekeep.records.store import write_record
from rulekeep.specs import UsageError
from rulekeep.sweeps.presets import PRESETS
from rulekeep.tasks import TASKS

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", [*TASKS, *MIXERS, *PRESETS])
def test_of_each_name_it_says_what_it_does_and_how_to_run_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list_(name) == 0
    said = capsys.readouterr().out
    kind = {**TASKS, **MIXERS}.get(name)
    about = PRESETS[name] if name in PRESETS else sys.modules[kind.__module__]
    assert said.startswith(inspect.getdoc(about))
    assert name in said.partition(inspect.getdoc(about))[2]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("delta", "--mixer-options.heads 4"),
        ("attention", "--mixer-options.positions none (none or rotary or alibi)"),
        ("recite", "--task-options.placement early (early or marked)"),
        (f"{ROOT}/examples/outside_mixer.py:Fading", "--mixer-options.half-life 256.0"),
        (f"{ROOT}/examples/outside_task.py:Backwards", "--task-options.rules 4"),
    ],
)
def test_it_names_every_option_with_its_default(
    name: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    list_(name)
    assert f"\n  {option}\n" in f"{capsys.readouterr().out}\n"


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a run, neither in runs nor in results."""
    folder = tmp_path / "r" / "a" / "0abc"
    folder.mkdir(parents=True)
    write_record(folder / "record.json", {**record(), "id": "0abc"})
    monkeypatch.chdir(tmp_path)
    return folder


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
            (tmp_path / folder / run["id"]).mkdir(parents=True)
            write_record(tmp_path / folder / run["id"] / "record.json", run)
    assert report(str(tmp_path / "mine"), str(tmp_path / "theirs")) == 0
    assert f"{len(cell)} records read and drawn" in capsys.readouterr().out
    page = (tmp_path / "mine" / "report" / "report.md").read_text()
    assert f"rulekeep report {tmp_path}/mine {tmp_path}/theirs" in page
    assert "attention" in page
    assert "slots" in page
    assert "is shown" not in page


@pytest.mark.parametrize("command", [report, verify])
@pytest.mark.parametrize("given", [".", "runs"])
def test_of_a_folder_of_folders_of_runs_some_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str], int], given: str
) -> None:
    for name in "ab":
        (tmp_path / "runs" / name / "0abc").mkdir(parents=True)
        write_record(tmp_path / "runs" / name / "0abc" / "record.json", record())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        command(given)
    said = f"{given}: holds folders of runs; name one or more, as in runs/a runs/b"
    assert str(refused.value) == said

"""`tools/submit.py` and the board: what a submission needs, and the page that shows it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from scripts import script

from rulekeep.records.store import read_record, read_runs, write_record
from rulekeep.specs import MixerSpec, RunSpec

submitting = script("submit")
submitted = submitting.submitted
Command = Callable[..., tuple[int, str, str]]
SEEDS = (1, 2, 3, 4, 5)


def protocol(_: object, one: MixerSpec) -> list[RunSpec]:
    values = {key: value for key, value in tiny.TINY.items() if key != "mixer"}
    return [one.spec(**{**values, "steps": 4, "seed": seed}) for seed in SEEDS]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five runs of a plug-in."""
    folder = tmp_path_factory.mktemp("submit")
    mixer = tiny.plugin(folder, "mine")
    specs = protocol(None, MixerSpec(mixer, {}, {}))
    file = tiny.sweep_file(folder, specs)
    done = tiny.rulekeep("sweep", file, "--out", "runs", "--no-weights", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, with their protocol as the one that is submitted."""
    monkeypatch.setattr(submitting, "PROTOCOLS", {"tiny": protocol})
    for path in (made / "runs").glob("*/record.json"):
        copied = tmp_path / "runs" / path.parent.name / path.name
        copied.parent.mkdir(parents=True)
        copied.write_bytes(path.read_bytes())
    return tmp_path / "runs"


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        return submitting.main([*words]), *capsys.readouterr()

    return call


def test_a_whole_folder_becomes_one_file(runs: Path, run: Command) -> None:
    code, output, errors = run("runs", "--name", "mine")
    assert (code, errors) == (0, "")
    path = runs.parent / "submissions" / "mine.jsonl"
    assert str(path.relative_to(runs.parent)) in output
    found = submitted(path)
    assert (found.name, found.protocol) == ("mine", "tiny")
    assert {one.id: one for one in found.records} == {
        one.id: one for one in read_runs(runs).records
    }
    (text,) = found.code.values()
    assert "class Mixer(nn.Module)" in text


def test_each_thing_that_it_lacks_is_one_line(runs: Path, run: Command) -> None:
    first, second, *_ = sorted(runs.iterdir())
    (first / "record.json").unlink()
    (second / "record.json").write_text("{}")
    code, _, errors = run("runs")
    assert code == 2
    said = [line.split(": ")[:2] for line in errors.splitlines()]
    assert said == [["submit", one] for one in ("verified", "protocol tiny", "five seeds")]
    assert not (runs.parent / "submissions").exists()


def test_the_board_is_that_of_the_records() -> None:
    board = script("board", folder="tools")
    assert board.PAGE.read_text() == board.page(), "python tools/board.py"
    text = board.page()
    ranked = ["sparse_delta, earliness", "attention, rotary", "guessing"]
    assert sorted(ranked, key=lambda name: text.index(f"| {name}")) == ranked


def test_a_diverged_run_is_a_result_to_submit(runs: Path, run: Command) -> None:
    path = sorted(runs.glob("*/record.json"))[0]
    write_record(path, {**read_record(path), "status": "diverged", "reason": "nan at step 2"})
    assert run("runs", "--name", "mine")[0] == 0
    found = submitted(runs.parent / "submissions" / "mine.jsonl")
    assert sorted(one.status for one in found.records) == ["diverged", *["done"] * 4]

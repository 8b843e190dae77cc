"""What a sweep shows while it goes: a live table on a terminal, lines elsewhere; Ctrl-C."""

from pathlib import Path

import pytest
import tiny
from test_terminal import HOSTILE, is_plain

from rulekeep.executors import Advanced
from rulekeep.records import Record
from rulekeep.sweeps import making
from rulekeep.sweeps.making import JobFinished, shown
from rulekeep.sweeps.planning import Job

# A name that rich would take for markup, and a terminal for a command; as it is shown.
NAME = "[bold red]odd\x1b[31m\u202e"
SHOWN = r"[bold red]odd\x1b[31m\u202e"
SWEEP_COMMAND = ["sweep", "--workers", "2", "grid.py", "--out", "runs"]
LABEL = f"{SHOWN}.py:Mixer context 64 seed 1"
FAILED = r"failed: ValueError: [red]no[/red] such a\x1b[2Jb\x1b]0;title"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that ends and one that fails."""
    fails = f"raise ValueError('[red]no[/red] such ' + {HOSTILE!r})"
    mixers = tiny.plugin(tmp_path, NAME), tiny.plugin(tmp_path, f"fails {NAME}", forward=fails)
    tiny.sweep_file(tmp_path, [tiny.tiny(mixer=mixer) for mixer in mixers])
    return tmp_path


def test_elsewhere_a_line_a_run_and_no_escapes(folder: Path) -> None:
    done = tiny.rulekeep(*SWEEP_COMMAND, cwd=folder)
    assert done.returncode == 1
    assert is_plain(done.stderr)
    begun, *lines = done.stderr.splitlines()
    assert begun == "2 runs to make in runs"
    # A slow machine says how far it is.
    lines = [line for line in lines if not line.startswith("step ")]
    assert [line[:6] for line in lines[:2]] == ["[1/2] ", "[2/2] "]
    assert any(f"{LABEL} rate 0.003: retention" in line for line in lines)
    assert len(lines) == 3
    assert FAILED in lines[2]
    assert f"(fails {SHOWN}.py, line 21) (see runs/" in lines[2]


def test_a_run_is_passed_on_before_its_line_is_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Else Ctrl-C between the two would count one run less than was said."""
    job = Job("runs", "an id", "a run", 4)
    event = JobFinished(job, Record.failed("an id", "failed", "no luck"))
    passed_on = shown(iter([event]), [job])
    assert next(passed_on) == event
    assert capsys.readouterr().err == ""
    assert list(passed_on) == []
    assert capsys.readouterr().err == "[1/1] a run: failed: no luck, 0 s since the start\n"


def test_the_time_for_all_is_said_after_the_first_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of the second cell takes twice as long, and loading counts for nothing."""
    near, far = (
        Job("runs", name, name, 10, effort=effort) for name, effort in (("a", 1.0), ("b", 2.0))
    )
    clock = iter([0, 100, 160, 160, *[160] * 20])
    monkeypatch.setattr(making.time, "monotonic", lambda: next(clock))
    assert list(shown(iter([Advanced(near, 1), Advanced(near, 2)]), [near, far])) == []
    # 28 steps of a minute.
    said = "about 28 min left for 2 runs, by the pace of the first steps\n"
    assert capsys.readouterr().err == said

"""A plug-in that hangs, exits or crashes as it is loaded or made ends a process of its own."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from tiny import plugin

from rulekeep.executors.trial import Trial
from rulekeep.plugins import find_function, limit_trials, tried_first
from rulekeep.running.mixers import load_mixer, mixer_maker
from rulekeep.running.tasks import load_task
from rulekeep.specs import UsageError

# What a constructor does, where it is the constructor that does it.
_MADE = "class Mixer(Mixer):\n    def __init__(self, width):\n        super().__init__(width)\n"
# Lines, and what is said of an import; a constructor says the same of itself.
ENDS = {
    "exits": ("os._exit(3)", "ended the process (exit code 3); raise an exception instead"),
    "crashes": ("os.kill(os.getpid(), 11)", "ended the process (signal 11)"),
}


@pytest.fixture(autouse=True)
def trial() -> Iterator[Trial]:
    """As in the command."""
    with tried_first(trying := Trial()):
        yield trying


def constructing(folder: Path, name: str, line: str) -> str:
    path = Path(plugin(folder, name).partition(":")[0])
    path.write_text(f"{path.read_text()}\n{_MADE}        {line}\n")
    return f"{path}:Mixer"


def make(name: str) -> None:
    mixer_maker(name, load_mixer(name), 8, {})


@pytest.mark.parametrize("how", ENDS)
def test_an_import_that_ends_its_process_is_said_in_one_line(tmp_path: Path, how: str) -> None:
    line, said = ENDS[how]
    name = plugin(tmp_path, how, line)
    with pytest.raises(UsageError, match=f"^{re.escape(f'mixer {name!r}: its import {said}')}$"):
        load_mixer(name)


@pytest.mark.parametrize("how", ENDS)
def test_a_constructor_that_ends_its_process_is_said_in_one_line(tmp_path: Path, how: str) -> None:
    line, said = ENDS[how]
    name = constructing(tmp_path, how, line)
    expected = re.escape(f"mixer {name!r}: its constructor {said}")
    with pytest.raises(UsageError, match=f"^{expected}$"):
        make(name)


def test_what_hangs_is_ended_at_the_limit(tmp_path: Path, trial: Trial) -> None:
    import_hangs = plugin(tmp_path, "hangs", "time.sleep(600)")
    made_hangs = constructing(tmp_path, "made", "time.sleep(600)")
    load_mixer(made_hangs)
    limit_trials(0.5)
    limit_trials(60)
    assert trial.limit == 0.5
    with pytest.raises(UsageError, match=r"did not load within 0\.5 s; take out what waits"):
        load_mixer(import_hangs)
    with pytest.raises(UsageError, match=r"was not made within 0\.5 s; take out what waits"):
        mixer_maker(made_hangs, load_mixer(made_hangs), 8, {})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("raise ValueError('told to')", "ValueError: told to (says.py, line 9)"),
        ("sys.exit(4)", "SystemExit: 4 (says.py, line 9)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: (says.py, line 9)"),
        ("input()", "EOFError: EOF when reading a line (says.py, line 9)"),
    ],
)
def test_what_an_import_raises_is_said_as_before(tmp_path: Path, line: str, said: str) -> None:
    name = plugin(tmp_path, "says", line)
    with pytest.raises(UsageError, match=f"^{re.escape(f'mixer {name!r}: {said}')}$"):
        load_mixer(name)


def test_an_exit_of_a_constructor_is_said_in_one_line(tmp_path: Path) -> None:
    name = constructing(tmp_path, "leaves", "sys.exit(4)")
    with pytest.raises(UsageError, match=r"^mixer '.*': SystemExit: 4 \(leaves.py, line \d+\)$"):
        make(name)


def test_the_command_makes_no_mixer_of_a_users_in_its_own_process(tmp_path: Path) -> None:
    name = constructing(tmp_path, "tells", f"Path({str(tmp_path)!r}, str(os.getpid())).touch()")
    for _ in range(2):
        make(name)
    made_by = [path.name for path in tmp_path.iterdir() if path.name.isdigit()]
    # Once, and elsewhere.
    assert len(made_by) == 1
    assert made_by != [str(os.getpid())]


def test_a_mixer_is_found_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    constructing(tmp_path, "mine", "pass")
    monkeypatch.chdir(tmp_path)
    kind = load_mixer("mine.py:Mixer")
    monkeypatch.chdir(tmp_path / "there")
    mixer_maker("mine.py:Mixer", kind, 8, {})


def test_a_copy_that_an_import_makes_by_a_fork_does_not_go_on(tmp_path: Path) -> None:
    pid = os.getpid()
    load_mixer(plugin(tmp_path, "forks", "os.fork()"))
    assert os.getpid() == pid


def test_a_task_and_a_sweep_are_tried_as_well(tmp_path: Path) -> None:
    path = tmp_path / "leaves.py"
    path.write_text("import os\nos._exit(3)\n")
    with pytest.raises(UsageError, match=r"^task .*: its import ended the process \(exit code 3"):
        load_task(f"{path}:Mine")
    with pytest.raises(UsageError, match=r"^sweep .*: its import ended the process \(exit code 3"):
        find_function(str(path), {}, "sweep")


def test_a_library_loads_at_once(tmp_path: Path, trial: Trial) -> None:
    with tried_first(None):
        make(constructing(tmp_path, "here", "Path(__file__).with_name('here').write_text('')"))
    assert not trial._passed
    assert (tmp_path / "here").exists()


def test_the_command_ends_with_2_where_an_import_hangs(tmp_path: Path) -> None:
    file = tmp_path / "hangs.py"
    file.write_text("import time\ntime.sleep(600)\n")
    mixer = ["run", "--mixer", "hangs.py:Mixer", "--time-limit", "1"]
    for words in (mixer, ["sweep", "hangs.py", "--time-limit", "1"]):
        done = tiny.rulekeep(*words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        (line,) = done.stderr.splitlines()
        assert "did not load within 1 s; " in line
    left = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert left == {"hangs.py"}

"""How a command starts and ends: what it loads, its processor seconds, Ctrl-C at any moment.

Processor seconds are those of the child: a busy machine changes them little.
"""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "rulekeep"]
HEAVY = ("torch", "scipy", "sklearn", "matplotlib")
# What needs neither a model nor figures.
LIGHT = {
    "help": ["--help"],
    "version": ["--version"],
    "list": ["list"],
    "list a task": ["list", "recite"],
    "list a preset": ["list", "standard"],
    "verify": ["verify", "runs"],
    "help of a command": ["sweep", "--help"],
}
# What each of them imports in turn.
WITHOUT_A_MODEL = (
    "rulekeep.analysis.rows",
    "rulekeep.article.leak",
    "rulekeep.article.published",
    "rulekeep.article.scores",
    "rulekeep.checks",
    "rulekeep.commands.certificates",
    "rulekeep.commands.mixers",
    "rulekeep.reporting.page",
    "rulekeep.study",
    "rulekeep.tasks.export",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runs" / "a run").mkdir(parents=True)
    (tmp_path / "runs" / "a run" / "record.json").write_text("{}")
    return tmp_path


def test_the_list_takes_little_of_the_processor() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*COMMAND, "list"], capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Twice what it takes; the first may have to compile what it imports.
    assert any(seconds() < 0.6 for _ in range(3))


def test_what_trains_and_draws_nothing_loads_no_library_for_it(folder: Path) -> None:
    code = (
        "import sys\n"
        "from rulekeep.__main__ import main\n"
        f"for given in {[*LIGHT.values()]!r}:\n"
        "    sys.argv = ['rulekeep', *given]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit:\n"
        f"        found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "        assert not found, (given, found)\n"
        # What draws, reads and compares needs no model either.
        f"import {', '.join(WITHOUT_A_MODEL)}\n"
        "assert 'torch' not in sys.modules\n"
        "from rulekeep.checks.mixers import check_mixer\n"
        "assert 'torch' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import rulekeep\n"
        "assert set(sys.modules) - before == {'rulekeep'}, set(sys.modules) - before\n"
        "assert rulekeep.__version__\n"
        "from rulekeep.mixers import MIXERS; from rulekeep.tasks import TASKS\n"
        "assert 'delta' in MIXERS and 'no' not in MIXERS and [*MIXERS] and [*TASKS]\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""`make` has an environment of its own, in this folder: it neither deletes nor runs another's."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Stands in for Python: makes an environment of itself, and notes what is installed.
PYTHON = """#!/bin/sh
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/rulekeep" ;;
    "-m pip "*) echo "in $PWD" >> installed.txt; sleep 0.2; echo done >> installed.txt ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "one"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return folder


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-s", f"PYTHON={folder.parent / 'python'}", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def installed(folder: Path) -> list[str]:
    lines = (folder / "installed.txt").read_text().splitlines()
    begun, ended = lines[::2], lines[1::2]
    assert ended == ["done"] * len(begun), "one after another"
    return begun


def test_an_environment_of_someone_else_is_refused_and_kept(checkout: Path) -> None:
    mine = checkout / ".venv" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    done = make(checkout, "run")
    assert done.returncode == 2
    assert ".venv was not made by make: move it away" in done.stderr
    assert mine.read_text() == "precious"
    assert make(checkout, "run", "VENV=other").returncode == 0


def test_an_environment_that_stands_is_used_again(checkout: Path) -> None:
    for _ in range(2):
        assert make(checkout, "run").returncode == 0
    assert len(installed(checkout)) == 1


def test_a_copied_checkout_makes_its_own_environment(checkout: Path) -> None:
    assert make(checkout, "run").returncode == 0
    copied = checkout.parent / "two"
    shutil.copytree(checkout, copied, symlinks=True)
    assert make(copied, "run").returncode == 0
    assert installed(copied) == [f"in {checkout}", f"in {copied}"]

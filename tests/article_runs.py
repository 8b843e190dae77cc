"""Runs of `rulekeep article` in processes of their own, and where their records stand."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tiny import WAIT_SECONDS

from rulekeep.specs import ArticleCell
from rulekeep.sweeps.sweep import identity

COMMAND = Path(sys.executable).with_name("rulekeep")
QUICK = ["--contexts", "16", "--steps", "2"]
ATTENTION = ArticleCell(context=16, model="attention", steps=2)
COMPRESSED = ArticleCell(context=16, model="compressed", steps=2)


class Quick(NamedTuple):
    """A folder with the output folder `run` in it, and what the command said."""

    folder: Path
    done: subprocess.CompletedProcess


def rulekeep(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """The command, to its end."""
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, cwd=cwd, timeout=WAIT_SECONDS,
        check=False,
    )  # fmt: skip


def quick_run(folder: Path) -> Quick:
    """Two steps of both models at context 16."""
    return Quick(folder, rulekeep("article", *QUICK, "--out", "run", cwd=folder))


def record_path(run: Path, cell: ArticleCell) -> Path:
    """Where a cell's record stands in the output folder of a run."""
    return run / "runs" / identity(cell) / "record.json"


def copied(quick: Quick, tmp_path: Path) -> Path:
    """A copy of the quick run, to be damaged."""
    subprocess.run(["cp", "-r", quick.folder / "run", tmp_path / "run"], check=True)
    return tmp_path / "run"

"""Runs of `rulekeep article`, and where their records stand."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tiny import rulekeep

from rulekeep.specs import ArticleCell
from rulekeep.sweeps.planning import identity

QUICK = ["--contexts", "16", "--steps", "2"]
ATTENTION = ArticleCell(context=16, model="attention", steps=2)
COMPRESSED = ArticleCell(context=16, model="compressed", steps=2)


class Quick(NamedTuple):
    """A folder with the output folder `run` in it, and what the command said."""

    folder: Path
    done: subprocess.CompletedProcess


def quick_run(folder: Path) -> Quick:
    """Two steps of both models at context 16."""
    return Quick(folder, rulekeep("article", *QUICK, "--out", "run", cwd=folder))


def record_path(run: Path, cell: ArticleCell) -> Path:
    """Where a cell's record stands in the output folder of a run."""
    return run / identity(cell) / "record.json"


def copied(quick: Quick, tmp_path: Path) -> Path:
    """A copy of the quick run, to be damaged."""
    return Path(shutil.copytree(quick.folder / "run", tmp_path / "run"))

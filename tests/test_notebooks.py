"""The notebooks: each runs from its first cell to its last, and is committed small."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXECUTE = Path(sys.executable).with_name("jupyter-execute")
LARGEST_BYTES = 100_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_kernel(path: Path, tmp_path: Path) -> None:
    copied = tmp_path / "notebooks" / path.name
    copied.parent.mkdir()
    # Shorter training: what it trains to is not looked at.
    short = re.sub(r'\\"(steps|evaluate_every)\\": 400', r'\\"\1\\": 60', path.read_text())
    copied.write_text(short)
    (tmp_path / "results").symlink_to(ROOT / "results")
    done = subprocess.run(
        [EXECUTE, "--timeout=600", copied],
        cwd=copied.parent, capture_output=True, text=True, check=False,
        env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_one_picture(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    outputs = [one for cell in cells for one in cell.get("outputs", [])]
    assert sum("image/png" in one.get("data", {}) for one in outputs) == 1
    assert not any(one["output_type"] == "error" for one in outputs)
    assert path.stat().st_size < LARGEST_BYTES

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
LARGEST_BYTES = 100_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    copied = tmp_path / "notebooks" / path.name
    copied.parent.mkdir()
    # Shorter training and fewer tests: what it trains to is not looked at.
    short = re.sub(r'\\"(steps|evaluate_every)\\": 400', r'\\"\1\\": 12', path.read_text())
    copied.write_text(short.replace('\\"test_examples\\": 200', '\\"test_examples\\": 20'))
    (tmp_path / "results").symlink_to(ROOT / "results")
    done = subprocess.run(
        [sys.executable, "-m", "IPython", copied],
        cwd=copied.parent, capture_output=True, text=True, check=False,
        env={
            **os.environ,
            "IPYTHONDIR": str(tmp_path / "settings"),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_one_picture(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    outputs = [one for cell in cells for one in cell.get("outputs", [])]
    assert sum("image/png" in one.get("data", {}) for one in outputs) == 1
    assert not any(one["output_type"] == "error" for one in outputs)
    assert path.stat().st_size < LARGEST_BYTES

"""`tools/gpu.py`: every command runs here in its small form, on the processor."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import tiny_chat

ROOT = Path(__file__).parent.parent
SCRIPT = [sys.executable, ROOT / "tools" / "gpu.py"]


@pytest.mark.process
@pytest.mark.slow
def test_every_command_runs_on_the_processor_and_is_packed(tmp_path: Path) -> None:
    model = tiny_chat.saved(tmp_path / "model")
    asked = ["--device", "cpu", "--small", "--model", model]
    done = subprocess.run([*SCRIPT, *asked], cwd=tmp_path, capture_output=True, text=True)
    report = tmp_path / "gpu-report"
    logs = {path.name: path.read_text() for path in report.glob("*.log")}
    assert done.returncode == 0, (done.stdout, logs)
    commands = json.loads((report / "commands.json").read_text())
    assert {f"{one['name']}.log" for one in commands} == {*logs}
    with tarfile.open(tmp_path / "gpu-report.tar.gz") as packed:
        held = packed.getnames()
    assert sum(name.endswith("/record.json") for name in held) >= 8


@pytest.mark.process
@pytest.mark.slow
def test_a_command_that_fails_is_kept_and_stops_no_other(tmp_path: Path) -> None:
    # This machine has no such device, or its seventh.
    asked = ["--device", "cuda:7", "--small"]
    done = subprocess.run([*SCRIPT, *asked], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    commands = json.loads((tmp_path / "gpu-report" / "commands.json").read_text())
    codes = {one["name"]: one["code"] for one in commands}
    assert codes["run-on-cpu"] == 0
    assert codes["check-attention"] == 2
    assert "CUDA devices" in (tmp_path / "gpu-report" / "check-attention.log").read_text()

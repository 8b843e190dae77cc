"""`tools/gpu.py`: every command runs here in its small form, on the processor."""

import json
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import tiny_chat
from scripts import script

gpu = script("gpu")


@pytest.fixture(autouse=True)
def _in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands run here, where all is loaded."""

    def run(words: list[str], stdout: Any, **_: Any) -> SimpleNamespace:
        done = tiny.rulekeep(*map(str, words[len(gpu.RULEKEEP) :]), cwd=tmp_path)
        stdout.write(done.stdout + done.stderr)
        return SimpleNamespace(returncode=done.returncode)

    monkeypatch.chdir(tmp_path)
    own = SimpleNamespace(**{**vars(subprocess), "run": run})
    monkeypatch.setattr(gpu, "subprocess", own)


def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, dict]:
    """Its exit code, and that of each command."""
    monkeypatch.setattr("sys.argv", ["gpu.py", "--small", *words])
    code = gpu.main()
    commands = json.loads((tmp_path / "gpu-report" / "commands.json").read_text())
    return code, {one["name"]: one["code"] for one in commands}


@pytest.mark.process
@pytest.mark.slow
def test_every_command_runs_on_the_processor_and_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_chat.saved(tmp_path / "model")
    code, codes = ended(tmp_path, monkeypatch, "--device", "cpu", "--model", str(model))
    report = tmp_path / "gpu-report"
    logs = {path.stem: path.read_text() for path in report.glob("*.log")}
    assert code == 0, (codes, logs)
    assert codes.keys() == logs.keys()
    with tarfile.open(tmp_path / "gpu-report.tar.gz") as packed:
        held = packed.getnames()
    assert sum(name.endswith("/record.json") for name in held) >= 8


@pytest.mark.process
@pytest.mark.slow
def test_a_command_that_fails_is_kept_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"run-on-cpu", "check-attention"}
    every = gpu.commands
    monkeypatch.setattr(gpu, "commands", lambda *a: (one for one in every(*a) if one[0] in kept))
    # This machine has no such device, or its seventh.
    code, codes = ended(tmp_path, monkeypatch, "--device", "cuda:7")
    assert (code, codes) == (1, {"check-attention": 2, "run-on-cpu": 0})
    assert "CUDA devices" in (tmp_path / "gpu-report" / "check-attention.log").read_text()

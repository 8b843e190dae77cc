"""Shared by all tests: one thread, no test may leave the global streams changed, the command."""

import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rulekeep import cli

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_streams() -> None:
    """Every test starts from the same global streams and arithmetic, whatever ran before it."""
    # A run in this process sets it, and hypothesis refuses to draw floats then.
    torch.set_flush_denormal(False)
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report without its pictures, nearly all of its time: for tests of what it says alone."""
    from rulekeep.report import drawing

    monkeypatch.setattr(drawing, "files", lambda chart: {})


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> Callable[..., tuple[int, bytes, str]]:
    """The command in this process, in a folder of its own: exit code, output, errors."""

    def command(*arguments: str) -> tuple[int, bytes, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["rulekeep", *arguments])
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as end:
                cli.main()
        finally:
            signal.signal(signal.SIGTERM, before)
        output, errors = capsysbinary.readouterr()
        return end.value.code, output, errors.decode()

    return command

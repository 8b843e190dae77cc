"""Shared by all tests: their markers, one thread, unchanged global streams, the command."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import threadpoolctl
import torch
from article_runs import Quick, quick_run

from rulekeep import cli

torch.set_num_threads(1)
# Threads of numpy's library that wait for a busy core spin: four times the processor time.
threadpoolctl.threadpool_limits(1)
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# What tests start imports the code that they import, from whatever folder.
os.environ["PYTHONPATH"] = str(Path(cli.__file__).parents[1])
# A shell has what it starts in the background ignore Ctrl-C, and children inherit that: tests of
# Ctrl-C would wait in vain.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What the fixture `run` gives: of a command line its exit code, output and errors.
Command = Callable[..., tuple[int, bytes, str]]

# What the tests of each file need: those of the rest are of the core. A test says otherwise with a
# marker of its own.
KINDS = {
    "core": "",
    "docs": """
        drawn_docs house literature mixers_table notebooks planted_bugs results site study submit
    """,
    "cli": """
        article_store bad_inputs check_command cli explain listing speed
        api compact_command start task_commands terminal unreadable
    """,
    "process": """
        article_reproduction cluster costs executors faults live lm_eval runs sweep trackers
        small_model weights wheel
    """,
    "browser": "report_browser",
}
# What the tests of these files share is made once, by one process.
TOGETHER = {f"test_{name}" for name in ("article_streams", "faults", "language", "runs", "sweep")}
KIND_OF = {f"test_{name}": kind for kind, names in KINDS.items() for name in names.split()}

# A machine that is busy makes no test wrong.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out what has no test of the core where the core alone is run: a third of the time."""
    if not config.option.markexpr.startswith("core"):
        return None
    kind = KIND_OF.get(collection_path.stem, "core")
    return (kind != "core" and "pytest.mark.core" not in collection_path.read_text()) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives each test the kind of its file, unless it has one of its own."""
    for item in items:
        kind = KIND_OF.get(item.path.stem, "core")
        if not KINDS.keys() & {mark.name for mark in item.iter_markers()}:
            item.add_marker(kind)
        if item.path.stem in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    # The longest tests first, so that they are not alone at the end.
    items.sort(key=lambda item: (item.path.stem != "test_small_model", "[mypy]" not in item.name))


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
    from rulekeep.analysis import panels

    monkeypatch.setattr(panels, "draw", lambda chart: panels.Picture((), {}))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "rulekeep-test", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted: needs root")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model on disk; a test that changes it makes its own."""
    from tiny_chat import saved

    return saved(tmp_path_factory.mktemp("chat_model"))


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Quick:
    """Two steps of both models of the article at context 16."""
    return quick_run(tmp_path_factory.mktemp("quick"))


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> Command:
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

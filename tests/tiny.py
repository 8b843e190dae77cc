"""Runs of a second or less, plug-ins that misbehave, and the command that makes them.

A sweep file is written beside the plug-ins, so that workers find both as a user's would.
"""

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import psutil

from rulekeep import cli
from rulekeep.executors import LocalExecutor
from rulekeep.records.store import Record, RunFolder, Values, read_record, write_record
from rulekeep.running import run as running
from rulekeep.running.building import resolve
from rulekeep.specs import RunSpec
from rulekeep.sweeps import making, planning
from rulekeep.sweeps.asked import How

# Only what hangs takes so long.
WAIT_SECONDS = 600
COMMAND = Path(sys.executable).with_name("rulekeep")
TINY: dict[str, Any] = {
    "task_options": {"rules": 2},
    "mixer": "gru",
    "width": 8,
    "layers": 1,
    "context": 64,
    "steps": 12,
    "warmup_steps": 2,
    "batch_size": 4,
    "evaluate_every": 4,
    "validation_examples": 4,
    "test_examples": 4,
}
# Figures of the clock and of the machine's state: all else must be the same bits.
TIMINGS = ("train_seconds", "tokens_per_second", "decode_ms_per_token", "peak_memory_bytes")

# A layer that keeps what it reads, to be spoilt: `SPOILT` is what a test puts in its forward.
_PLUGIN = """
import contextlib, os, random, signal, sys, time
from pathlib import Path

import numpy as np
import torch
from torch import nn

{top}

class Mixer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def init_state(self, batch_size):
        return (self.linear.weight.new_zeros(batch_size, 1),)

    def forward(self, x, state=None):
        y, state = self.linear(x), state or self.init_state(len(x))
{forward}
        return y, state
"""


def tiny(**changes: Any) -> RunSpec:
    """A run of half a second."""
    return RunSpec.parse(**{**TINY, **changes})


def plugin(folder: Path, name: str, top: str = "", forward: str = "") -> str:
    """Writes a mixer with these lines at its top and in its forward, and returns its name."""
    path = folder / f"{name}.py"
    text = _PLUGIN.format(top=top, forward=textwrap.indent(textwrap.dedent(forward), " " * 8))
    path.write_text(text)
    return f"{path}:Mixer"


def fill(disk: Path, left: int = 0) -> None:
    """Writes a file `filler` that leaves so many bytes of room on a disk, in whole pages."""
    with (disk / "filler").open("wb", buffering=0) as file:
        size = 2**20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
        file.truncate(file.tell() - left)


def filling(
    folder: Path, disk: Path, left: int = 0, forward: str = "", checkpoints: float = 1e9, **changes
) -> RunSpec:
    """A run that fills the disk at its third step, once; it writes checkpoints so often, in s."""
    top = f"""
import itertools, multiprocessing
import rulekeep.running.run
from tiny import fill
if multiprocessing.parent_process():
    rulekeep.running.run.CHECKPOINT_SECONDS = {checkpoints}
steps, disk = itertools.count(1), Path({str(disk)!r})
"""
    fills = f"""
# The screen takes the first.
step = next(steps) if torch.is_grad_enabled() else 0
if step == 4 and not disk.joinpath("filled").exists():
    disk.joinpath("filled").touch()
    fill(disk, {left})
"""
    mixer = plugin(folder, "fills", top, fills + textwrap.dedent(forward))
    return tiny(mixer=mixer, **changes)


def finish(folder: Path, spec: RunSpec) -> Path:
    """The folder of a run that is made in this process, with its record."""
    folder.mkdir(parents=True)
    resolved = resolve(spec)
    made = running.run(resolved, RunFolder(folder), lambda _: None, lambda *_: None)
    head = {"id": folder.name, "kind": "run"}
    head |= {"asked": resolved.asked, "versions": dict(resolved.versions)}
    write_record(folder / "record.json", {**head, **made, "attempt": 1})
    return folder


def sweep_file(folder: Path, specs: Iterable[RunSpec], name: str = "grid") -> str:
    """Writes a file whose `sweep` returns these specs, and returns its name."""
    path = folder / f"{name}.py"
    values = json.dumps([spec.model_dump(mode="json") for spec in specs])
    path.write_text(
        "import json\nfrom rulekeep.specs import RunSpec\n\n"
        f"def sweep():\n    return [RunSpec.parse(**v) for v in json.loads({values!r})]\n"
    )
    return str(path)


def made(specs: Iterable[RunSpec], root: Path, workers: int = 2, **how: Any) -> list[Record]:
    """Plans and makes these runs; their records in the order of the specs, those that stood too."""
    planned = planning.plan(specs := list(specs), root)
    events = making.execute(planned, LocalExecutor(workers), How(**how))
    found = {event.job.id: event.record for event in events if hasattr(event, "record")}
    found |= {record.id: record for record in planned.finished}
    return [found[planning.identity(spec)] for spec in specs]


@contextmanager
def held(folder: RunFolder) -> Iterator[subprocess.Popen]:
    """Another process has the run until it reads a line."""
    code = (
        "import sys; from pathlib import Path; from rulekeep.records.store import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked(): print(flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, folder.path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "\n"
        yield other
        other.stdin.close()


def start(*arguments: str, cwd: Path, **options: Any) -> subprocess.Popen:
    """The command in a process group of its own, hearing Ctrl-C as from a terminal."""
    return subprocess.Popen(
        [COMMAND, *arguments], cwd=cwd, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )  # fmt: skip


@contextmanager
def started(*arguments: str, cwd: Path, **options: Any) -> Iterator[subprocess.Popen]:
    """As `start`; however a test ends, the command does not outlive it."""
    with start(*arguments, cwd=cwd, **options) as driver:
        try:
            yield driver
        finally:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)


def process(*arguments: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess:
    """The command in a process of its own, to its end."""
    driver = start(*arguments, cwd=cwd, **options)
    out, errors = driver.communicate(timeout=WAIT_SECONDS)
    return subprocess.CompletedProcess(driver.args, driver.returncode, out, errors)


def rulekeep(*arguments: str | bytes, cwd: Path) -> subprocess.CompletedProcess:
    """The command in this process, with its code and fork server loaded already, to its end."""
    words, out, errors = [os.fsdecode(one) for one in arguments], _stream(), _stream()
    given, term = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["rulekeep", *words]
    try:
        with chdir(cwd), redirect_stdout(out), redirect_stderr(errors), catch_warnings():
            cli.main()
    except SystemExit as end:
        said = [part.buffer.getvalue().decode() for part in (out, errors) if not part.flush()]
        return subprocess.CompletedProcess(words, end.code, *said)
    finally:
        sys.argv = given
        signal.signal(signal.SIGTERM, term)


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")


def until(found: Callable[[], Any], driver: subprocess.Popen | None = None) -> Any:
    """What `found` returns as soon as it is true; a driver that ends before is an error."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (value := found()):
        assert time.monotonic() < deadline, "waited in vain"
        assert driver is None or driver.poll() is None, f"ended: {driver.communicate()}"
        time.sleep(0.01)
    return value


def records(root: Path) -> dict[str, Values]:
    """Every record of a folder of runs by id, as it stands on disk."""
    return {path.parent.name: read_record(path) for path in sorted(root.glob("*/record.json"))}


def statuses(root: Path) -> list[str]:
    """The status of every record, in order."""
    return sorted(record["status"] for record in records(root).values())


def timeless(record: Values) -> Values:
    """A record without the figures of the clock, and without the number of attempts."""
    body = json.loads(json.dumps(record))
    for name in ("attempt", "notes", "environment"):
        body.pop(name, None)
    for name in TIMINGS:
        body["costs"].pop(name, None)
    for row in body["history"]:
        row.pop("train_seconds", None)
    return body


def timeless_records(root: Path) -> dict[str, Values]:
    """As `records`, each `timeless`."""
    return {name: timeless(record) for name, record in records(root).items()}


def descendants(pid: int) -> list[int]:
    """The processes that this one started, and those that they started."""
    with suppress(psutil.Error):
        return [one.pid for one in psutil.Process(pid).children(recursive=True)]
    return []


def workers(driver: subprocess.Popen) -> list[int]:
    """The processes that make runs: the children of the driver's fork server."""

    def forked(pid: int) -> list[int]:
        return [
            one for one in descendants(pid) if "multiprocessing.forkserver" in command_line(one)
        ]

    return [pid for server in forked(driver.pid) for pid in forked(server)]


def alive(pid: int) -> bool:
    """Whether this process still runs."""
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def command_line(pid: int) -> str:
    """What a process was started with; nothing if it is gone."""
    with suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""

"""What goes wrong with disks, files and plug-ins costs what it must, and is said."""

import hashlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from tiny import made, plugin

from rulekeep.records.store import Record, RunFolder, read_record
from rulekeep.specs import RunSpec
from rulekeep.sweeps import planning

IN_A_WORKER = "import multiprocessing\nif multiprocessing.parent_process():\n    "
GLOBAL = "MixerError: mixer {!r}: no global random draw"
# Lines at the top, lines in forward, and how the run must end.
MISBEHAVING = {
    "hangs": ("", "time.sleep(600)", "timeout", "stopped after its limit of 8 s"),
    "import": (
        f"{IN_A_WORKER}raise ValueError('told to')", "", "failed",
        "UsageError: mixer '{}': ValueError: told to (import.py, line 11)",
    ),
    "shape_late": (
        "", "y = y[:, 1:] if torch.is_grad_enabled() else y", "failed",
        "MixerError: mixer {!r}: output and state have their form: ",
    ),
    "torch_stream": ("", "torch.rand(1)", "failed", GLOBAL),
    "numpy_stream": ("", "np.random.rand()", "failed", GLOBAL),
    "exits": ("", "sys.exit(0)", "failed", "SystemExit: 0"),
    "killed": ("", "os.kill(os.getpid(), 9)", "killed", "its process ended by signal 9"),
    "memory": ("", "torch.empty(2**60)", "out_of_memory", "RuntimeError: "),
    "not_a_number_late": (
        "", "y = y * 1e37 if torch.is_grad_enabled() else y", "diverged",
        "loss not finite at step 1; ",
    ),
}  # fmt: skip


def spoilt(folder: Path, name: str) -> RunSpec:
    top, forward, *_ = MISBEHAVING[name]
    return tiny.tiny(mixer=plugin(folder, name, top, forward))


@pytest.fixture(scope="module")
def misbehaved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """A sweep of all of them with a good one last."""
    folder = tmp_path_factory.mktemp("misbehaved")
    specs = {name: spoilt(folder, name) for name in MISBEHAVING} | {"good": tiny.tiny()}
    # A limit for the others would be one for this machine.
    hangs = made([specs.pop("hangs")], folder / "runs", time_limit=8)
    records = made([*specs.values()], folder / "runs")
    return dict(zip(["hangs", *specs], [*hangs, *records], strict=True))


@pytest.mark.parametrize("name", MISBEHAVING)
def test_a_mixer_that_misbehaves_ends_its_own_run_with_a_reason(
    misbehaved: dict[str, Record], name: str
) -> None:
    record = misbehaved[name]
    *_, status, reason = MISBEHAVING[name]
    assert record.status == status
    assert record.reason.startswith(reason.format(record.spec.mixer))
    assert "\n" not in record.reason
    # However it ended, what it was made on is known.
    assert record.environment == misbehaved["good"].environment
    assert misbehaved["good"].status == "done"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs."""
    root = tmp_path_factory.mktemp("whole") / "runs"
    made([tiny.tiny(), tiny.tiny(seed=2)], root)
    return root


class Hostile:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.touched),)


def checkpoint(content: bytes) -> bytes:
    """What `load_checkpoint` takes for whole."""
    return hashlib.sha256(content).hexdigest().encode() + content


def saved(value: object) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


CHECKPOINTS: dict[str, Callable[[Path], bytes]] = {
    "truncated": lambda _: checkpoint(saved({"about": "[null, [], null]"}))[:-10],
    "hostile pickle": lambda path: checkpoint(pickle.dumps(Hostile(path))),
    "of another model": lambda _: checkpoint(
        saved({"about": "[[1, 0.0, 0.0], [], null]", "model": {}, "optimizer": {}})
    ),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_used_is_not_executed_and_the_run_begins_anew(
    whole: Path, tmp_path: Path, kind: str
) -> None:
    spec = tiny.tiny()
    planning.plan([spec], tmp_path)
    folder = RunFolder(tmp_path / planning.identity(spec))
    content = CHECKPOINTS[kind](tmp_path / "executed")
    folder.checkpoint.write_bytes(content)
    (record,) = made([spec], tmp_path)
    assert not (tmp_path / "executed").exists()
    assert folder.path.joinpath("checkpoint.corrupt-1").read_bytes() == content
    assert not folder.checkpoint.exists()
    first, second = record.notes
    assert first.startswith("checkpoint not usable (")
    assert first.endswith("): set aside as checkpoint.corrupt-1, begun anew")
    assert second == "checkpoint.corrupt-1 was set aside as corrupt"
    kept, expected = (read_record(root / folder.id / "record.json") for root in (tmp_path, whole))
    assert tiny.timeless(kept) == tiny.timeless(expected)


def test_a_disk_that_is_full_at_the_record_fails_the_run_which_is_made_later(
    tmp_path: Path, small_disk: Path
) -> None:
    spec = tiny.filling(tmp_path, small_disk)
    (record,) = made([spec], small_disk / "runs")
    assert record.status == "failed"
    folder = RunFolder(small_disk / "runs" / record.id)
    full = f"No space left on device: '{folder.record.resolve()}'"
    assert record.reason == f"OSError: [Errno 28] {full}"
    assert record.notes == ("not kept on disk: No space left on device",)
    assert not folder.record.exists()
    assert not list(folder.path.glob(".*.tmp-*"))
    (small_disk / "filler").unlink()
    (again,) = made([spec], small_disk / "runs")
    assert [again.id, again.status, again.attempt] == [record.id, "done", 2]


def test_a_disk_that_is_full_at_a_checkpoint_costs_the_checkpoint_only(
    tmp_path: Path, small_disk: Path
) -> None:
    clear = "if step == 8:\n    disk.joinpath('filler').unlink()\n"
    spec = tiny.filling(tmp_path, small_disk, forward=clear, checkpoints=-1)
    (record,) = made([spec], small_disk / "runs")
    assert record.status == "done"
    assert record.notes == ("a checkpoint could not be written: No space left on device",)

"""Records on disk: whole or not there."""

import math
import os
import shutil
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from bad_files import hollow

from rulekeep.records.pack import packed
from rulekeep.records.store import (
    CorruptRecordError,
    read_record,
    read_runs,
    write_bytes,
    write_files,
    write_record,
)

RECORD = {"a": 1.5, "b": [None, "ü\udcff", {"c": True}], "z": [math.inf, -math.inf, -0.0]}


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path / "r.json", RECORD)
    assert read_record(tmp_path / "r.json") == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"\0" * 100, b"[" * 100_000, b'{"checksum": ' + b"9" * 5000 + b"}", b"\xff\xfe",
        b"[]", b"{}", b"null",
    ],
    ids=["empty", "nuls", "nested", "huge integer", "not utf-8", "a list", "no checksum", "null"],
)  # fmt: skip
def test_what_is_no_record_is_said_in_one_line(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(damage)
    with pytest.raises(CorruptRecordError) as error:
        read_record(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("r.json: ")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/r\.json'"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_any_flipped_bit_is_found_or_changes_nothing_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_record(path, RECORD)
    whole = path.read_bytes()
    found = 0
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert read_record(path) == RECORD
        except CorruptRecordError:
            found += 1
    assert found > 8 * len(whole) * 0.99


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.slow
@pytest.mark.parametrize("before", [None, {"old": 1}], ids=["no record before", "one before"])
def test_a_kill_at_any_line_of_the_write_leaves_the_old_record_or_the_new(
    tmp_path: Path, before: dict | None
) -> None:
    path = tmp_path / "r.json"
    states, lines = [], 0
    while True:
        lines += 1
        path.unlink(missing_ok=True)
        if before is not None:
            write_record(path, before)
        pid = os.fork()
        if pid == 0:
            _write_and_die(path, lines)
        _, status = os.waitpid(pid, 0)
        states.append(read_record(path) if path.exists() else None)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    change = states.index(RECORD)
    assert states == [before] * change + [RECORD] * (len(states) - change)
    # There were lines before the change, and lines after it.
    assert 10 < change < len(states) - 3


def _write_and_die(path: Path, lines: int) -> None:
    left = lines

    def trace(frame, event, _):
        nonlocal left
        if not frame.f_code.co_filename.endswith("store.py"):
            return None
        if event == "line":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    try:
        sys.settrace(trace)
        write_record(path, RECORD)
        sys.settrace(None)
    except BaseException:
        os._exit(1)
    os._exit(0)


def test_content_is_on_the_disk_before_its_name_is_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    fsync, replace = os.fsync, Path.replace

    def flushed(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("folder" if is_folder else "content")
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        done.append("name")
        return replace(path, target)

    monkeypatch.setattr("os.fsync", flushed)
    monkeypatch.setattr("pathlib.Path.replace", renamed)
    write_record(tmp_path / "r.json", RECORD)
    assert done == ["content", "name", "folder"]


@pytest.mark.parametrize("together", [False, True])
def test_what_is_asked_to_end_finishes_writing_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    class AskedError(Exception):
        pass

    def ask(*_: object) -> None:
        raise AskedError

    def write() -> None:
        if together:
            write_files(tmp_path, {"a": b"1", "b": b"2"})
        else:
            write_bytes(tmp_path / "a", b"1")

    monkeypatch.setattr("os.fsync", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, ask)
    try:
        with pytest.raises(AskedError):
            write()
    finally:
        signal.signal(signal.SIGTERM, before)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == ({"a": b"1", "b": b"2"} if together else {"a": b"1"})


TEST = {"split": "test", "context": 64}
ASKED = {"task": "recite", "mixer": "delta", "context": 64, "seed": 1}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a score": ({"evaluations": [{**TEST, "retention": 1.7}]}, "retention 1.7: must be"),
    "no score": ({"evaluations": [{**TEST, "exact": math.nan}]}, "exact nan: must be"),
    "chance": ({"evaluations": [{**TEST, "chance": 3}]}, "no record ("),
    "a part": (
        {"evaluations": [{**TEST, "retention_by_step": [{"step": 0, "retention": 2}]}]},
        "evaluations.0.parts.step.0.retention 2: ",
    ),
    "a name that steers a terminal": (
        {"spec": {**ASKED, "task_options": {"\x1b[2J\nrulekeep: all fine": []}}},
        "spec.task_options.",
    ),
    "an answer": (
        {"choices": [{"compress": "none", "split": "test", "prompt": 1, "family": "f",
                      "rank": 0, "option": 2, "scores": [0.0, 1.0]}]},
        "option 2: there are 2 scores",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), WRONG.values(), ids=WRONG)
def test_a_record_with_a_wrong_value_is_left_out_and_said(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = hollow(tmp_path, **{"spec": tiny.tiny(), **changes})
    kept = read_runs(tmp_path)
    assert kept.records == []
    (note,) = kept.notes
    assert note.startswith(f"run made-up: record.json: {said}")
    assert note.endswith("; left out")
    assert len(note) < 300
    # Packed, it is the same.
    (tmp_path / "records.jsonl").write_bytes(packed([read_record(path / "record.json")]))
    shutil.rmtree(path)
    assert read_runs(tmp_path).notes == [note.replace("record.json: ", "records.jsonl: ")]

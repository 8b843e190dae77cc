import json
from pathlib import Path

import pytest

from rulekeep.store import CorruptRecordError, read_record, set_aside, write_bytes, write_record

RECORD = {"a": 1.5, "b": [None, "ü", {"c": True}], "z": float("inf")}


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path / "r.json", RECORD)
    assert read_record(tmp_path / "r.json") == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0" * 100,
        b"[" * 100_000,
        b'{"checksum": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
    ],
    ids=["empty", "nuls", "nested", "huge integer", "not utf-8", "a list", "no checksum", "null"],
)
def test_what_is_no_record_is_said_in_one_line(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(damage)
    with pytest.raises(CorruptRecordError) as error:
        read_record(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("r.json: ")


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_truncated_record_is_corrupt(tmp_path: Path, at: float) -> None:
    path = tmp_path / "r.json"
    write_record(path, RECORD)
    path.write_bytes(path.read_bytes()[: int(at * path.stat().st_size)])
    with pytest.raises(CorruptRecordError):
        read_record(path)


def test_an_altered_figure_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_record(path, RECORD)
    body = json.loads(path.read_text())
    body["a"] = 1.6
    path.write_text(json.dumps(body))
    with pytest.raises(CorruptRecordError, match="checksum does not match"):
        read_record(path)


def test_corrupt_files_are_set_aside_under_free_names(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        path = tmp_path / "r.json"
        path.write_text(str(number))
        assert set_aside(path).name == f"r.json.corrupt-{number}"
    assert (tmp_path / "r.json.corrupt-2").read_text() == "2"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]

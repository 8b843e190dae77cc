"""A folder of records as one file: nothing is lost, and what is damaged is said and left out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from report_records import ENVIRONMENT, record

from rulekeep import sweep
from rulekeep.records.pack import PACKED, packed, unpacked
from rulekeep.store import packed_values, read_record, read_runs, unpack_run, write_record

Values = dict[str, Any]


def values(name: str, **changes: Any) -> Values:
    """What a record's file holds."""
    return {**record(), "id": name, "source": "0", **changes}


def ours(folder: Path, records: list[Values]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PACKED).write_bytes(packed(records))
    return folder


def read(folder: Path) -> tuple[list[Values], list[str]]:
    notes: list[str] = []
    return list(unpacked(folder / PACKED, notes)), notes


def live(folder: Path, name: str, **changes: Any) -> None:
    (folder / name).mkdir(parents=True)
    write_record(folder / name / "record.json", values(name, **changes))


scalars = st.sampled_from([None, True, 0, 1, 0.5, -7e-300, float("inf"), "", "=", "ü\n"])
keys = st.sampled_from(["step", "loss", "by_position", "a long name of a figure in a table"])
# Rows of the same keys, rows of other ones, and what several records share.
anything = st.recursive(
    scalars, lambda one: st.lists(one, max_size=4) | st.dictionaries(keys, one, max_size=3)
)


@given(st.lists(st.dictionaries(keys, anything), max_size=4))
def test_what_is_read_again_is_what_was_packed(
    tmp_path_factory: pytest.TempPathFactory, records: list[Values]
) -> None:
    folder = ours(tmp_path_factory.mktemp("packed"), records)
    found, notes = read(folder)
    assert notes == []
    # The order of the keys of rows as well, which equality does not see.
    assert json.dumps(found) == json.dumps(records)


def test_rows_become_columns_and_every_column_comes_back(tmp_path: Path) -> None:
    rows = [{"step": at, "train_loss": at / 7, "train_seconds": 0.1 * at} for at in range(1, 40)]
    one = values("one", history=rows)
    text = packed([one]).decode()
    assert text.count('"train_loss"') == text.count('"step"') == 1
    assert read(ours(tmp_path, [one])) == ([one], [])


def test_what_records_share_is_written_once_and_each_gets_its_own_back(tmp_path: Path) -> None:
    there = {**ENVIRONMENT, "cpu": "another processor"}
    records = [
        values(f"{number}", environment=ENVIRONMENT if number % 2 else there) for number in range(6)
    ]
    text = packed(records).decode()
    assert (text.count("a processor"), text.count("another processor")) == (1, 1)
    found, notes = read(ours(tmp_path, records))
    assert (found, notes) == (records, [])
    assert [one["environment"]["cpu"] for one in found[:2]] == ["another processor", "a processor"]


def _changed(line: Values) -> None:
    line["seed_of_nothing"] = 1


def _shorter(line: Values) -> None:
    line["history"]["columns"]["step"].pop()


def _unnamed(line: Values) -> None:
    line["environment"] = {"=": "nothing of this name"}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_changed, "its checksum does not match its content"),
        (lambda line: line.pop("checksum"), "no checksum in it"),
        (_shorter, "columns of unlike lengths"),
        (_unnamed, "not readable as a record"),
    ],
    ids=["changed", "no checksum", "a shorter column", "a name of nothing"],
)
def test_a_damaged_line_is_said_and_costs_no_other(
    tmp_path: Path, damage: Callable[[Values], Any], said: str
) -> None:
    history = [{"step": 1, "val_loss": 1.0}, {"step": 2, "val_loss": 0.5}]
    records = [values(name, history=history) for name in ("one", "two")]
    ours(tmp_path, records)
    head, first, second = (tmp_path / PACKED).read_text().splitlines()
    spoilt = json.loads(first)
    spoilt["history"] = {"columns": {"step": [1, 2], "val_loss": [1.0, 0.5]}}
    damage(spoilt)
    (tmp_path / PACKED).write_text("\n".join([head, json.dumps(spoilt), second]) + "\n")
    assert read(tmp_path) == ([records[1]], [f"{PACKED}, line 2: {said}: left out"])
    assert [one.id for one in read_runs(tmp_path).records] == ["two"]


def test_a_packed_folder_is_read_as_the_folder_was(
    run: Callable[..., tuple[int, bytes, str]], tmp_path: Path
) -> None:
    for seed, name in enumerate(("one", "two")):
        live(tmp_path / "runs", name, spec=record("delta", seed)["spec"])
    code, _, errors = run("pack", "runs", "--out", "all")
    assert code == 0, errors
    assert [path.name for path in (tmp_path / "all").iterdir()] == [PACKED]
    assert read_runs(tmp_path / "all") == read_runs(tmp_path / "runs")


def test_a_run_that_stands_in_a_folder_of_its_own_is_read_there(tmp_path: Path) -> None:
    """It was gone on with after it was packed."""
    ours(tmp_path, [values("one", attempt=1), values("two", attempt=1)])
    live(tmp_path, "one", attempt=2)
    found = {one.id: one.attempt for one in read_runs(tmp_path).records}
    assert found == {"one": 2, "two": 1}
    assert len(read_runs(tmp_path).records) == 2


def test_a_packed_run_gets_a_folder_that_holds_what_was_packed(tmp_path: Path) -> None:
    records = [values("one", former_id="before"), values("two")]
    ours(tmp_path, records)
    for name, expected in (("before", records[0]), ("two", records[1])):
        folder = unpack_run(tmp_path, name)
        assert folder is not None
        assert (folder.id, read_record(folder.record)) == (expected["id"], expected)
    assert unpack_run(tmp_path, "three") is None


def test_a_packed_result_is_not_made_again(tmp_path: Path) -> None:
    specs = [tiny.tiny(seed=seed) for seed in (1, 2)]
    done, other = map(sweep.identity, specs)
    ours(tmp_path, [values(done), values(other, status="killed")])
    planned = sweep.plan(specs, tmp_path)
    assert ([one.id for one in planned.finished], [job.id for job in planned.jobs]) == (
        [done], [other],
    )  # fmt: skip


def test_a_packed_file_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    ours(tmp_path, [values("one")])
    assert len(packed_values(tmp_path, [])) == 1
    ours(tmp_path, [values("one"), values("two")])
    assert len(packed_values(tmp_path, [])) == 2

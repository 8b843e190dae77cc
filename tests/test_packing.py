"""A finished folder as one file: nothing is lost, and whatever reads a folder reads it."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Command
from report_records import record as made_up
from report_records import typed, written

from rulekeep.analysis.table import merged, tabulated
from rulekeep.records.pack import PACKED, checksum, packed, unpacked
from rulekeep.records.store import (
    FORMER_IDS,
    former_ids,
    read_record,
    read_runs,
    results,
    write_record,
)
from rulekeep.running.building import resolve
from rulekeep.sweeps import planning

SPECS = [tiny.tiny(seed=seed) for seed in (1, 2)]


def finished(root: Path, **changes: Any) -> list[dict[str, Any]]:
    """A folder of two runs that say they are done, under their own ids."""
    found = []
    for spec in SPECS:
        made = resolve(spec)
        values = {
            **made_up(seed=spec.seed), "id": made.id,
            "kind": "run", "asked": made.asked, "versions": dict(made.versions),
            "spec": made.spec.model_dump(mode="json"), "source": made.source, "notes": [],
            **changes,
        }  # fmt: skip
        written(root, values)
        found.append(values)
    former = {f"{one['spec']['seed']:016x}": one["id"] for one in found}
    write_record(root / FORMER_IDS, former)
    return found


@pytest.fixture
def folder(tmp_path: Path, run: Command) -> Path:
    """A packed folder beside the folder of runs that it was made of."""
    finished(tmp_path / "runs")
    code, output, _ = run("pack", "runs", "--out", "small")
    assert (code, output.decode().split(":")[0]) == (0, "2 records")
    return tmp_path / "small"


def values_of(path: Path) -> list[dict[str, Any]]:
    notes: list[str] = []
    found = list(unpacked(path, notes))
    assert notes == []
    return found


# Some are words of the packed form.
NAMES = ["k", "columns", "shared", "=", "==", "=columns", "=shared", "checksum", "=k", ""]


def drawn(stream: random.Random, depth: int = 0) -> Any:
    """Any value that JSON has, with rows of like keys and parts that come again."""
    kind = stream.randrange(9 if depth < 3 else 5)
    if kind < 5:
        return stream.choice([None, True, 0.1, -3, 1e300, math.inf, "text", "ü\udcff", ""])
    if kind == 5:
        names = stream.sample(NAMES, stream.randrange(4))
        return {name: drawn(stream, depth + 1) for name in names}
    if kind == 6:
        return [drawn(stream, depth + 1) for _ in range(stream.randrange(4))]
    if kind == 7:
        keys = stream.sample(NAMES, stream.randrange(1, 4))
        return [
            {key: drawn(stream, depth + 1) for key in keys} for _ in range(stream.randrange(2, 5))
        ]
    return {"environment": {"cpu": "a processor of a long name", "torch": "2.13.0+cpu", "n": 1}}


@pytest.mark.parametrize("seed", range(30))
def test_packing_loses_nothing(tmp_path: Path, seed: int) -> None:
    stream = random.Random(seed)
    names = [name for name in NAMES if name != "checksum"]
    records = [
        {name: drawn(stream) for name in stream.sample(names, stream.randrange(1, 6))}
        for _ in range(8)
    ]
    # A later row has a key more.
    records.append({"k": [{"columns": 1}, {"columns": 2, "=": 3}]})
    path = tmp_path / PACKED
    path.write_bytes(packed(records))
    found = values_of(path)
    assert found == records
    # To the order of keys and the last bit, as their checksums say.
    assert [json.dumps(one) for one in found] == [json.dumps(one) for one in records]
    assert list(map(checksum, found)) == list(map(checksum, records))


def test_any_altered_line_is_found_and_the_others_are_read(tmp_path: Path) -> None:
    records = finished(tmp_path / "runs")
    head, first, second = packed(records).splitlines(keepends=True)
    path = tmp_path / PACKED
    for spoilt in (first[:100], first.replace(b'"done"', b'"diverged"'), b"[]", b"null", b"\xff"):
        path.write_bytes(head + spoilt.rstrip(b"\n") + b"\n" + second)
        notes: list[str] = []
        assert list(unpacked(path, notes)) == records[1:]
        (note,) = notes
        assert note.startswith("records.jsonl, line 2: ")
        assert note.endswith("; left out")


def test_a_packed_folder_is_read_as_the_folder_was(folder: Path) -> None:
    before, after = read_runs(folder.parent / "runs"), read_runs(folder)
    assert (before.records, before.notes) == (after.records, after.notes)
    assert results(folder.parent / "runs") == results(folder)


@pytest.mark.parametrize(("diverge", "code"), [(1, 0), (2, 1)])
def test_a_sweep_fails_where_all_of_its_runs_diverged(
    tmp_path: Path, run: Command, diverge: int, code: int
) -> None:
    for values in finished(tmp_path / "runs")[:diverge]:
        write_record(
            tmp_path / "runs" / values["id"] / "record.json", {**values, "status": "diverged"}
        )
    found, output, _ = run("sweep", tiny.sweep_file(tmp_path, SPECS), "--out", "runs")
    assert found == code
    assert f"(2 of 2 runs finished, {diverge} diverged)" in output.decode()
    # A run alone is a sweep of one.
    file = tiny.sweep_file(tmp_path, SPECS[:1], "alone")
    assert run("sweep", file, "--out", "runs")[0] == 1


def test_a_packed_run_is_not_made_again(folder: Path) -> None:
    planned = planning.plan(SPECS, folder)
    assert ([one.id for one in planned.finished], planned.jobs) == (
        [resolve(spec).id for spec in SPECS], []
    )  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {PACKED, FORMER_IDS}


def test_a_run_that_stands_in_a_folder_too_is_read_from_there(folder: Path) -> None:
    one = resolve(SPECS[0]).id
    values = read_record(folder.parent / "runs" / one / "record.json")
    (folder / one).mkdir()
    write_record(folder / one / "record.json", {**values, "reason": "read here"})
    assert sorted(record.reason for record in read_runs(folder).records) == ["", "read here"]


def test_a_packed_file_that_is_written_anew_is_read_anew(folder: Path) -> None:
    assert len(read_runs(folder).records) == 2
    records = values_of(folder / PACKED)
    (folder / PACKED).write_bytes(packed(records[:1]))
    assert len(read_runs(folder).records) == 1


def test_verify_reads_a_packed_folder(folder: Path, run: Command) -> None:
    code, output, _ = run("verify", "small")
    assert code == 0
    assert output.decode() == "2 records whole, 0 broken, 0 runs without a record\n"
    path = folder / PACKED
    path.write_bytes(path.read_bytes().replace(b'"done"', b'"gone"', 1))
    code, output, errors = run("verify", "small")
    assert code == 1
    assert "1 record whole, 1 broken" in output.decode()
    assert "records.jsonl, line 2: its checksum does not match its content" in errors


@pytest.mark.parametrize(("by", "letters"), [("id", 16), ("id", 4), ("former", 16)])
def test_a_run_is_found_by_its_id_and_by_the_one_it_had(
    folder: Path, run: Command, by: str, letters: int
) -> None:
    (values, _) = values_of(folder / PACKED)
    former = next(old for old, new in former_ids(folder).items() if new == values["id"])
    code, output, _ = run("list", (former if by == "former" else values["id"])[:letters])
    assert code == 0
    said = output.decode()
    assert f"run        {values['id']} (formerly {former})" in said
    assert f"source     {values['source']}" in said
    assert "versions   protocol 1, recite 1, gru 1" in said
    assert "cpu a processor" in said


def test_trainings_of_two_versions_are_not_merged_and_a_later_option_parts_none() -> None:
    first = {**made_up("delta", 1), "versions": {"delta": 1}, "asked": {"mixer": "delta"}}
    first["spec"] = {**first["spec"], "mixer_options": {"heads": 4}}
    # As a later release writes it: one option more, at its default.
    later = {**first, "id": "later"}
    later["spec"] = {**first["spec"], "mixer_options": {"heads": 4, "brand_new": 7}}
    assert len(merged(typed([first, later]))) == 1
    assert {run.label for run in tabulated(typed([first, later]))[0]} == {"delta"}
    assert len(merged(typed([first, {**later, "versions": {"delta": 2}}]))) == 2

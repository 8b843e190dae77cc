"""Records under present names: the committed ones, and a folder that `tools/rename.py` mends."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from report_records import record as made_up
from scripts import script

from rulekeep.mixers import MIXERS
from rulekeep.records import Record
from rulekeep.records.folders import runs_of_id
from rulekeep.records.identity import identify
from rulekeep.records.pack import PACKED, packed
from rulekeep.records.store import former_ids, read_runs, write_record
from rulekeep.records.weights import check_weights
from rulekeep.registry import options_of
from rulekeep.running.weights import save_weights
from rulekeep.sweeps.planning import resolve_any

RESULTS = Path(__file__).parents[1] / "results"
FOLDERS = sorted(path.parent.name for path in RESULTS.glob("*/records.jsonl"))
rename = script("rename")
FORMER = {
    "task": "rulekeep.mixed_recall:MixedRecall",
    "mixer": "sparse_delta",
    "mixer_options": {"toll": 0, "gate_taps": 1, "slack": 0},
    "dev_examples": 64,
    "context": 256,
}
PRESENT = {
    "task": "rulekeep.tasks.mixed_recall:MixedRecall",
    "mixer": "sparse_delta",
    "mixer_options": {
        "gate_penalty": 0, "gate_kernel": 1, "gate_stretch": 0, "short_convolution": False
    },
    "validation_examples": 64,
    "context": 256,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_committed_record_resolves_to_its_own_id(folder: str) -> None:
    first: dict[str, Record] = {}
    for record in read_runs(RESULTS / folder).records:
        assert identify(record.spec.kind, record.asked, record.versions) == record.id
        # A language model is no part of the repository, nor are packages of compactors.
        outside = f"{record.spec.rest.get('reader', '')}{record.spec.rest.get('compactor', '')}"
        if record.spec.kind != "language" and "/" not in outside and "SmolLM" not in outside:
            first.setdefault(
                json.dumps([record.spec.mixer, record.spec.task, *record.asked]), record
            )
    # Of each mixer and task the first.
    for record in first.values():
        assert resolve_any(record.spec.parsed()).id == record.id


def test_no_id_is_another_runs_former_id() -> None:
    former = {old: new for name in FOLDERS for old, new in former_ids(RESULTS / name).items()}
    present = {run.id for name in FOLDERS for run in read_runs(RESULTS / name).records}
    assert not former.keys() & present
    assert {*former.values()} <= present


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_committed_record_is_under_present_names(folder: str) -> None:
    read = rename.read(RESULTS / folder)
    assert read.lines == [*rename.unpacked(RESULTS / folder / PACKED, [])]


def run(asked: dict[str, Any], **versions: int) -> dict[str, Any]:
    """A record of a run, as it was made when this was asked for."""
    values = {**made_up(), "kind": "run", "asked": asked, "versions": {"protocol": 1, **versions}}
    values["spec"] = {**values["spec"], "mixer_options": {}, **asked}
    return {**values, "id": identify("run", asked, values["versions"])}


SHORT = "short_convolution"


@pytest.mark.parametrize(
    ("asked", "version", "now"),
    [
        # The default of before is written out, and that of now left out.
        ({"mixer": "sparse_delta"}, 1,
         {"mixer": "sparse_delta", "mixer_options": {SHORT: False}}),
        ({"mixer": "sparse_delta", "mixer_options": {SHORT: True, "heads": 2}}, 1,
         {"mixer": "sparse_delta", "mixer_options": {"heads": 2}}),
        ({"mixer": "sparse_delta"}, 2, {"mixer": "sparse_delta"}),
        ({"mixer": "delta+sparse_delta"}, 1,
         {"mixer": "delta+sparse_delta", "mixer_options": {f"sparse_delta.{SHORT}": False}}),
    ],
)  # fmt: skip
def test_a_record_of_before_is_that_under_present_names_once(
    asked: dict[str, Any], version: int, now: dict[str, Any]
) -> None:
    versions = {name: version for name in asked["mixer"].split("+") if name != "delta"}
    made = rename.present(run(asked, **versions))
    assert made["asked"] == now
    assert made["id"] == identify("run", now, made["versions"])
    assert rename.present(made) == made


def test_the_table_of_changed_defaults_has_the_present_ones() -> None:
    for mixer, default in rename.DEFAULTS.items():
        option = options_of(MIXERS[mixer]).model_fields[default.option]
        assert option.default == default.since != default.before
        assert MIXERS[mixer].version >= default.version


def test_a_folder_of_before_is_mended_and_read_by_its_former_ids(tmp_path: Path) -> None:
    unpacked, in_file = run({**FORMER, "seed": 2}, sparse_delta=1), run(FORMER, sparse_delta=1)
    first = {**in_file, "former_id": "00112233445566ff"}
    (tmp_path / PACKED).write_bytes(packed([first]))
    folder = tmp_path / unpacked["id"]
    folder.mkdir()
    model = torch.nn.Linear(2, 2)
    unpacked["weights"] = save_weights(
        folder / "weights.safetensors", model, run=unpacked["id"], step=3
    )
    write_record(folder / "record.json", unpacked)
    plan = {key: unpacked[key] for key in ("kind", "spec", "asked", "versions")}
    write_record(folder / "plan.json", plan)
    write_record(folder / "explain.json", {"kind": "explain", "run": unpacked["id"]})
    for _ in range(2):
        rename.main([tmp_path])
        kept = read_runs(tmp_path)
        assert kept.notes == []
        ids = {record.spec.seed: record.id for record in kept.records}
        for former, new in (
            (unpacked["id"], ids[2]), (in_file["id"], ids[1]), ("00112233445566ff", ids[1])
        ):  # fmt: skip
            ((root, found),) = runs_of_id(former, [tmp_path])
            assert (root, found.id) == (tmp_path, new)
        place = tmp_path / ids[2]
        assert not folder.exists()
        assert json.loads((place / "explain.json").read_text())["run"] == ids[2]
        assert json.loads((place / "plan.json").read_text())["asked"] == {**PRESENT, "seed": 2}
        check_weights(place / "weights.safetensors", unpacked["weights"])
        assert f'"run":"{ids[2]}"'.encode() in (place / "weights.safetensors").read_bytes()


def test_a_damaged_folder_is_left_as_it_is(tmp_path: Path) -> None:
    content = packed([run(FORMER, sparse_delta=1)]).replace(b'"done"', b'"gone"')
    (tmp_path / PACKED).write_bytes(content)
    with pytest.raises(SystemExit, match="checksum does not match"):
        rename.main([tmp_path])
    assert (tmp_path / PACKED).read_bytes() == content

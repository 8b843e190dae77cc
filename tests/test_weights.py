"""A run's weights are kept whole, or not at all, and give its figures again."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tiny
import torch
from safetensors.torch import load_file, save_file
from test_faults import Hostile, saved
from torch import nn

from rulekeep.records.store import RunFolder, read_record, write_record
from rulekeep.records.weights import TYPES, check_weights
from rulekeep.running import run as running
from rulekeep.running.building import resolve
from rulekeep.running.model_figures import validate
from rulekeep.running.retest import add_tests
from rulekeep.running.training import build
from rulekeep.running.weights import WeightsError, digest, load_weights, save_weights, weights_of
from rulekeep.specs import RunSpec, UsageError
from rulekeep.specs.run import RetestSpec
from rulekeep.sweeps import planning

SPEC = tiny.tiny(test_contexts=[64], long_test_examples=3)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.finish(tmp_path_factory.mktemp("runs") / "done", SPEC)


@pytest.fixture
def finished(made_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_once, tmp_path / "runs" / made_once.name))


def add_lengths(folder: Path, *contexts: int, examples: int | None = None) -> list[str]:
    job = RetestSpec(folder=str(folder), contexts=contexts, examples=examples, command="a command")
    return add_tests(job, lambda _: None)


def refusal(folder: Path, *contexts: int) -> str:
    with pytest.raises(UsageError) as refused:
        add_lengths(folder, *contexts)
    return str(refused.value)


# What is kept.


def test_a_run_keeps_weights_that_give_its_last_look_again(made_once: Path) -> None:
    record = read_record(made_once / "record.json")
    path = RunFolder(made_once).weights
    assert path.stat().st_size < 2**20
    resolved = resolve(RunSpec.parse(**record["spec"]))
    model = build(resolved)
    before = validate(model, resolved)
    load_weights(path, model, run="done", step=12, sha256=record["weights"])
    look = validate(model, resolved)
    assert look != before
    assert look == {name: record["history"][-1][name] for name in look}
    assert digest(load_file(path)) == record["weights"]


def test_a_run_that_is_told_to_keeps_no_weights(tmp_path: Path) -> None:
    (record,) = tiny.made([SPEC], tmp_path / "runs", weights=False)
    assert record.weights is None
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.core
@pytest.mark.parametrize("after", [0, 4])
def test_a_run_that_diverged_keeps_no_weights_not_even_older_ones(
    tmp_path: Path, after: int
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights.safetensors").write_bytes(b"of a record that is gone")
    spoils = f"y = y * float('nan') if torch.is_grad_enabled() and next(calls) >= {after} else y"
    mixer = tiny.plugin(tmp_path, "late", "import itertools\ncalls = itertools.count()", spoils)
    record = running.run(
        resolve(tiny.tiny(mixer=mixer)), RunFolder(tmp_path / "a"), lambda _: None, lambda *_: None
    )
    steps = record["costs"]["steps"]
    assert (record["status"], record["weights"], steps > 0) == ("diverged", None, after > 0)
    assert list((tmp_path / "a").glob("*.safetensors")) == []


# What is wrong with a file.


def _header(content: bytes, changed: Callable[[dict[str, Any]], None]) -> bytes:
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    changed(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def _turn(header: dict[str, Any]) -> None:
    tensor = next(one for one in header.values() if len(set(one.get("shape", ()))) > 1)
    tensor["shape"].reverse()


DAMAGE: dict[str, tuple[Callable[[bytes, Path], bytes], str]] = {
    "truncated": (lambda content, _: content[:-5], "damaged ("),
    "a flipped bit": (lambda content, _: content[:-1] + bytes([content[-1] ^ 1]), "its hash does"),
    "a turned shape": (lambda content, _: _header(content, _turn), "damaged (its hash does"),
    "a pickle": (lambda _, path: saved(Hostile(path)), "damaged ("),
    "another run's": (
        lambda content, _: _header(content, lambda h: h["__metadata__"].update(run="b\n")),
        r"of run 'b\n' after '12' steps, not of 'done' after 12",
    ),
    "of an earlier step": (
        lambda content, _: _header(content, lambda h: h["__metadata__"].update(step="4")),
        "after '4' steps",
    ),
}


@pytest.mark.core
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_or_foreign_weights_are_one_line_and_never_executed(
    finished: Path, tmp_path: Path, damage: str
) -> None:
    spoil, message = DAMAGE[damage]
    path = RunFolder(finished).weights
    path.write_bytes(spoil(path.read_bytes(), tmp_path / "executed"))
    before = (finished / "record.json").read_bytes()
    refused = refusal(finished, 96)
    assert message in refused
    assert "\n" not in refused
    assert "let rulekeep explain" in refused
    assert (finished / "record.json").read_bytes() == before
    assert not (tmp_path / "executed").exists()


@pytest.mark.core
def test_weights_of_another_model_or_training_change_nothing(tmp_path: Path) -> None:
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    start = digest(weights_of(one))
    sha256 = save_weights(tmp_path / "w", other, run="a", step=1)
    with pytest.raises(WeightsError, match="its hash is not the one in the record"):
        load_weights(tmp_path / "w", one, run="a", step=1, sha256=start)
    assert digest(weights_of(one)) == start
    with pytest.raises(WeightsError, match="does not fit the model"):
        load_weights(tmp_path / "w", nn.Linear(2, 3), run="a", step=1, sha256=sha256)
    others = {"weight": torch.zeros(2, 3)}
    save_file(others, tmp_path / "w", {"run": "a", "step": "1", "sha256": digest(others)})
    with pytest.raises(WeightsError, match="does not fit the model"):
        load_weights(tmp_path / "w", one, run="a", step=1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("a flipped bit", "damaged (its hash does not match its content)"),
        ("truncated", "damaged (Error while deserializing"),
        ("of another training", "its hash is not the one in the record"),
    ],
)
def test_verify_finds_damaged_weights(
    finished: Path, tmp_path: Path, changed: str, said: str
) -> None:
    assert tiny.rulekeep("verify", "runs", cwd=tmp_path).returncode == 0
    path = RunFolder(finished).weights
    if changed in DAMAGE:
        path.write_bytes(DAMAGE[changed][0](path.read_bytes(), tmp_path))
    else:
        save_weights(path, nn.Linear(2, 3), run=finished.name, step=12)
    done = tiny.rulekeep("verify", "runs", cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"run done: weights.safetensors: {said}")
    assert line.endswith("; rulekeep explain makes it again")
    assert done.returncode == 1


def test_the_hash_of_a_file_is_that_of_its_tensors_in_every_type(tmp_path: Path) -> None:
    names = safetensors.torch._TYPES
    assert {name: f"torch.{kind}" for name, kind in TYPES.items()} == {
        name: str(kind) for name, kind in names.items()
    }
    tensors = {name: torch.ones(2, 3).to(kind) for name, kind in names.items()}
    tensors["none"], tensors["one"] = torch.zeros(0, 3), torch.tensor(1)
    sha256 = digest(tensors)
    save_file(tensors, tmp_path / "w", {"sha256": sha256})
    check_weights(tmp_path / "w", sha256)


# rulekeep test.


@pytest.mark.core
@pytest.mark.parametrize(
    "changes",
    [
        {},
        *(
            pytest.param(changes, marks=pytest.mark.slow)
            for changes in (
                {"mixer": "attention", "context": 80, "test_contexts": [80]},
                {"mixer": "sparse_delta+lstm", "layers": 2, "task": "recall", "seed": 3},
                {"mixer": "gated_delta", "precision": "bfloat16", "added_positions": "earliness"},
            )
        ),
    ],
    ids=["gru", "shorter than trained", "hybrid", "bfloat16"],
)
def test_lengths_tested_later_are_those_of_a_run_that_asked_at_once(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    spec = tiny.tiny(**{"long_test_examples": 3, "task_options": {}, **changes})
    longer = (70, 96, 1029)
    at_once = spec.model_copy(update={"test_contexts": (*sorted({*spec.tested, *longer}),)})
    folder = tiny.finish(tmp_path / "later", spec)
    tiny.finish(tmp_path / "once", at_once)
    assert add_lengths(folder, *longer) == []
    later, once = (read_record(tmp_path / name / "record.json") for name in ("later", "once"))
    assert later["evaluations"] == once["evaluations"]
    assert later["costs"]["state_bytes"] == once["costs"]["state_bytes"]
    for record in (later, once):
        assert list(record["costs"]["decode_ms_per_token"]) == list(once["costs"]["state_bytes"])
    # What was trained for stands, and what came later is said.
    assert later["spec"] == resolve(spec).spec.model_dump(mode="json")
    assert [one["context"] for one in later["tested_later"]] == list(longer)
    assert later["tested_later"][0]["command"] == "a command"
    assert later["tested_later"][0]["differences"] == {}
    assert later["tested_later"][0]["environment"]["torch"] == torch.__version__


@pytest.mark.core
def test_a_length_is_tested_again_only_with_more_examples(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (finished / "record.json").read_bytes()
    outcome = add_lengths(finished, 64)
    assert outcome == ["64 tokens: tested already, with 4 examples"]
    assert len(add_lengths(finished, 64, examples=3)) == 1
    assert (finished / "record.json").read_bytes() == before
    assert add_lengths(finished, 64, 96, examples=6) == []
    record = read_record(finished / "record.json")
    rows = [row for row in record["evaluations"] if row["split"] == "test"]
    assert [(row["context"], row["n"]) for row in rows] == [(64, 6), (96, 6)]
    assert len(add_lengths(finished, 64, 96)) == 2
    assert add_lengths(finished, 96, examples=7) == []
    later = read_record(finished / "record.json")["tested_later"]
    assert [one["context"] for one in later] == [64, 96]


def changed(folder: Path, **values: Any) -> dict[str, Any]:
    record = {**read_record(folder / "record.json"), **values}
    write_record(folder / "record.json", record)
    return record


@pytest.mark.core
def test_figures_that_differ_in_rounding_are_said_and_kept_and_others_refused(
    finished: Path,
) -> None:
    record = read_record(finished / "record.json")
    *_, last = record["history"]
    near = last["val_loss"] * (1 + 1e-6)
    changed(finished, history=[*record["history"][:-1], {**last, "val_loss": near}])
    outcome = add_lengths(finished, 96)
    assert outcome[0].startswith("figures are not those of the record to the bit")
    (entry,) = read_record(finished / "record.json")["tested_later"]
    assert entry["differences"] == {"val_loss": [near, last["val_loss"]]}
    changed(finished, history=[*record["history"][:-1], {**last, "val_loss": 9.0}])
    refused = refusal(finished, 72)
    assert "give val_loss" in refused
    assert "where the record has 9.0: the code has changed" in refused
    (finished / "weights.safetensors").unlink()
    assert "no weights were kept" in refusal(finished, 72)


@pytest.mark.usefixtures("undrawn")
def test_the_command_tests_a_run_of_a_sweep_and_the_report_shows_it(tmp_path: Path) -> None:
    tiny.made([SPEC], tmp_path / "runs")
    done = tiny.rulekeep("test", "runs", "--contexts", "80,96", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "          96 " in done.stdout
    assert tiny.rulekeep("verify", "runs", cwd=tmp_path).returncode == 0
    refused = tiny.rulekeep("test", "runs", "--contexts", "3", cwd=tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    shown = tiny.rulekeep("report", "runs", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    text = (tmp_path / "runs" / "report" / "report.md").read_text()
    assert "1 run: tested at 80, 96 tokens after training, by rulekeep test" in text
    # It stands finished: nothing is made again for it.
    assert planning.plan([SPEC], tmp_path / "runs").jobs == []


# A full disk.


@pytest.mark.parametrize("left", [100_000, 175_000], ids=["for the record", "for the weights"])
def test_a_disk_without_room_for_record_and_weights_keeps_the_record_and_says_so(
    tmp_path: Path,
    small_disk: Path,
    left: int,
) -> None:
    # Some 150 KB of weights.
    spec = tiny.filling(tmp_path, small_disk, left, width=64)
    (record,) = tiny.made([spec], small_disk / "runs")
    assert record.status == "done"
    assert record.notes == ("its weights were not kept: No space left on device",)
    assert record.weights is None
    folder = RunFolder(small_disk / "runs" / record.id)
    assert folder.load() == record
    assert not folder.weights.exists()
    assert not list(folder.path.glob(".*.tmp-*"))

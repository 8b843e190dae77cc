"""`rulekeep data --all`: a data set of everything, as `datasets` and the Hub read it."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Command
from pyarrow import parquet

from rulekeep.commands import dataset
from rulekeep.compaction.history import made
from rulekeep.language.families import read_families
from rulekeep.records.store import read_record
from rulekeep.specs import CompactionSpec
from rulekeep.tasks import TASKS, Article

CONFIGS = ["article", "recite", "mqar", "histories", "rules", "agent_rules"]
SPLITS = {"article": ["train", "test"], "recite": ["train", "validation", "test"]}
EXAMPLES = 400


@pytest.fixture
def folder(tmp_path: Path, run: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A few tasks: the certificates take their time.
    monkeypatch.setattr(dataset, "TASKS", {name: TASKS[name] for name in CONFIGS[:3]})
    arguments = ["--format", "parquet", "--n", str(EXAMPLES), "--context", "128", "--out", "all"]
    code, _, error = run("data", "--all", *arguments)
    assert code == 0, error
    return tmp_path / "all"


@pytest.mark.cli
@pytest.mark.slow
def test_the_card_names_every_file_and_its_sum(folder: Path) -> None:
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    configs = yaml.safe_load(head)["configs"]
    assert [one["config_name"] for one in configs] == CONFIGS
    named = {file["path"] for one in configs for file in one["data_files"]}
    assert named == {path.relative_to(folder).as_posix() for path in folder.glob("*/*.parquet")}
    sums = dict(
        reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines()
    )
    assert {*sums} == named
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        assert f"`{digest}`" in text
    # The article's leak is told, and not only kept.
    assert "Not shown for: article" in text.replace(":\n", ": ")


@pytest.mark.cli
@pytest.mark.slow
def test_a_certificate_is_of_the_examples_beside_it(folder: Path) -> None:
    for name in CONFIGS[:3]:
        record = read_record(folder / "certificates" / f"{name}.json")
        table = parquet.read_table(folder / name / "test.parquet")
        assert table.num_rows == (Article.size if name == "article" else EXAMPLES)
        tokens = np.array(table["tokens"].to_pylist(), dtype="<i8")
        data_hash = hashlib.sha256(tokens.tobytes()).hexdigest()
        assert record["contexts"][0]["data_hash"] == data_hash
        shown = (folder / "README.md").read_text().partition("Shown for: ")[2].partition(".")[0]
        assert record["passed"] == (name in shown.split(", "))


@pytest.mark.cli
@pytest.mark.slow
def test_datasets_reads_every_config_offline(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets", reason="needs pip install datasets")
    assert datasets.get_dataset_config_names(str(folder)) == CONFIGS
    found = {name: datasets.load_dataset(str(folder), name) for name in CONFIGS}
    for name, splits in SPLITS.items():
        assert [*found[name]] == splits
    recite = TASKS["recite"]().sample("validation", 128, EXAMPLES)
    assert np.array_equal(found["recite"]["validation"]["tokens"], recite.tokens)
    # As they are made, whatever Arrow adds to what has no value.
    history = found["histories"]["test"][0]
    spec = CompactionSpec(compactor="-", style=history["style"], seed=0)
    own = made(read_families("agents"), spec, 0)
    for row, message in zip(history["messages"], own.messages, strict=True):
        assert {key: row[key] for key in message} == message
    assert [rule["texts"] for rule in history["rules"]] == [[*one.texts] for one in own.rules]
    assert len(history["fresh"]) == spec.rounds
    for config, place in (("rules", ""), ("agent_rules", "agents")):
        families = read_families(place)
        rows = {row.pop("name"): row for row in found[config]["test"]}
        assert {*rows} == {*families}
        for name, row in rows.items():
            check = json.loads(row.pop("check"))
            assert families[name] == type(families[name]).parse(**row, check=check)

"""`rulekeep certify`, `data`, `show` and `check-task`: what they print, write and refuse."""

import hashlib
import io
import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from pyarrow import parquet
from reading import SAMPLED, make
from scripts import script

from rulekeep.checks import certificate
from rulekeep.checks.certificate import certify, draw
from rulekeep.records.store import packed_values, read_record
from rulekeep.tasks import TASKS, Article, Recite

ROOT = Path(__file__).parent.parent
CERTIFICATES = packed_values(ROOT / "results" / "certificates", [])
OUTSIDE = ROOT / "examples" / "outside_task.py"
BACKWARDS = f"{OUTSIDE}:Backwards"


def test_certify_prints_a_table_and_writes_the_record(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = partial(certify, windows=(4,))
    monkeypatch.setattr(certificate, "certify", quick)
    arguments = ["certify", "recite", "--context", "64,96", "--placement", "marked", "--out", "c"]
    code, output, _ = run(*arguments, "--examples", "4000")
    text = output.decode()
    assert code == 0
    assert text.count("passes: every local reader") == 2
    assert "whole context, bag" in text
    (path,) = (tmp_path / "c").iterdir()
    record = read_record(path)
    assert record["passed"]
    assert record["options"]["placement"] == "marked"
    assert [one["context"] for one in record["contexts"]] == [64, 96]
    made = quick(make(Recite, placement="marked"), 64, examples=4000)
    assert record["contexts"][0]["data_hash"] == made.data_hash
    assert record["contexts"][0]["readings"][0]["bound"] == made.readings[0].bound
    assert set(record["environment"]) >= {"numpy", "scipy", "scikit-learn"}
    assert len(record["source"]) == 12


def test_certify_fails_the_article_with_the_known_figures(run, tmp_path: Path) -> None:
    code, output, _ = run("certify", "article", "--out", "c")
    assert code == 1
    for figure in ("0.875", "0.781", "1.000", "0.562"):
        assert output.decode().count(figure) >= 4
    record = read_record(next((tmp_path / "c").iterdir()))
    assert not record["passed"]
    assert record["contexts"][0]["retention"] == 0.5625


LEAKING = """
from rulekeep.tasks import Recite
class Leak(Recite):
    def _block(self, split, context, n, streams):
        sample = super()._block(split, context, n, streams)
        sample.tokens[:, sample.answer_start - 2] = sample.tokens[:, sample.answer_start]
        return sample
"""


def test_certify_fails_a_leaking_task_of_ones_own(run, tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(LEAKING)
    code, output, _ = run("certify", "leak.py:Leak", "--context", "64", "--examples", "1000")
    assert code == 1
    assert "FAILS: last" in output.decode()
    code, output, _ = run("check-task", "leak.py:Leak", "--examples", "1000")
    assert code == 1
    assert "FAIL  readers without memory stay at chance" in output.decode()


KEYS = [
    "tokens", "answer_start", "rule_positions", "first_mention_positions", "item_positions",
    "instruction_positions", "decoy_positions", "chance", "chance_per_position",
]  # fmt: skip


@pytest.mark.parametrize("task", SAMPLED)
def test_jsonl_says_what_the_sample_says(run, task) -> None:
    code, output, errors = run(
        "data", task.name, "--context", "100", "--n", "30", "--rules", "3", "--seed", "5"
    )
    assert code == 0
    sample = make(task, rules=3).sample("test", 100, 30, seed=5)
    lines = [json.loads(line) for line in output.splitlines()]
    assert len(lines) == 30
    assert np.array_equal([line["tokens"] for line in lines], sample.tokens)
    for i, line in enumerate(lines):
        assert list(line) == KEYS
        start = line["answer_start"]
        for key, mask in (("rule", sample.rule), ("first_mention", sample.first_mention),
                          ("item", sample.item)):  # fmt: skip
            assert line[f"{key}_positions"] == (np.flatnonzero(mask[i]) + start).tolist()
        assert line["decoy_positions"] == np.flatnonzero(sample.decoys[i]).tolist()
        assert line["instruction_positions"] == np.flatnonzero(sample.instructions[i]).tolist()
        first = np.array(line["first_mention_positions"]) - start
        chances = np.array(line["chance_per_position"])
        assert line["chance"] == pytest.approx(chances[first].mean())
    data_hash = hashlib.sha256(sample.tokens.astype("<i8").tobytes()).hexdigest()
    assert data_hash in errors


def test_parquet_holds_the_same_and_comes_out_the_same_again(run, tmp_path: Path) -> None:
    arguments = ["data", "override", "--context", "96", "--n", "300"]
    _, output, errors = run(*arguments)
    contents = []
    for _ in range(2):
        code, _, said = run(*arguments, "--format", "parquet", "--out", "file")
        assert (code, said) == (0, errors)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        contents.append((tmp_path / "file").read_bytes())
    assert contents[0] == contents[1]
    table = parquet.read_table(io.BytesIO(contents[0]))
    assert table.to_pylist() == [json.loads(line) for line in output.splitlines()]
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert (about["task"], about["seed"], about["version"]) == ("override", "0", "1")
    assert about["vocabulary"].split() == list(make(TASKS["override"]).vocabulary)


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    arguments = ["data", "recite", "--context", "4096", "--n", "1000000", "--out", "x.jsonl"]
    with tiny.started(*arguments, cwd=tmp_path) as driver:
        tiny.until(lambda: any(path.stat().st_size for path in tmp_path.iterdir()), driver)
        os.killpg(driver.pid, signal.SIGINT)
        _, errors = driver.communicate(timeout=tiny.WAIT_SECONDS)
    assert driver.returncode == 130
    assert errors == "rulekeep: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_show_writes_a_page_where_words_are_only_words(run, tmp_path: Path) -> None:
    code, _, _ = run("show", "override", "--placement", "marked", "--html", "page.html")
    page = (tmp_path / "page.html").read_text()
    assert code == 0
    assert "&lt;revise&gt;" in page or "&lt;rule&gt;" in page
    assert "<rule>" not in page
    assert "<script" not in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


def test_the_outside_task_is_short_holds_and_is_certified(run) -> None:
    assert len(OUTSIDE.read_text().splitlines()) < 90
    code, output, _ = run("check-task", BACKWARDS, "--examples", "2000")
    assert code == 0, output.decode()
    assert "FAIL" not in output.decode()
    code, _, _ = run("certify", BACKWARDS, "--context", "64", "--examples", "2000", "--rules", "3")
    assert code == 0


COUNTS = script("bounds", "studies").RULE_COUNTS


def test_the_committed_certificates_pass_but_for_the_article() -> None:
    held = set()
    for record in CERTIFICATES:
        assert record["passed"] is (record["task"] != "article")
        for one in record["contexts"]:
            kind = (record["options"].get(key) for key in ("layout", "rules", "placement"))
            held.add((record["task"], *kind, one["context"]))
    assert {task for task, *_ in held} == set(TASKS), (
        "rulekeep certify NAME --out results/certificates"
    )
    for task, layout, shortest in (
        ("recite", None, 64), ("apply", None, 96), ("override", None, 96), ("recall", "exam", 64)
    ):  # fmt: skip
        for placement in ("early", "marked"):
            for context in (shortest, 256, 1028, 4096):
                assert (task, layout, 4, placement, context) in held
            for rules in COUNTS if layout is None else ():
                assert {(task, layout, rules, placement, n) for n in (shortest, 256)} <= held
    assert ("recall", "zoology", 4, "early", 256) in held


@pytest.mark.parametrize(
    "record",
    # Longer ones take seconds and differ by nothing but their length.
    [record for record in CERTIFICATES if record["contexts"][0]["context"] <= 256],
    ids=lambda record: f"{record['task']} {record['options']}",
)
def test_the_committed_certificates_are_of_examples_that_are_drawn_still(
    record: dict[str, Any],
) -> None:
    task = TASKS.find(record["task"])
    one, digest = record["contexts"][0], hashlib.sha256()
    if task is Article:
        digest.update(Article().examples("test", one["context"]).tokens)
    else:
        made = task(task.options_type.parse(**record["options"]))
        for piece in draw(made, "test", one["context"], one["examples"], record["seed"]):
            digest.update(np.ascontiguousarray(piece.tokens).tobytes())
    assert digest.hexdigest() == one["data_hash"]

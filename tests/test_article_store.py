"""The article's cells as runs on disk: what is taken over, what is set aside, what is said."""

import json
import os
from pathlib import Path

import pytest
from article_runs import (
    ATTENTION,
    COMPRESSED,
    QUICK,
    Quick,
    copied,
    quick_run,
    record_path,
    rulekeep,
)

from rulekeep.article.cell import CHANCE
from rulekeep.records.store import read_record, write_record
from rulekeep.specs import ArticleCell
from rulekeep.sweeps import article_runs as experiment
from rulekeep.sweeps.sweep import identity


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Quick:
    """Two steps of both models at context 16."""
    return quick_run(tmp_path_factory.mktemp("quick"))


def test_records_report_scores_and_costs(quick: Quick) -> None:
    for cell in (ATTENTION, COMPRESSED):
        record = read_record(record_path(quick[0] / "run", cell))
        (test,) = record["evaluations"]
        assert test.keys() >= {"retention", "second_mention_accuracy", "exact", "val_loss"}
        assert (test["split"], test["context"], test["n"]) == ("test", 16, 120)
        assert test["chance"] == CHANCE
        costs = record["costs"]
        assert costs["train_seconds"] > 0
        assert costs["tokens_per_second"] == pytest.approx(2 * 64 * 16 / costs["train_seconds"])
        assert costs["state_bytes"] == {"16": {"attention": 16384, "compressed": 4096}[cell.model]}
        assert costs["peak_memory_bytes"] > 50e6
        assert record["environment"]["threads"] == 1
        assert (record["id"], record["kind"]) == (identity(cell), "article")
        assert record["versions"] == {"protocol": 1}
        assert record["spec"].items() >= {
            "task": "article", "mixer": cell.model, "context": 16, "seed": 7, "steps": 2,
            "learning_rate": 0.003, "batch_size": 64, "width": 64, "layers": 2,
        }.items()  # fmt: skip


def test_finished_cells_are_taken_over_and_the_rest_is_run(quick: Quick, tmp_path: Path) -> None:
    run, first = copied(quick, tmp_path), quick.done
    record_path(run, ATTENTION).unlink()
    kept = record_path(run, COMPRESSED).stat().st_mtime_ns
    # From another folder than the one it was begun in, and by a relative name.
    done = rulekeep("article", *QUICK, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 2 cells stand finished" in done.stderr
    assert "[1/1] ctx16-attention-seed7-steps2" in done.stderr
    assert record_path(run, COMPRESSED).stat().st_mtime_ns == kept
    assert record_path(run, ATTENTION).exists()
    assert done.stdout.splitlines()[:4] == first.stdout.splitlines()[:4]


def test_a_corrupt_record_is_set_aside_and_run_again(quick: Quick, tmp_path: Path) -> None:
    run = copied(quick, tmp_path)
    path = record_path(run, COMPRESSED)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    done = rulekeep("article", *QUICK, "--out", str(run), cwd=tmp_path)
    assert done.returncode == 0
    assert "set aside as record.json.corrupt-1" in done.stderr
    assert "[1/1] ctx16-compressed-seed7-steps2" in done.stderr
    assert path.with_name("record.json.corrupt-1").read_bytes() == whole[:100]
    again = read_record(path)
    assert again["evaluations"] == json.loads(whole)["evaluations"]
    assert again["notes"] == ["record.json.corrupt-1 was set aside as corrupt"]


def test_a_corrupt_plan_is_set_aside_and_the_cell_run(quick: Quick, tmp_path: Path) -> None:
    run = copied(quick, tmp_path)
    record_path(run, ATTENTION).unlink()
    plan = record_path(run, ATTENTION).with_name("plan.json")
    plan.write_text("{")
    done = rulekeep("article", *QUICK, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0
    assert "set aside as plan.json.corrupt-1" in done.stderr
    assert read_record(plan)["spec"] == ATTENTION.model_dump()
    assert record_path(run, ATTENTION).exists()


def test_a_run_of_other_versions_stays_beside_the_new_one_and_is_said(
    quick: Quick, tmp_path: Path
) -> None:
    run = copied(quick, tmp_path)
    ours = record_path(run, ATTENTION).parent
    other = ours.rename(ours.with_name("0" * 16))
    kept = (other / "record.json").read_bytes()
    planned = experiment.plan([ATTENTION, COMPRESSED], run)
    assert [job.label for job in planned.jobs] == [ATTENTION.label]
    assert planned.notes == [
        f"{ATTENTION.label}: run {other.name} was made with other versions: run again beside it"
    ]
    assert (other / "record.json").read_bytes() == kept
    # A record may stand without its plan, and is then known by nobody.
    (other / "plan.json").unlink()
    assert experiment.plan([ATTENTION, COMPRESSED], run).notes == []


def test_a_record_of_another_torch_is_taken_over_and_said(quick: Quick, tmp_path: Path) -> None:
    run = copied(quick, tmp_path)
    path = record_path(run, ATTENTION)
    record = read_record(path)
    record["environment"]["torch"] = "1.0.0+cpu"
    write_record(path, record)
    planned = experiment.plan([ATTENTION, COMPRESSED], run)
    assert planned.jobs == []
    (note,) = planned.notes
    assert note.startswith(f"{ATTENTION.label}: made with torch 1.0.0, this is ")


def test_the_longest_cells_start_first(tmp_path: Path) -> None:
    cells = [ArticleCell(context=c, model="attention") for c in (64, 1028, 256)]
    jobs = experiment.plan(cells, tmp_path).jobs
    assert [job.label.split("-")[0] for job in jobs] == ["ctx1028", "ctx256", "ctx64"]


def test_a_failed_cell_is_named_with_its_log_and_exit_1(quick: Quick, tmp_path: Path) -> None:
    run = copied(quick, tmp_path)
    path = record_path(run, ATTENTION)
    path.unlink()
    lock = path.with_name("lock")
    lock.unlink()
    lock.mkdir()
    done = rulekeep("article", *QUICK, "--out", "run", cwd=tmp_path)
    assert done.returncode == 1
    log = Path("run", "runs", path.parent.name, "log.txt")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{ATTENTION.label}: failed: IsADirectoryError: ")
    assert last.endswith(f"(see {log})")
    assert "Traceback" in (tmp_path / log).read_text()
    # What finished is reported all the same.
    assert "|      16 | compressed |" in done.stdout
    assert "|      16 | attention  |" not in done.stdout
    # The report places it beside its finished brother.
    assert read_record(path)["spec"] == ATTENTION.as_recorded
    lock.rmdir()
    assert rulekeep("article", *QUICK, "--out", "run", cwd=tmp_path).returncode == 0
    assert not (tmp_path / log).exists()


def test_the_runs_of_the_article_are_a_sweeps_to_verify_resume_and_report(
    quick: Quick, tmp_path: Path
) -> None:
    run = copied(quick, tmp_path)
    record_path(run, ATTENTION).unlink()
    done = rulekeep("resume", "run/runs", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 2 runs stand finished" in done.stderr
    assert "2 records whole, 0 broken" in rulekeep("verify", "run/runs", cwd=tmp_path).stdout
    assert rulekeep("report", "run/runs", cwd=tmp_path).returncode == 0
    text = (run / "runs" / "report" / "report.md").read_text()
    assert "(no task)" not in text
    assert "## Set aside and left out" not in text
    table = (run / "runs" / "report" / "tables.csv").read_text()
    assert "article" in table
    assert "compressed" in table


def test_a_note_of_a_finished_cell_is_no_flaw(quick: Quick, tmp_path: Path) -> None:
    run = copied(quick, tmp_path)
    path = record_path(run, ATTENTION)
    record = read_record(path)
    write_record(path, {**record, "notes": ["said"], "attempt": 3})
    planned = experiment.plan([ATTENTION, COMPRESSED], run)
    assert (len(planned.finished), planned.jobs, planned.notes) == (2, [], [])


def damaged(record: dict, where: str, value: object) -> dict:
    """The record with the value at `a.b.0.c` replaced."""
    *path, last = [int(key) if key.isdigit() else key for key in where.split(".")]
    body = json.loads(json.dumps(record))
    at = body
    for key in path:
        at = at[key]
    at[last] = value
    return body


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("evaluations", [{}], "evaluations: not one at 16"),
        ("evaluations", [], "evaluations: not one at 16"),
        ("evaluations.0.rule_accuracy", 1.5, "evaluations.0.rule_accuracy: none"),
        ("evaluations.0.val_loss", "low", "evaluations.0.val_loss: none"),
        ("evaluations.0.context", 64, "evaluations: not one at 16"),
        ("history", [], "history: it does not end at step 2"),
        ("history.1.step", 7, "history: it does not end at step 2"),
        ("history.0.retention", -1.0, "history.0.retention: -1 is out of its range"),
        ("environment", None, "environment is no dict"),
        ("environment.threads", "one", "environment.threads: one, no whole number"),
        ("predictions", 7, "predictions: none"),
        ("costs", {}, "costs.train_seconds: none"),
        ("costs.state_bytes", {"64": 1}, "costs.state_bytes: none at 16"),
        ("costs.tokens_per_second", None, "costs.tokens_per_second: none"),
        ("spec.steps", 3, "spec: it is of another cell"),
        ("id", "0" * 16, "it is of another run than its folder says"),
        ("status", "finished", "status 'finished' is unknown"),
    ],
    ids=str,
)
def test_a_record_with_a_wrong_inside_is_set_aside(
    quick: Quick, tmp_path: Path, where: str, value: object, said: str
) -> None:
    run = copied(quick, tmp_path)
    path = record_path(run, ATTENTION)
    record = read_record(path)
    assert [one.id for one in experiment.plan([ATTENTION], run).finished] == [record["id"]]
    write_record(path, damaged(record, where, value))
    planned = experiment.plan([ATTENTION], run)
    assert planned.finished == []
    assert [job.label for job in planned.jobs] == [ATTENTION.label]
    # What of it cannot be relied on is noted as it is read.
    note = planned.notes[-1]
    assert said in note
    assert note.endswith("record.json.corrupt-1")
    assert path.with_name("record.json.corrupt-1").exists()


def test_a_record_that_is_no_file_is_set_aside(tmp_path: Path) -> None:
    path = record_path(tmp_path, ATTENTION)
    path.parent.mkdir(parents=True)
    for number, make in enumerate([os.mkfifo, os.mkdir], start=1):
        make(path)
        (note,) = experiment.plan([ATTENTION], tmp_path).notes
        assert f"not a file; set aside as record.json.corrupt-{number}" in note

"""The article's cells as runs on disk: what is taken over, what is said, what a report shows."""

from pathlib import Path

import pytest
from article_runs import ATTENTION, COMPRESSED, Quick, copied, record_path
from tiny import rulekeep

from rulekeep.records.store import read_record
from rulekeep.sweeps.planning import identity


def test_records_report_scores_and_costs(quick: Quick) -> None:
    for cell in (ATTENTION, COMPRESSED):
        record = read_record(record_path(quick.folder / "run", cell))
        (test,) = record["evaluations"]
        assert test.keys() >= {"retention", "second_mention_accuracy", "exact", "val_loss"}
        assert (test["split"], test["context"], test["n"]) == ("test", 16, 120)
        figures = test.keys() - {"split", "context", "n", "val_loss", "chance"}
        assert test["chance"].keys() == figures
        assert test["chance"]["retention"] == (1 / 9 + 1 / 8) / 2
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


def test_the_runs_of_the_article_are_a_sweeps_to_verify_resume_and_report(
    quick: Quick, tmp_path: Path
) -> None:
    run = copied(quick, tmp_path)
    record_path(run, ATTENTION).unlink()
    done = rulekeep("resume", "run", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 2 runs stand finished" in done.stderr
    assert "2 records whole, 0 broken" in rulekeep("verify", "run", cwd=tmp_path).stdout
    assert rulekeep("report", "run", cwd=tmp_path).returncode == 0
    text = (run / "report" / "report.md").read_text()
    assert "(no task)" not in text
    assert "## Set aside and left out" not in text
    table = (run / "report" / "tables.csv").read_text()
    assert "article" in table
    assert "compressed" in table

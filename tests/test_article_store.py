"""The article's cells as runs on disk: what is taken over, what is said, what a report shows."""

from pathlib import Path

import pytest
from article_runs import ATTENTION, COMPRESSED, QUICK, Quick, copied, record_path
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


def test_finished_cells_are_taken_over_and_the_rest_is_run(quick: Quick, tmp_path: Path) -> None:
    run, first = copied(quick, tmp_path), quick.done
    record_path(run, ATTENTION).unlink()
    kept = record_path(run, COMPRESSED).stat().st_mtime_ns
    # From another folder than the one it was begun in, and by a relative name.
    done = rulekeep("article", *QUICK, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 2 runs stand finished" in done.stderr
    assert "[1/1] ctx16-attention-seed7-steps2" in done.stderr
    assert record_path(run, COMPRESSED).stat().st_mtime_ns == kept
    assert record_path(run, ATTENTION).exists()
    assert done.stdout.splitlines()[:4] == first.stdout.splitlines()[:4]


def test_a_failed_cell_is_named_with_its_log_and_exit_1(quick: Quick, tmp_path: Path) -> None:
    run = copied(quick, tmp_path)
    path = record_path(run, ATTENTION)
    path.unlink()
    lock = path.with_name("lock")
    lock.unlink()
    lock.mkdir()
    done = rulekeep("article", *QUICK, "--out", "run", cwd=tmp_path)
    assert done.returncode == 1
    log = Path("run", path.parent.name, "log.txt")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"run {path.parent.name}: failed: IsADirectoryError: ")
    # What finished is reported all the same.
    assert "|      16 | compressed |" in done.stdout
    assert "|      16 | attention  |" not in done.stdout
    lock.rmdir()
    assert rulekeep("article", *QUICK, "--out", "run", cwd=tmp_path).returncode == 0
    assert not (tmp_path / log).exists()


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

"""The published figures themselves, through the command: the test that this project stands on."""

from pathlib import Path

import pytest
from tiny import rulekeep

from rulekeep.records.store import read_runs

# A few of the published evaluations on the way: (step, val_loss, token, rule accuracy).
ON_THE_WAY = {
    "attention": [(1, 3.4998, 0.1083, 0.0667), (50, 0.9800, 0.6964, 0.4729)],
    "compressed": [(1, 3.4340, 0.1393, 0.0229), (50, 1.6179, 0.3905, 0.1979)],
}


def histories(run: Path) -> dict[str, dict[int, dict[str, float]]]:
    """The evaluations of each model, by step."""
    return {
        record.spec.mixer: {int(row["step"]): row for row in record.history}
        for record in read_runs(run).records
    }


def test_context_64_gives_the_published_figures(tmp_path: Path) -> None:
    done = rulekeep("article", "--contexts", "64", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "all 2 published cells come out within tolerance" in done.stdout
    for model, expected in ON_THE_WAY.items():
        rows = histories(tmp_path / "run")[model]
        assert list(rows) == [1, 25, 50, 75, 80]
        for step, loss, token, rule in expected:
            assert rows[step]["val_loss"] == pytest.approx(loss, abs=0.02)
            assert rows[step]["token_accuracy"] == pytest.approx(token, abs=0.01)
            assert rows[step]["rule_accuracy"] == pytest.approx(rule, abs=0.01)


def test_context_1028_starts_as_published(tmp_path: Path) -> None:
    rulekeep("article", "--contexts", "1028", "--steps", "1", "--out", "run", cwd=tmp_path)
    figures = {model: rows[1] for model, rows in histories(tmp_path / "run").items()}
    assert figures["attention"]["train_loss"] == pytest.approx(3.8187, abs=0.001)
    assert figures["attention"]["val_loss"] == pytest.approx(3.4336, abs=0.01)
    assert figures["compressed"]["train_loss"] == pytest.approx(3.7023, abs=0.001)
    assert figures["compressed"]["val_loss"] == pytest.approx(3.2844, abs=0.01)

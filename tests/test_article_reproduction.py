"""The published figures themselves, through the command: the test that this project stands on."""

import json
from pathlib import Path

import pytest
from tiny import rulekeep

# A few of the published evaluations on the way: (step, val_loss, token, rule accuracy).
ON_THE_WAY = {
    "attention": [(1, 3.4998, 0.1083, 0.0667), (50, 0.9800, 0.6964, 0.4729)],
    "compressed": [(1, 3.4340, 0.1393, 0.0229), (50, 1.6179, 0.3905, 0.1979)],
}


def test_context_64_gives_the_published_figures(tmp_path: Path) -> None:
    done = rulekeep("article", "--contexts", "64", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "all 2 published cells come out within tolerance" in done.stdout
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    for model, expected in ON_THE_WAY.items():
        rows = {row["step"]: row for row in history if row["model"] == model}
        assert list(rows) == [1, 25, 50, 75, 80]
        for step, loss, token, rule in expected:
            assert rows[step]["val_loss"] == pytest.approx(loss, abs=0.02)
            assert rows[step]["val_acc"] == pytest.approx(token, abs=0.01)
            assert rows[step]["rule_acc"] == pytest.approx(rule, abs=0.01)


def test_context_1028_starts_as_published(tmp_path: Path) -> None:
    rulekeep("article", "--contexts", "1028", "--steps", "1", "--out", "run", cwd=tmp_path)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    figures = {row["model"]: row for row in history}
    assert figures["attention"]["train_loss"] == pytest.approx(3.8187, abs=0.001)
    assert figures["attention"]["val_loss"] == pytest.approx(3.4336, abs=0.01)
    assert figures["compressed"]["train_loss"] == pytest.approx(3.7023, abs=0.001)
    assert figures["compressed"]["val_loss"] == pytest.approx(3.2844, abs=0.01)

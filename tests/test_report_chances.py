"""Scores beside their chance: corrected, by step, position and kind, and where none is defined."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reading import make
from report_records import Values, groups_of, record, typed

from rulekeep.analysis.metrics import score_samples
from rulekeep.reporting.main_tables import corrected, parts
from rulekeep.reporting.write import write_report
from rulekeep.tasks import Override


def scored(seed: int = 1, wrong: float = 0.0) -> Values:
    """A record of `override` whose test figures are those of real answers, some of them wrong."""
    sample = make(Override).sample("test", 96, 200, seed=seed)
    stream = np.random.default_rng(seed)
    spoilt = stream.random(sample.answers.shape) < wrong
    said = np.where(spoilt, 0, sample.answers)
    made = record(seed=seed, task="override", retention={})
    row = {"split": "test", "context": 96, "val_loss": 1.0}
    made["evaluations"].append({**row, **score_samples([(sample, said, said)]).as_dict()})
    made["spec"]["test_contexts"] = [96]
    return made


def cells(records: list[Values], table: Any) -> list[dict[str, str]]:
    made = table(groups_of(records))
    return [dict(zip(made.header, (cell.text for cell in row), strict=True)) for row in made.rows]


def lines(folder: Path, table: str) -> dict[tuple[str, str], float]:
    with (folder / "tables.csv").open() as file:
        return {
            (row["figure"], row["tested_at"]): float(row["mean"])
            for row in csv.DictReader(file)
            if row["table"] == table
        }


def test_scores_are_corrected_by_the_chance_of_their_own_evaluation() -> None:
    records = [record(seed=1, retention={64: 0.9}), record(seed=2, retention={64: 0.7})]
    records[1]["evaluations"][1]["chance"]["retention"] = 0.5
    (row,) = cells(records, corrected)
    # (0.9 - 0.04) / 0.96 and (0.7 - 0.5) / 0.5.
    assert row["retention"] == f"{(0.86 / 0.96 + 0.4) / 2:.3f} (0.040)"
    # Of scores without a chance level nothing is said.
    assert (row["rule"], row["all rules"], row["seeds"]) == ("–", "–", "2 few")


@pytest.mark.usefixtures("undrawn")
def test_the_tables_show_what_the_metrics_say(tmp_path: Path) -> None:
    records = [scored(seed, wrong=0.3) for seed in (1, 2)]
    write_report(typed(records), tmp_path, "c")
    evaluations = [made["evaluations"][-1] for made in records]
    (row,) = cells(records, parts)
    for part, column in (("step", "by output step"), ("position", "by rule position")):
        entries = zip(*(one[f"retention_by_{part}"] for one in evaluations), strict=True)
        shown = [
            f"{several[0][part]}: {np.mean([one['retention'] for one in several]):.3f} (0.500)"
            for several in entries
        ]
        assert row[column] == "; ".join(shown)
    kinds = [one["retention_by_kind"] for one in evaluations]
    prohibition = np.mean([kind["prohibition"]["retention"] for kind in kinds])
    assert f"prohibition: {prohibition:.3f} (0.500)" in row["by kind"]
    assert "default: " in row["by kind"]
    found = lines(tmp_path, "parts")
    assert found["retention, kind prohibition", "96"] == pytest.approx(prohibition)
    assert lines(tmp_path, "chance")["retention, kind default", "96"] == 1
    over = lines(tmp_path, "corrected")
    assert over["retention, kind prohibition", "96"] == pytest.approx((prohibition - 0.5) / 0.5)
    assert ("retention, kind default", "96") not in over
    joint = np.mean([one["joint"] for one in evaluations])
    assert lines(tmp_path, "scores")["joint", "96"] == pytest.approx(joint)
    for name, value in lines(tmp_path, "corrected").items():
        if (known := evaluations[0]["corrected"].get(name[0])) is not None:
            other = evaluations[1]["corrected"][name[0]]
            assert value == pytest.approx((known + other) / 2)
    for file in ("report.html", "report.md"):
        text = (tmp_path / file).read_text().replace("\\", "")
        assert f"prohibition: {prohibition:.3f} (0.500)" in text

"""Scores beside their chance: corrected, by step, position and kind, and where none is defined."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reading import make
from report_records import HOSTILE, Values, groups_of, record, typed

from rulekeep.analysis.metrics import score_samples
from rulekeep.reporting.main_tables import corrected, costs, parts, scores
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


def test_a_score_at_chance_is_shown_as_zero_without_a_sign() -> None:
    made = record(retention={64: 0.0399999})
    (row,) = cells([made], corrected)
    assert row["retention"] == "0.000 (0.040)"


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


def test_an_oracle_is_at_one_in_every_column() -> None:
    (row,) = cells([scored()], corrected)
    columns = ("retention", "exact", "all rules", "rule", "item", "token")
    assert {row[name].split()[0] for name in columns} == {"1.000"}


@pytest.mark.usefixtures("undrawn")
def test_of_many_parts_the_first_are_shown_and_all_are_in_the_csv(tmp_path: Path) -> None:
    made = record(retention={64: 0.5})
    made["evaluations"][1]["retention_by_position"] = [
        {"position": i, "n": 10, "retention": i / 64, "chance": 0.03} for i in range(64)
    ]
    (row,) = cells([made], parts)
    assert row["by rule position"].endswith("7: 0.109 (0.030); … 64 in all")
    write_report(typed([made]), tmp_path, "c")
    assert len(lines(tmp_path, "parts")) == 64


@pytest.mark.usefixtures("undrawn")
def test_names_of_kinds_stay_text(tmp_path: Path) -> None:
    made = record(retention={64: 0.5})
    made["evaluations"][1]["retention_by_kind"] = {HOSTILE: {"retention": 0.5, "chance": 0.5}}
    write_report(typed([made]), tmp_path, "c")
    html = (tmp_path / "report.html").read_text()
    assert "<img" not in html


def test_learned_positions_are_not_defined_beyond_the_length_trained_on() -> None:
    learned = {"added_positions": "learned", "test_contexts": [64, 256]}
    records = [
        record(seed=1, retention={64: 0.9}, **learned),
        record("slots", 1, {64: 0.9, 256: 0.5}),
    ]
    found = {(row["variant"], row["tested at"]): row for row in cells(records, scores)}
    assert found["attention, learned positions", "256"]["retention"] == "not defined"
    assert found["attention, learned positions", "256"]["seeds"] == "–"
    assert found["attention, learned positions", "64"]["retention"].startswith("0.900")
    assert found["slots", "256"]["retention"].startswith("0.500")


def test_steps_to_solve_are_those_of_the_seeds_that_did(tmp_path: Path) -> None:
    records = [record(seed=seed, retention={64: 0.9}) for seed in (1, 2, 3)]
    for made, steps in zip(records, (100, 150, None), strict=True):
        made["costs"]["steps_to_solve"] = steps
    (row,) = cells(records, costs)
    assert row["steps to solve"] == "125 (2 of 3)"
    records[0]["costs"]["steps_to_solve"] = records[1]["costs"]["steps_to_solve"] = None
    (row,) = cells(records, costs)
    assert row["steps to solve"] == "– (0 of 3)"
    records = [record("slots", status="diverged")]
    assert [row["steps to solve"] for row in cells(records, costs)] in (["–"], [])

"""The cells of a report by hand: values, units, marks and order, and the numbers of sentences."""

import math
import re
from typing import Any

import pytest
from report_records import Values, groups_of, ranking_of, read_runs, record

from rulekeep.analysis.groups import grouped
from rulekeep.analysis.ranking import ranked
from rulekeep.analysis.summary import summarise, summarise_scores
from rulekeep.reporting import main_tables as tables
from rulekeep.reporting.main_tables import ranked as ranked_table
from rulekeep.reporting.sentences import sentences
from rulekeep.reporting.tables import Cell, Table, number_cell

NAN = math.nan


def by_column(table: Table) -> list[dict[str, Cell]]:
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def texts(table: Table, *columns: str) -> list[tuple[str, ...]]:
    return [tuple(row[column].text for column in columns) for row in by_column(table)]


def ranking_table(records: list[Values]) -> Table:
    return ranked_table(ranking_of(records))


def numbers_of(records: list[Values]) -> list[list[str]]:
    """The numbers of each of the first sentences."""
    runs = read_runs(records)[0]
    made = grouped(runs)
    # What stands in brackets is an interval, of whichever kind.
    plain = [re.sub(r"\([-+].*?\)", "", text) for text in sentences(runs, made, ranked(made))]
    return [re.findall(r"[-+]?\d[\d,.]*\d|\d", text) for text in plain]


def costing(mixer: str, seed: int, kept: float, times: float, **more: Any) -> Values:
    made = record(mixer, seed, {64: 0.9, 256: kept}, seconds=10 * times, **more)
    made["costs"] |= {
        "state_bytes": {"64": 100, "256": round(1536 * times)},
        "decode_ms_per_token": {"64": 9.0, "256": 0.5 * times}, "parameters": 12_000 * times,
        "tokens_per_second": 64_000 / times, "peak_memory_bytes": times * 3 * 2**20,
    }  # fmt: skip
    return made


TWO = [
    costing("attention", 1, 0.5, 1), costing("attention", 2, 0.25, 1),
    costing("slots", 1, 0.75, 1), costing("slots", 2, 0.375, 3),
    record("slots", 3, {64: 0.9, 256: 0.0}, status="killed"),
]  # fmt: skip


def test_the_first_table_has_what_each_variant_keeps_and_costs() -> None:
    first, second = by_column(table := ranking_table(TWO))
    assert {key: cell.text for key, cell in first.items()} == {
        "#": "1", "variant": "slots", "state (bytes)": "3,072",
        "retention": summarise_scores([0.75, 0.375]).text(), "lowest seed": "0.375",
        "against attention": f"+{summarise([0.25, 0.125]).text()}", "training (s)": "20.0",
        "decode (ms/token)": "1.000", "parameters": "24,000", "seeds": "2 few",
    }  # fmt: skip
    assert [first[key].value for key in ("#", "state (bytes)", "retention", "seeds")] == [
        1, 3072, pytest.approx(0.5625), 2
    ]  # fmt: skip
    assert texts(table, "#", "variant", "lowest seed", "against attention")[1] == (
        "2", "attention", "0.250", "–"
    )  # fmt: skip
    assert second["state (bytes)"].value == 1536
    assert (table.own, table.few) == (frozenset(), {0, 1})
    # Less than attention has a sign of its own.
    worse = [costing("attention", 1, 0.5, 1), costing("slots", 1, 0.4, 1)]
    assert texts(ranking_table(worse), "against attention")[1][0].startswith("-0.100")


def test_scores_have_a_line_for_each_length_in_order() -> None:
    table = tables.scores(groups_of(TWO))
    shown = texts(
        table, "variant", "trained at", "tested at", "retention", "chance", "exact", "rule",
        "loss (nats)", "against attention", "which", "learned", "seeds",
    )  # fmt: skip
    places = [("attention", "64", "64"), ("attention", "64", "256"), ("slots", "64", "64"),
              ("slots", "64", "256")]  # fmt: skip
    assert [row[:3] for row in shown] == places
    assert shown[3][3:10] == (
        summarise_scores([0.75, 0.375]).text(), "0.040",
        summarise_scores([0.375, 0.1875]).text(), "0.562", "1.000",
        f"+{summarise([0.25, 0.125]).text()}", "attention",
    )  # fmt: skip
    assert [row[10].split(" (")[0] for row in shown] == [
        "2 of 2", "0 of 2", "2 of 2", "0 of 2"
    ]  # fmt: skip
    assert [row[11] for row in shown] == ["2 few"] * 4
    assert shown[1][8:10] == ("–", "–")


def test_a_seed_that_diverged_has_not_learned() -> None:
    records = [record("slots", 1), record("slots", 2, status="diverged")]
    assert texts(tables.scores(groups_of(records)), "learned")[0][0].startswith("1 of 2 (")


def test_costs_are_in_their_units_at_the_longest_length_tested() -> None:
    attention, slots = by_column(tables.costs(groups_of(TWO)))
    assert {key: cell.text for key, cell in slots.items()} == {
        "task": "recite", "variant": "slots", "trained at": "64",
        "training (s)": summarise([10, 30]).text(1), "steps to solve": "– (0 of 2)",
        "tokens/s": "42,667", "peak (MiB)": "6.0", "parameters": "24,000", "context": "256",
        "state (bytes)": "3,072", "decode (ms/token)": "1.000", "seeds": "2 few",
    }  # fmt: skip
    assert (attention["peak (MiB)"].value, attention["steps to solve"].value) == (3, math.inf)


@pytest.mark.parametrize(
    ("value", "digits", "text", "kept"),
    [
        (0.12345, 3, "0.123", 0.12345), (12345.678, 0, "12,346", 12345.678),
        (-0.0004, 3, "0.000", -0.0004), (-0.0006, 3, "-0.001", -0.0006), (None, 3, "–", None),
        (NAN, 3, "–", None), (math.inf, 1, "–", None), (1_000_000, 1, "1,000,000.0", 1_000_000),
    ],
)  # fmt: skip
def test_a_number_is_shown_rounded_and_sorted_by_its_value(
    value: float | None, digits: int, text: str, kept: float | None
) -> None:
    assert number_cell(value, digits) == Cell(text, kept)


def test_the_first_sentences_have_the_numbers_of_the_best_and_of_all_runs() -> None:
    kept, against, trust = numbers_of(TWO)
    # 0.5625 at 256 tokens, place 1 of 2; 0.1875 ahead on 2 seeds, with twice the parameters.
    assert kept == ["0.562", "256", "1", "2"]
    assert against == ["0.188", "2", "+100"]
    # Of 5 runs 4 ended. All 4 figures, of two variants at two lengths, have fewer than 5 seeds.
    assert trust == ["5", "4", "0", "1", "4", "4", "5"]
    behind = [costing("attention", 1, 0.5, 1), costing("slots", 1, 0.375, 1)]
    assert numbers_of(behind)[:2] == [["0.375", "256", "2", "2"], ["0.125", "1"]]
    # A run with outputs that are not finite has ended, and is no failure.
    odd = [*behind, {**costing("slots", 2, 0.375, 1), "status": "not_finite", "reason": "nan"}]
    assert numbers_of(odd)[2][:4] == ["3", "3", "1", "0"]


def test_scores_are_corrected_by_the_chance_of_their_own_evaluation() -> None:
    records = [record(seed=1, retention={64: 0.9}), record(seed=2, retention={64: 0.7})]
    records[1]["evaluations"][1]["chance"]["retention"] = 0.5
    (row,) = by_column(tables.corrected(groups_of(records)))
    # (0.9 - 0.04) / 0.96 and (0.7 - 0.5) / 0.5.
    assert row["retention"].text == f"{(0.86 / 0.96 + 0.4) / 2:.3f} (0.040)"
    # Of scores without a chance level nothing is said.
    assert [row[key].text for key in ("rule", "all rules", "seeds")] == ["–", "–", "2 few"]

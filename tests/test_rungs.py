"""A row of a table says of real records what the records say."""

from pathlib import Path

import pytest
from report_records import asked, scored
from scripts import script

from rulekeep.analysis.variants import is_of_task, is_variant
from rulekeep.records.store import Record, read_runs
from rulekeep.specs import contestants
from rulekeep.sweeps.presets import EXAM_MIXERS

rungs = script("rungs")
RECORDS = read_runs(Path(__file__).parent.parent / "results" / "exam").records
NONE, ROTARY = "attention[positions=none]", "attention[positions=rotary]"
(WITH_ROTARY,) = contestants(ROTARY)


@pytest.fixture(scope="module")
def rows() -> dict:
    # Of seed 1 at other rates, a lower and a higher one, nothing was kept: none of them is chosen.
    low, high = (_of_seed_1_at(rate) for rate in (0.001, 0.01))
    found = rungs.measured(EXAM_MIXERS[:2], [*low, *RECORDS, *high], "recite", "early")
    return {row.name: row for row in found}


def _of_seed_1_at(rate: float) -> list[Record]:
    """Records as if seed 1 had run at another rate too, and had kept nothing."""
    return [
        scored(asked(record, learning_rate=rate), lambda _: 0.0)
        for record in RECORDS
        if is_of_task(record, "recite", placement="early") and record.spec.seed == 1
    ]


def test_a_row_is_the_mean_over_the_seeds_at_the_rate_that_was_chosen(rows: dict) -> None:
    assert set(rows) == {NONE, ROTARY}
    for row in rows.values():
        (positions,) = row.one.options.values()
        scores = [
            test.figures["retention"]
            for record in RECORDS
            if is_of_task(record, "recite", placement="early")
            and record.spec.mixer == "attention"
            and record.spec.rest["added_positions"] == "none"
            and record.spec.mixer_options["positions"] == positions
            for test in record.tests()
            if test.context == 1028
        ]
        assert len(scores) == 5
        assert row.retention[1028].mean == pytest.approx(sum(scores) / 5)
        assert (row.rate, row.kib) == (0.003, 514.0)


def test_a_mechanism_that_was_not_run_has_no_row(rows: dict) -> None:
    assert set(rows) == {NONE, ROTARY}
    assert rungs.measured(EXAM_MIXERS[:1], RECORDS, "recite", "nowhere") == []


def test_a_mechanism_has_no_row_before_all_its_seeds_have_run() -> None:
    some = [record for record in RECORDS if record.spec.seed != 5]
    assert rungs.measured(EXAM_MIXERS[:2], some, "recite", "early") == []


def test_what_other_code_has_made_is_no_seed_of_the_same() -> None:
    cell = [record for record in RECORDS if is_of_task(record, "recite", placement="early")]
    code = {"source": "older", "versions": {"protocol": 0}}
    older = [scored(one, lambda _: 0.0).model_copy(update=code) for one in cell]
    some = [one for one in cell if one.spec.seed < 4]
    few = [one for one in older if one.spec.seed < 4]
    assert rungs.measured(EXAM_MIXERS[:2], [*some, *few], "recite", "early") == []
    assert rungs.measured(EXAM_MIXERS[:2], [*cell, *few], "recite", "early") == (
        rungs.measured(EXAM_MIXERS[:2], cell, "recite", "early")
    )


def test_a_mechanism_whose_seeds_all_diverged_has_a_row_that_says_so() -> None:
    diverged = [one.model_copy(update={"status": "diverged", "evaluations": ()}) for one in RECORDS]
    row, _ = rungs.measured(EXAM_MIXERS[:2], diverged, "recite", "early")
    assert row.retention[1028].mean is None
    assert row.retention[1028].text() == "no figure (5 of 5 diverged)"


def test_a_mechanism_with_a_signal_and_without_are_two_rows() -> None:
    records = [
        asked(record, added_positions=positions)
        for record in RECORDS
        if is_variant(record, WITH_ROTARY)
        for positions in ("none", "earliness")
    ]
    mixers = contestants(f"{ROTARY},attention[positions=rotary,added_positions=earliness]")
    found = rungs.measured(mixers, records, "recite", "early")
    assert [row.name for row in found] == [
        ROTARY, "attention[positions=rotary,added_positions=earliness]",
    ]  # fmt: skip


def test_a_run_that_another_preset_tests_further_counts_once() -> None:
    further = [
        asked(record, test_contexts=(*record.spec.test_contexts, 16384)).model_copy(
            update={
                "evaluations": (
                    *record.evaluations,
                    record.evaluations[-1].model_copy(update={"context": 16384}),
                )
            }
        )
        for record in RECORDS
        if record.spec.seed == 1
    ]
    row = rungs.row_of(
        EXAM_MIXERS[0], [*RECORDS, *further], "recite", "early", (1028, 16384)
    )  # fmt: skip
    assert {context: len(seeds) for context, seeds in row.seeds.items()} == {1028: 5, 16384: 1}

"""The catalogue's tables say of real records what the records say."""

from pathlib import Path

import pytest
from report_records import asked, asked_of, scored
from scripts import script

from rulekeep.presets import EXAM_MIXERS
from rulekeep.specs import Contestant, contestants
from rulekeep.store import Record, read_runs
from rulekeep.variants import is_of_task, is_variant

catalogue = script("catalogue_table")
RECORDS = read_runs(Path(__file__).parent.parent / "results" / "exam").records
NONE, ROTARY = "attention[positions=none]", "attention[positions=rotary]"
(WITH_ROTARY,) = contestants(ROTARY)


@pytest.fixture(scope="module")
def rows() -> dict:
    # Of seed 1 at other rates, a lower and a higher one, nothing was kept: none of them is chosen.
    low, high = (_of_seed_1_at(rate) for rate in (0.001, 0.01))
    found = catalogue.measured(EXAM_MIXERS[:2], [*low, *RECORDS, *high], "recite", "early")
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


def test_what_keeps_more_stands_first(rows: dict) -> None:
    lines = catalogue.table("", list(rows.values())[::-1]).splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == [NONE, ROTARY]


def test_a_state_of_another_size_stands_below_with_a_dagger(rows: dict) -> None:
    small = rows[NONE]._replace(kib=16.6, retention=rows[ROTARY].retention)
    table = catalogue.table("", [rows[ROTARY], small], kib=16)
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        NONE, f"{ROTARY} †",
    ]  # fmt: skip


def test_the_short_table_ranks_by_what_is_kept_longest_and_has_both_cells_in_a_row() -> None:
    """Of the exam's contestants the catalogue has one: here its records stand for two more."""
    kept = {"linear_attention": 0.5, "delta": 0.9, "attention": 0.25}
    records = [
        _as(_of(mixer), record, value)
        for mixer, value in kept.items()
        for record in RECORDS
        if is_variant(record, WITH_ROTARY)
        # One has not been run in the second cell.
        if (mixer, record.spec.task) != ("delta", "override")
    ]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in catalogue.short(records).splitlines()[2:]
    ]
    assert [row[0] for row in rows] == ["delta", "linear_attention", ROTARY]
    assert [row[3][:5] for row in rows] == ["0.900", "0.500", "0.250"]
    assert [row[5][:5] for row in rows] == ["not r", "0.500", "0.250"]
    drawn = catalogue.figure(records)
    labels = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert labels == [row[0] for row in rows]
    for panel, run, chance in zip(drawn.axes[:2], (3, 2), (0.033, 0.5), strict=True):
        points = [line for line in panel.lines if line.get_marker() == "."]
        (level,) = (line for line in panel.lines if line.get_linestyle() == ":")
        assert len(points) == run * len(catalogue.CONTEXTS)
        assert all(len(line.get_xdata()) == 5 for line in points)
        assert level.get_xdata()[0] == chance


def _as(one: Contestant, record: Record, kept: float) -> Record:
    """A record as if `one` had made it, and kept so much at the longest length."""
    return scored(asked_of(record, one), lambda at: kept if at == catalogue.LONG else 0.1)


def _of(mixer: str) -> Contestant:
    (one,) = (
        one
        for one in catalogue.CATALOGUE
        if catalogue.name_of(one) in (mixer, ROTARY) and one.mixer == mixer
    )
    return one


def _sized(mixer: str) -> Contestant:
    return catalogue._sizes()[mixer]


def test_a_mechanism_that_was_not_run_has_no_row(rows: dict) -> None:
    assert set(rows) == {NONE, ROTARY}
    assert catalogue.measured(EXAM_MIXERS[:1], RECORDS, "recite", "nowhere") == []


def test_a_mechanism_has_no_row_before_all_its_seeds_have_run() -> None:
    some = [record for record in RECORDS if record.spec.seed != 5]
    assert catalogue.measured(EXAM_MIXERS[:2], some, "recite", "early") == []


def test_what_other_code_has_made_is_no_seed_of_the_same() -> None:
    cell = [record for record in RECORDS if is_of_task(record, "recite", placement="early")]
    code = {"source": "older", "versions": {"protocol": 0}}
    older = [scored(one, lambda _: 0.0).model_copy(update=code) for one in cell]
    some = [one for one in cell if one.spec.seed < 4]
    few = [one for one in older if one.spec.seed < 4]
    assert catalogue.measured(EXAM_MIXERS[:2], [*some, *few], "recite", "early") == []
    assert catalogue.measured(EXAM_MIXERS[:2], [*cell, *few], "recite", "early") == (
        catalogue.measured(EXAM_MIXERS[:2], cell, "recite", "early")
    )


def test_a_mechanism_whose_seeds_all_diverged_has_a_row_that_says_so() -> None:
    diverged = [one.model_copy(update={"status": "diverged", "evaluations": ()}) for one in RECORDS]
    row, _ = catalogue.measured(EXAM_MIXERS[:2], diverged, "recite", "early")
    assert row.retention[1028].mean is None
    assert "no figure (5 of 5 diverged)" in catalogue.table("", [row])


def test_the_page_names_what_is_not_run_yet_by_how_it_is_asked_for() -> None:
    # The exam has the first contestant of the catalogue in both cells, and none of the others.
    parts = catalogue.page(RECORDS).split("\n\n")
    every = len(catalogue.CATALOGUE)
    for part, cell in zip(parts[1:4:2], ("recite, early", "override, marked"), strict=True):
        assert part.startswith(
            f"1 of {every} mechanisms are run ({cell}). Not yet: `sliding_window["
        )
    assert sum(part.count(f"| {ROTARY} ") for part in parts) == 2
    sized = len(catalogue.CATALOGUE_16_KIB)
    for part, cell in zip(parts[4:], ("recite, early", "override, marked"), strict=True):
        assert part.strip() == f"None of {sized} mechanisms is run yet ({cell}, 16 KiB a layer)."


def test_a_mechanism_of_16_kib_stands_in_the_row_of_the_one_that_it_is_otherwise() -> None:
    sized = _of("delta"), _sized("delta")
    records = [
        _as(one, record, kept)
        for one, kept in zip(sized, (0.5, 0.75), strict=True)
        for record in RECORDS
        if is_variant(record, WITH_ROTARY)
    ]
    (row,) = catalogue.short(records).splitlines()[2:]
    cells = [cell.strip()[:5] for cell in row.split("|")[1:-1]]
    assert (cells[0], cells[3], cells[-1]) == ("delta", "0.500", "0.750")
    means = [
        [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "|"]
        for panel in catalogue.figure(records).axes
    ]
    assert [found[-1] for found in means] == [0.5, 0.5, 0.75]
    part = catalogue.page(records).split("\n\n")[5]
    every = len(catalogue.CATALOGUE_16_KIB)
    assert part.startswith(f"1 of {every} mechanisms are run (recite, early, 16 KiB a layer). Not")
    assert "`gated_slots[slots=32]`" in part


def test_one_that_cannot_have_16_kib_is_shown_there_at_its_own_and_marked() -> None:
    records = [
        _as(one, record, kept)
        for one, kept in ((_of("lstm"), 0.25), (_of("delta"), 0.5), (_sized("delta"), 0.75))
        for record in RECORDS
        if is_variant(record, WITH_ROTARY)
    ]
    kib = {"lstm": 0.5, "delta": 16}
    records = [
        one.model_copy(update={"state_bytes": {1028: 2 * 1024 * kib[one.spec.mixer]}})
        for one in records
    ]
    delta, lstm = (line.split("|") for line in catalogue.short(records).splitlines()[2:])
    assert [delta[-2].strip(), lstm[-2].strip()[:5]] == ["0.750 (0.750 to 0.750)", "0.250"]
    assert lstm[-2].rstrip().endswith("†")
    parts = catalogue.page(records).split("\n\n")
    (table,) = (part for part in parts if part.startswith("| recite, early, 16 KiB a layer"))
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "delta[heads=2,key_width=64]", "lstm †",
    ]  # fmt: skip


def test_every_mechanism_of_16_kib_is_one_of_the_catalogue() -> None:
    names = {catalogue.name_of(one) for one in catalogue.CATALOGUE}
    assert len(catalogue._sizes()) == len(catalogue.CATALOGUE_16_KIB)
    assert set(catalogue._sizes()) <= names


def test_a_mechanism_with_a_signal_and_without_are_two_rows() -> None:
    records = [
        asked(record, added_positions=positions)
        for record in RECORDS
        if is_variant(record, WITH_ROTARY)
        for positions in ("none", "earliness")
    ]
    mixers = contestants(f"{ROTARY},attention[positions=rotary,added_positions=earliness]")
    found = catalogue.measured(mixers, records, "recite", "early")
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
    row = catalogue.row_of(
        EXAM_MIXERS[0], [*RECORDS, *further], "recite", "early", (1028, 16384)
    )  # fmt: skip
    assert {context: len(seeds) for context, seeds in row.seeds.items()} == {1028: 5, 16384: 1}

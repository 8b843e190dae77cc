"""The ladder's tables and figure say of runs what their records say."""

from itertools import product

import pytest
from report_records import asked, asked_of, scored
from scripts import script

from rulekeep.analysis.variants import is_of_task, is_variant
from rulekeep.records.store import Record, read_runs
from rulekeep.specs import Contestant
from rulekeep.sweeps.presets import SEEDS

rows = script("rungs")
ladder = script("ladder_table")
(RUN, *_) = [r for r in read_runs(rows.ROOT).records if is_of_task(r, "recite")]


def run_of(one: Contestant, placement: str, seed: int, retention: float, kib: float = 4) -> Record:
    """A record as if `one` had been run, with the same retention at every length."""
    tested = tuple(
        RUN.evaluations[-1].model_copy(update={"split": "test", "context": context})
        for context in {*rows.CONTEXTS, *ladder.CONTEXTS}
    )
    options = {**RUN.spec.task_options, "placement": placement}
    made = asked(asked_of(RUN, one), seed=seed, task="recite", task_options=options)
    state_bytes = {rows.RANKED_AT: kib * 1024 * one.spec().layers}
    made = made.model_copy(update={"evaluations": tested, "state_bytes": state_bytes})
    return scored(made, lambda _: retention)


@pytest.fixture(scope="module")
def rungs() -> list[Record]:
    """Every rung but the last, which has four seeds of five: rung i keeps i hundredths."""
    return [
        run_of(one, placement, seed, place / 100)
        for place, (_, _, one) in enumerate(ladder.STEPS)
        for placement, seed in product(ladder.PLACEMENTS, SEEDS)
        if place + 1 < len(ladder.STEPS) or seed < 5
    ]


def test_a_rung_stands_in_its_place_with_its_own_figures(rungs: list[Record]) -> None:
    tables = [part for part in ladder.page(rungs[::-1]).split("\n\n") if part[0] == "|"]
    assert len(tables) == len(ladder.PLACEMENTS)
    for table in tables:
        rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()[2:]]
        assert [(row[1], row[2]) for row in rows] == [step[:2] for step in ladder.STEPS[:-1]]
        for place, row in enumerate(rows):
            assert row[3] == f"{place / 100:.3f} ({place / 100:.3f} to {place / 100:.3f})"


def test_a_rung_without_all_its_seeds_has_no_row_and_is_named(rungs: list[Record]) -> None:
    text = ladder.page(rungs)
    assert ladder.RUNGS[-1] not in text
    for placement in ladder.PLACEMENTS:
        assert f"Not run yet, {placement} rules: 1 of 13 rungs (12)." in text
    early = [one for one in rungs if is_of_task(one, "recite", placement="early")]
    assert "Not run yet, marked rules: 13 of 13 rungs." in ladder.page(early)


def test_a_gain_is_over_the_rung_that_is_changed_and_of_what_both_were_tested_at(
    rungs: list[Record],
) -> None:
    def gains(records: list[Record]) -> dict[str, tuple[str, ...]]:
        rows = [line.split("|") for line in ladder.page(records).split("\n\n")[0].splitlines()]
        return {row[1].strip(): tuple(cell.strip() for cell in row[-3:-1]) for row in rows[2:]}

    found = gains(rungs)
    places = {number: place for place, (number, *_) in enumerate(ladder.STEPS)}
    over = {"1": "–", "7a": "7", "8": "7", "9": "8", "11": "–"}
    assert {number: found[number][1] for number in over} == over
    for number, (gain, other) in found.items():
        if other != "–":
            assert gain.split(" ")[0] == f"{(places[number] - places[other]) / 100:.3f}"
    nearer = [
        one.model_copy(
            update={"evaluations": tuple(row for row in one.evaluations if row.context < 16384)}
        )
        if is_variant(one, ladder.STEPS[2][2])
        else one
        for one in rungs
    ]
    assert gains(nearer)["3"] == gains(nearer)["4"] == ("–", "–")


def test_a_seed_that_diverged_is_counted_in_every_cell_and_gain(rungs: list[Record]) -> None:
    """It has no evaluations: left out, the others would stand for all that was run."""
    records = [
        one.model_copy(update={"status": "diverged", "evaluations": ()})
        if is_variant(one, ladder.STEPS[1][2]) and one.spec.seed == 2
        else one
        for one in rungs
    ]
    noted = "4 seeds: few; 1 of 5 diverged"
    table, *_ = ladder.page(records).split("\n\n")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    second, third = rows[1:3]
    assert second[2:5] == [f"0.010 (0.010 to 0.010; {noted})"] * len(ladder.CONTEXTS)
    assert second[5].endswith(f"; {noted})")
    assert (second[7], third[7]) == (f"0.010 (0.010 to 0.010; {noted})",) * 2
    assert third[2] == "0.020 (0.020 to 0.020)"


def test_the_ladders_figure_has_every_seed_and_mean_that_is_run(rungs: list[Record]) -> None:
    for panel in ladder.figure(rungs).axes:
        points = [line for line in panel.lines if line.get_marker() == "."]
        means = [line for line in panel.lines if line.get_marker() == "|"]
        assert len(points) == len(means) == (len(ladder.STEPS) - 1) * len(ladder.CONTEXTS)
        assert all(len(line.get_xdata()) == len(SEEDS) for line in points)
        heights = {round(line.get_xdata()[0] * 100) for line in means}
        assert heights == set(range(len(ladder.STEPS) - 1))

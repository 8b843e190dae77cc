"""What is concluded from records, by hand: the chosen rate, what is compared, places, costs, names.

The records are made up. A value that is on test what it is not on validation tells the two apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_records import Values, cell_of_a_study, groups_of, ranking_of, read_runs, record, typed

from rulekeep.analysis.flat import flat
from rulekeep.analysis.groups import Group, against_attention, mean_of, strength
from rulekeep.analysis.rows import (
    Rows,
    TaskSetting,
    Variant,
    best_on_test,
    best_on_validation,
    difference,
    first_learned,
    steps_text,
    steps_to_learn,
)
from rulekeep.analysis.summary import summarise
from rulekeep.registry import load_file

ROTARY = {"positions": "rotary"}


def validated(
    mixer: str, seed: int, rate: float, dev: tuple[float, float, float], test: float, n: int = 256,
    **more: Any,
) -> Values:  # fmt: skip
    """A record with retention, exact and loss on so many validation examples, and on test."""
    made = record(mixer, seed, {64: test}, rate=rate, dev_loss=dev[2], **more)
    for row in made["evaluations"][:1]:
        row |= {"retention": dev[0], "exact": dev[1], "n": n}
    return made


def labelled(records: Sequence[Values]) -> dict[str, Group]:
    """The groups of the one task that was run, by label."""
    return {group.label: group for group in groups_of(records)}


# The learning rate


@pytest.mark.parametrize(
    ("low", "high", "chosen"),
    [
        # Retention, exact and loss on validation. Retention decides before exact and loss.
        ((0.5, 0.9, 0.1), (0.9, 0.1, 2.0), 0.01), ((0.9, 0.1, 2.0), (0.5, 0.9, 0.1), 0.001),
        # Of 256 examples 0.99 ties with 1; then exact decides, and loss where that ties too.
        ((0.99, 0.9, 2.0), (1.0, 0.5, 0.1), 0.001), ((1.0, 0.5, 0.1), (0.99, 0.9, 2.0), 0.01),
        ((0.99, 0.9, 0.1), (1.0, 0.9, 2.0), 0.001), ((1.0, 0.9, 2.0), (0.99, 0.9, 0.1), 0.01),
        # All alike: the lower one.
        ((0.9, 0.5, 1.0), (0.9, 0.5, 1.0), 0.001),
    ],
)  # fmt: skip
def test_a_rate_is_chosen_on_validation_whatever_its_test_says(
    low: tuple[float, float, float], high: tuple[float, float, float], chosen: float
) -> None:
    for better in (0.001, 0.01):
        group = labelled([
            validated("delta", 1, rate, dev, test=0.9 if rate == better else 0.2)
            for rate, dev in ((0.001, low), (0.01, high))
        ])["delta"]  # fmt: skip
        assert group.rate == chosen
        assert group.by_seed("retention", 64) == {1: 0.9 if chosen == better else 0.2}


def test_rates_are_compared_over_the_seeds_that_they_share() -> None:
    def chosen(**retention_by_seed: Mapping[int, float]) -> tuple[float | None, str, int]:
        rates = {"low": 0.001, "mid": 0.003, "high": 0.01}
        (group,) = groups_of([
            validated("delta", seed, rates[name], (kept, 0.5, 1.0), 0.5)
            for name, by_seed in retention_by_seed.items()
            for seed, kept in by_seed.items()
        ])  # fmt: skip
        return group.rate, group.rates.problem, group.rates.seeds

    # Seeds 1 and 3 would say otherwise.
    assert chosen(low={1: 0.9, 2: 0.4}, high={2: 0.5, 3: 0.1}) == (0.01, "", 1)
    # A rate that lacks a seed which two others have is not compared.
    assert chosen(low={1: 0.4, 2: 0.4}, mid={1: 0.5, 2: 0.5}, high={1: 1.0}) == (0.003, "", 2)
    # That with most runs is shown, whatever one seed says.
    assert chosen(low={1: 0.4, 2: 0.4, 3: 0.4}, high={1: 1.0, 2: 1.0})[0] == 0.001
    assert chosen(low={1: 0.4}, high={2: 0.9}) == (0.001, "the rates share no seed", 0)
    apart = chosen(low={1: 1.0}, mid={2: 0.4, 3: 0.4}, high={4: 0.9, 5: 0.9})
    assert apart == (0.003, "the rates share no seed", 0)


# Cells


def test_figures_of_a_cell_are_those_of_the_test_split_at_its_length() -> None:
    records = [
        # The loss on test is one over that on validation.
        validated("delta", seed, 0.003, (0.1, 0.1, loss), kept)
        for seed, kept, loss in ((1, 0.5, 0.5), (2, 0.9, 0.25))
    ]
    records.append(record("delta", 3, {64: 0.0}, status="diverged"))
    records.append(record("delta", 4, {64: 0.0}, status="killed"))
    group = labelled(records)["delta"]
    kept = group.by_seed("retention", 64)
    assert (kept.keys(), kept[1], kept[2], math.isnan(kept[3])) == ({1, 2, 3}, 0.5, 0.9, True)
    assert group.finite("retention", 64) == {1: 0.5, 2: 0.9}
    summary = group.summary("retention", 64)
    assert summary is not None
    # Two seeds: half width 12.706 * 0.2 is beyond both ends of a share.
    assert summary[:6] == (pytest.approx(0.7), pytest.approx(0.08**0.5), 0.0, 1.0, 2, 1)
    loss = group.summary("val_loss", 64)
    assert loss is not None
    # A loss is no share: its interval is not clipped.
    assert (loss.mean, loss.low) == (3.0, pytest.approx(3 - 12.7062, abs=1e-4))
    assert group.summary("retention", 256) is None
    assert group.chance("retention", 64) == 0.04
    assert group.by_seed("retention", 64, "corrected") == {
        1: pytest.approx(0.46 / 0.96), 2: pytest.approx(0.86 / 0.96)
    }  # fmt: skip
    assert mean_of({1: 0.5, 7: 1.0}) == 0.75
    assert (strength(kept), strength({1: 0.5})) == ((False, 0.7), (True, 0.5))


@pytest.mark.parametrize(
    ("setting", "alike"),
    [
        ({"steps": 200}, False), ({"batch_size": 32}, False), ({"width": 128}, False),
        ({"layers": 4}, False), ({"mixed_lengths": False}, False), ({"length_growth": 0.5}, False),
        ({"hidden": 128}, True), ({"threads": 2}, True), ({"rate": 0.01}, True),
    ],
)  # fmt: skip
def test_attention_is_compared_with_what_was_trained_alike(setting: Values, alike: bool) -> None:
    usual = {"mixed_lengths": True, "length_growth": 0.0, "hidden": 256, "threads": 1}
    records = [record("delta", 1, {64: 0.9}, **usual)]
    records.append(record("attention", 1, {64: 0.4}, **{**usual, **setting}))
    groups = groups_of(records)
    ours = next(group for group in groups if group.first.mixer == "delta")
    against = against_attention(ours, groups, "retention", 64)
    assert (against is not None) == alike
    if against is not None:
        assert against[1].mean == pytest.approx(0.5)


# The ranking


def kept_by(**retentions: float) -> list[Values]:
    return [record(name, 1, {64: kept}) for name, kept in retentions.items()]


def test_places_are_of_figures_as_they_are_shown() -> None:
    made = ranking_of(kept_by(attention=0.8, delta=0.70049, gru=0.70041, lstm=0.6994, ssd=0.6996))
    # 0.700, 0.700, 0.700 and 0.699: three share the second place.
    assert {row.label: row.place for row in made.rows} == {
        "attention": 1, "delta": 2, "gru": 2, "ssd": 2, "lstm": 5
    }  # fmt: skip
    assert [row.label for row in made.rows] == ["attention", "delta", "gru", "ssd", "lstm"]


def test_a_row_has_mean_lowest_and_costs_of_its_seeds_at_the_length_compared() -> None:
    records = []
    for seed, kept in ((1, 0.4), (2, 0.8)):
        made = record("delta", seed, {64: 0.9, 256: kept}, seconds=10.0 * seed)
        made["costs"]["state_bytes"] = {"64": 100 * seed, "256": 1000 * seed}
        made["costs"]["decode_ms_per_token"] = {"64": 7.0, "256": 1.0 * seed}
        made["costs"]["parameters"] = 1000 * seed
        records += [made, record("attention", seed, {64: 0.9, 256: 0.1 * seed})]
    made = ranking_of(records)
    row, base = made.rows
    assert (row.kept.mean, row.lowest) == (pytest.approx(0.6), 0.4)
    assert row.by_task == {"recite": pytest.approx(0.6)}
    assert row.costs == {
        "state_bytes": 1500, "decode_ms_per_token": 1.5, "train_seconds": 15, "parameters": 1500
    }  # fmt: skip
    # 0.4 - 0.1 and 0.8 - 0.2, by seed.
    assert row.difference == summarise([0.4 - 0.1, 0.8 - 0.1 * 2])
    assert (made.baseline, made.at, made.settings[0].test) == ("attention", "256 tokens", 256)
    assert (base.difference, base.place, row.place) == (None, 2, 1)


def test_a_seed_that_diverged_counts_where_chance_is_taken_out() -> None:
    records = []
    for task, chance in (("apply", 0.2), ("recite", 0.04)):
        for seed, status in (
            (1, "done"),
            (2, "done"),
            (3, "diverged" if task == "apply" else "done"),
        ):
            made = record("delta", seed, {64: 0.5}, task=task, status=status)
            for row in made["evaluations"]:
                row["chance"]["retention"] = chance
            records.append(made)
    found = ranking_of(records)
    assert found.is_corrected
    (row,) = found.rows
    assert (row.kept.seeds, row.kept.diverged, math.isnan(row.lowest)) == (2, 1, True)


# The best, and how soon


def looking(mixer: str, seed: int, dev: float, *looks: tuple[int, float], test: float) -> Values:
    made = validated(mixer, seed, 0.003, (dev, 0.0, 1.0), test)
    (row, *_) = made["history"]
    made["history"] = [{**row, "step": step, "retention": kept} for step, kept in looks]
    return made


def test_the_best_on_validation_is_the_highest_mean_then_the_soonest() -> None:
    late, soon = [(25, 0.1), (50, 0.95)], [(25, 0.95), (50, 0.2)]
    records = [
        *(looking("delta", seed, dev, *late, test=0.9) for seed, dev in ((1, 1.0), (2, 0.6))),
        *(looking("gru", seed, 0.8, *soon, test=0.1) for seed in (1, 2)),
        *(looking("lstm", seed, dev, *soon, test=1.0) for seed, dev in ((1, 0.9), (2, 0.5))),
    ]
    by_label = labelled(records)
    delta, gru, lstm = (by_label[name] for name in ("delta", "gru", "lstm"))
    assert best_on_validation([delta, lstm], "retention", 64) is delta
    # 0.8 each on validation: the one that learns in 25 steps and not in 50.
    assert best_on_validation([delta, gru, lstm], "retention", 64) is gru
    assert best_on_validation([gru, delta], "retention", 64) is gru
    assert best_on_test([delta, gru, lstm], "retention", 64, seeds=2) is lstm
    fewer = replace(lstm, runs={1: lstm.runs[1]})
    assert best_on_test([delta, gru, fewer], "retention", 64, seeds=2) is delta
    assert best_on_test([gru], "retention", 64, seeds=3) is None


def test_a_group_learns_at_the_median_of_the_first_steps_with_nine_tenths() -> None:
    looks: dict[int, list[tuple[int, float]]] = {
        1: [(25, 0.5), (50, 0.9), (75, 0.3)], 2: [(25, 0.95)], 3: [(25, 0.1), (50, 0.8999)],
        4: [(1200, 0.9)],
    }  # fmt: skip
    records = [looking("delta", seed, 0.5, *rows, test=0.5) for seed, rows in looks.items()]
    group = labelled(records)["delta"]
    learned = {seed: first_learned(run.record, "retention") for seed, run in group.runs.items()}
    assert learned == {1: 50, 2: 25, 3: math.inf, 4: 1200}
    # Half of 50 and 1,200.
    assert (steps_to_learn(group, "retention"), steps_text(group, "retention")) == (625, "625")
    assert first_learned(group.runs[3].record, "retention") == math.inf
    two = labelled([records[0], records[2]])["delta"]
    assert steps_text(two, "retention") == "never"
    four = labelled(records[3:])["delta"]
    assert steps_text(four, "retention") == "1,200"


# Reading, merging, names, rows


def test_a_model_from_outside_stands_at_the_longest_training_length_of_its_task() -> None:
    outside = record("mine.py:Read", 1, {64: 0.8, 1024: 0.4}, context=1024)
    outside["kind"], outside["spec"]["predictor"] = "predictor", "mine.py:Read"
    trained = [record("delta", 1, context=at) for at in (64, 128)]
    lost = record("delta", 1, context=512, status="failed")
    elsewhere = record("delta", 1, context=256, task="apply")
    runs = read_runs([outside, *trained, lost, elsewhere])[0]
    (run,) = (run for run in runs if run.mixer == "mine.py:Read")
    assert (run.context, run.trained_at) == (128, None)
    (alone,) = read_runs([outside])[0]
    assert alone.context == 1024


@pytest.mark.parametrize("order", [1, -1])
def test_a_copy_that_failed_takes_no_result_away(order: int) -> None:
    copies = [record("delta"), record("delta", status="failed")][::order]
    (run,), notes = read_runs(copies)
    assert run.record.status == "done"
    assert any("more than one record" in note for note in notes)


def test_a_flat_row_has_the_figures_of_its_split_and_length() -> None:
    options = {"placement": "early", "rules": 4}
    made = record(
        "delta", 3, {256: 0.5}, context=64, rate=0.01, dev_loss=2.0, seconds=7.0, state={256: 99},
        task_options=options, mixer_options={"heads": 2}, added_positions="none",
    )  # fmt: skip
    made["evaluations"][1]["n"] = 100
    dev, test = flat(typed([made]))
    shared = {
        "id": made["id"], "status": "done", "task": "recite", "placement": "early", "rules": 4,
        "mixer": "delta", "variant": "delta[heads=2]", "seed": 3, "learning_rate": 0.01,
        "trained_tokens": 64, "parameters": 12345, "train_seconds": 7.0, "torch": "2.13.0+cpu",
    }  # fmt: skip
    own = {
        "split": "test", "tokens": 256, "examples": 100, "retention": 0.5, "exact": 0.25,
        "token_accuracy": 0.5, "chance_of_retention": 0.04, "loss": 0.5, "state_bytes": 99,
        "decode_ms_per_token": pytest.approx(0.356),
    }  # fmt: skip
    assert {**test, **shared, **own} == test
    assert {
        **dev,
        **shared,
        "split": "validation",
        "tokens": 64,
        "loss": 2.0,
        "state_bytes": None,
    } == dev
    (failed,) = flat(typed([record("delta", status="failed")]))
    assert failed.keys() == test.keys()
    empty = ("split", "tokens", "retention", "exact", "loss", "chance_of_retention", "state_bytes")
    assert [failed[key] for key in empty] == [None] * len(empty)


EARLY, MARKED = TaskSetting("recite"), TaskSetting("recite", "marked", 8)
VARIANTS = {"ours": Variant("gru", "our gru"), "theirs": Variant("slots", "slots")}


def cell(mixer: str, seed: int, kept: float, at: TaskSetting = EARLY, **more: Any) -> Values:
    return cell_of_a_study(mixer, seed, kept, at.placement, at.rules, **more)


def rows_of(*records: Values, seeds: Sequence[int] = (1, 2), **variants: Variant) -> Rows:
    return Rows(typed(records), variants or VARIANTS, [EARLY, MARKED], context=64, seeds=seeds)


CELLS = [
    cell("gru", 1, 0.5), cell("gru", 2, 0.75), cell("slots", 1, 0.25), cell("slots", 2, 0.125),
    cell("gru", 1, 0.25, MARKED), cell("gru", 2, 0.25, MARKED), cell("slots", 1, 1.0, MARKED),
]  # fmt: skip


def test_a_cell_of_a_study_counts_where_all_its_seeds_are_run() -> None:
    rows = rows_of(*CELLS, cell("gru", 3, 0.0), cell("gru", 1, 0.0, context=128))
    kept = rows.known("ours", EARLY, "retention", 256)
    assert (kept.seeds, kept.mean, kept.lowest, kept.each_seed) == (
        {1: 0.5, 2: 0.75}, 0.625, 0.5, "0.500, 0.750"
    )  # fmt: skip
    three = rows_of(*CELLS, cell("gru", 3, 0.1), seeds=(1, 2, 3))
    assert three.known("ours", EARLY, "retention", 256).mean == pytest.approx(0.45)
    assert rows.cell("theirs", MARKED) is None
    assert rows.text("theirs", MARKED, "retention", 256) == "not run"
    assert rows.text("ours", EARLY, "retention", 512) == "not run"
    assert rows.more("ours", "theirs", EARLY, "retention", 256) == summarise([0.25, 0.625])
    assert difference(*rows.cells(EARLY), "retention", 256) == summarise([0.25, 0.625])
    assert rows.chance(EARLY, "retention", 256) == "0.040"
    assert rows.chance(EARLY, "joint", 256) == "–"
    assert [group.label for group in rows.cells(MARKED)] == ["ours"]
    assert rows.at(seeds=[1]).known("theirs", MARKED, "retention", 256).mean == 1.0
    assert rows.at(context=128, seeds=[1]).known("ours", EARLY, "retention", 256).mean == 0.0


def test_a_seed_that_diverged_has_no_figure_at_a_rate() -> None:
    rows = rows_of(cell("gru", 1, 0.5), cell("gru", 2, 0.0, status="diverged"))
    kept = rows.at_rate("ours", EARLY, 0.003, "retention", 256)
    assert (kept[1], math.isnan(kept[2])) == (0.5, True)
    # One that was tested at other lengths has none either, and is no seed of these.
    assert [*rows.at_rate("ours", EARLY, 0.003, "retention", 512)] == [2]


def test_learned_positions_are_not_defined_beyond_the_training_length_of_a_study() -> None:
    learned = {"added_positions": "learned"}
    variant = Variant("gru[added_positions=learned]", "learned")
    rows = rows_of(*(cell("gru", seed, 0.5, **learned) for seed in (1, 2)), ours=variant)
    assert rows.text("ours", EARLY, "retention", 256) == "not defined"
    assert rows.text("ours", EARLY, "retention", 64).startswith("0.900 ")


def test_ours_is_compared_at_each_rate_that_all_seeds_have_run() -> None:
    shared = load_file(Path(__file__).parent.parent / "studies" / "shared.py")
    # By rate, retention of both seeds at 256 tokens. At 64 all have 0.9.
    kept = {
        "delta": {0.01: (0.2, 0.4), 0.003: (0.6, 0.8), 0.001: (0.1,)},
        "sparse_delta": {0.01: (0.9, 0.7), 0.003: (0.5, 0.4), 0.001: (1.0, 1.0)},
    }
    records = [
        record(mixer, seed, {64: 0.9, 256: value}, rate=rate, hidden=256, added_positions="none",
               task_options={"placement": "early", "rules": 4})
        for mixer, by_rate in kept.items()
        for rate, values in by_rate.items()
        for seed, value in enumerate(values, 1)
    ]  # fmt: skip
    variants = {"ours": Variant("sparse_delta", "ours"), "theirs": Variant("delta", "theirs")}
    setting, rates = TaskSetting("recite"), (0.01, 0.003, 0.001)
    rows = Rows(typed(records), variants, [setting], 64, (1, 2))
    at_rates = shared.AtRates(setting, rates, (64, 256), ["theirs", "ours"])
    assert at_rates.mean("theirs", 0.01).value(rows) == pytest.approx(0.3)
    # Seed by seed 0.7 and 0.3 more, then 0.1 and 0.4 less. With a rate that a seed lacks, nothing.
    assert at_rates.ahead(rows) == {}
    both = at_rates._replace(rates=rates[:2]).ahead(rows)
    found = {name: one.mean for name, one in both.items()}
    assert found == pytest.approx({"theirs, 0.01": 0.5, "theirs, 0.003": -0.25})
    early, late = (at_rates._replace(options={"placement": one}) for one in ("early", "late"))
    assert early.seeds(rows, 256) == at_rates.seeds(rows, 256) != late.seeds(rows, 256) == {}
    lines = [line.split() for line in at_rates.table(rows).splitlines()[2:]]
    assert [(line[1], line[3], line[5], line[9]) for line in lines] == [
        ("theirs", "0.01", "0.900", "0.300"), ("theirs", "0.003", "0.900", "0.700"),
        ("ours", "0.01", "0.900", "0.800"), ("ours", "0.003", "0.900", "0.450"),
        ("ours", "0.001", "0.900", "1.000"),
    ]  # fmt: skip


def test_a_lucky_rate_is_needed_where_learned_rates_lie_apart_at_4096_tokens() -> None:
    apart = load_file(Path(__file__).parent.parent / "studies" / "apart.py")
    # By rate at 256 tokens, then at 4,096. The lowest seed does not learn at the last.
    kept = {0.001: ((0.9, 1.0), (0.5, 0.7)), 0.003: ((1.0, 1.0), (0.7, 0.74)),
            0.01: ((0.89, 1.0), (0.1, 0.1))}  # fmt: skip
    records = [
        record("sparse_delta", seed, {256: near, 4096: far}, context=256, rate=rate, hidden=232,
               added_positions="none", task_options={"placement": "marked", "rules": 4})
        for rate, both in kept.items()
        for seed, (near, far) in enumerate(zip(*both, strict=True), 1)
    ]  # fmt: skip
    for read, said in (
        (records, ["2 of 3", "0.600 to 0.720", "yes"]),
        (records[2:], ["1 of 2", "0.720 to 0.720", "–"]),
    ):  # fmt: skip
        rows = Rows(typed(read), apart.STUDY.variants, apart.SETTINGS, 256, (1, 2))
        ours = apart.lucky(rows).splitlines()[6].split("|")
        assert [cell.strip() for cell in ours[3:6]] == said


def test_a_rate_chosen_by_1028_tokens_may_keep_more_at_4096_than_one_chosen_by_256() -> None:
    apart = load_file(Path(__file__).parent.parent / "studies" / "apart.py")
    # The loss of validation, then by seed retention at 1,028 and 4,096 tokens.
    kept = {0.001: (2, (0.5, 0.9), (0.5, 0.1)), 0.003: (1, (0.6, 0.6), (0.9, 0.5)),
            0.01: (3, (0.9, 0.8), (0.6, 0.1)), 0.0333333: (4, (0.1, 1.0), (0.1, 0.2))}  # fmt: skip
    records = [
        record("sparse_delta", seed, {256: 0.9, 1028: middle, 4096: far}, context=256, rate=rate,
               hidden=232, added_positions="none", dev_loss=loss,
               task_options={"placement": "marked", "rules": 4})
        for rate, (loss, *both) in kept.items()
        for seed, (middle, far) in enumerate(both, 1)
    ]  # fmt: skip
    for evaluation in (one for made in records for one in made["evaluations"]):
        evaluation["n"] = 128
    rows = Rows(typed(records), apart.STUDY.variants, apart.SETTINGS, 256, (1, 2))
    (line,) = apart.longer(rows).splitlines()[2:]
    # By 256 tokens both have 0.003. By 1,028 the first has 0.01, which keeps 0.2 more.
    found = [cell.strip().split()[0] for cell in line.split("|")[3:7]]
    assert found == ["1", "0.550", "0.650", "0.100"]

"""The report's answer: who keeps most, beside which attention, and when a gain may be said."""

from typing import Any

import pytest
from report_records import Values, ranking_of, read_runs, record

from rulekeep.analysis.groups import grouped
from rulekeep.analysis.ranking import ranked
from rulekeep.reporting.main_tables import ranked as table_of
from rulekeep.reporting.sentences import sentences

SEEDS = (1, 2, 3, 4, 5)
ROTARY, CONVOLVED = {"positions": "rotary"}, {"positions": "rotary", "conv_size": 4}


def attention(kept: float, options: dict[str, Any], **more: Any) -> list[Values]:
    # Seeds differ a little, so that an interval has a width.
    return [
        record("attention", s, {64: kept + s / 1000}, mixer_options=options, **more) for s in SEEDS
    ]


def own_rows(found: Any) -> list[Any]:
    """The rows of the user's own variants."""
    return [row for row in found.rows if row.group.is_own]


def own(kept: float, seeds: tuple[int, ...] = SEEDS, **more: Any) -> list[Values]:
    return [record("mine.py:Mine", s, {64: kept + s / 500}, **more) for s in seeds]


def said(records: list[Values]) -> str:
    runs = read_runs(records)[0]
    found = grouped(runs)
    return " ".join(sentences(runs, found, ranked(found)))


def test_the_users_own_mixer_comes_first_whatever_it_keeps() -> None:
    found = ranking_of([*attention(0.9, ROTARY), *own(0.2)])
    assert [(row.label, row.place, row.group.is_own) for row in found.rows] == [
        ("mine.py:Mine", 2, True), ("attention, rotary", 1, False),
    ]  # fmt: skip
    table = table_of(found)
    assert table.own == {0}
    row = dict(zip(table.header, (cell.text for cell in table.rows[0]), strict=True))
    assert row["lowest seed"] == "0.202"
    assert row["against attention, rotary"].startswith("-0.697 (-0.6")


def test_the_strongest_attention_is_the_baseline_and_not_the_weakest() -> None:
    records = [*attention(0.1, ROTARY), *attention(0.96, CONVOLVED), *own(0.8)]
    found = ranking_of(records)
    assert found.baseline == "attention, rotary, convolution"
    (mine,) = own_rows(found)
    assert mine.difference is not None
    assert mine.difference.mean == pytest.approx(-0.157)
    assert "gain" not in said(records)
    assert "behind" in said(records) or "below" in said(records)


def test_a_gain_is_said_only_over_a_strong_attention_on_five_seeds() -> None:
    strong = [*attention(0.1, ROTARY), *attention(0.5, CONVOLVED)]
    assert "gains on attention, rotary, convolution" in said([*strong, *own(0.8)])
    # Not over rotary alone, nor on one seed or four, nor where the interval has zero in it.
    assert "no win over attention" in said([*attention(0.1, ROTARY), *own(0.8)])
    diverged = record("mine.py:Mine", 6, {64: 0.9}, status="diverged")
    sixth = record("attention", 6, {64: 0.5}, mixer_options=CONVOLVED)
    for records in (
        [*strong, *own(0.8), sixth, diverged],
        [*attention(0.1, ROTARY), *own(0.8)],
        [*strong, *own(0.8, (1,))],
        [*strong, *own(0.8, (1, 2, 3, 4))],
        [*strong, *[record("mine.py:Mine", s, {64: 0.5 + 0.4 * (s % 2)}) for s in SEEDS]],
    ):
        assert "gain" not in said(records)
    assert "a lead of" in said([*strong, *own(0.8, (1,))])
    # Nor with twice the parameters.
    twice = own(0.8)
    for one in twice:
        one["costs"]["parameters"] *= 2
    assert "is above attention, rotary, convolution" in said([*strong, *twice])


def test_attention_of_another_protocol_is_no_baseline() -> None:
    records = [*attention(0.1, CONVOLVED, steps=100), *own(0.8, steps=5000)]
    found = ranking_of(records)
    assert found.baseline is None
    assert own_rows(found)[0].difference is None
    assert "gain" not in said(records)
    # One of the same protocol is, also where another keeps more.
    both = [*records, *attention(0.05, ROTARY, steps=5000)]
    assert ranking_of(both).baseline == "attention, rotary"
    # Nor is it compared with what is not the user's own, where it is the baseline.
    found = ranking_of([*records[:5], record("delta", 1, {64: 0.9}, steps=5000)])
    (row,) = (row for row in found.rows if not row.group.is_attention)
    assert (found.baseline, row.difference) == ("attention, rotary, convolution", None)


def test_several_task_settings_are_ranked_by_their_mean_seed_by_seed() -> None:
    records = []
    for task, rotary, mine in (("apply", 0.2, 0.9), ("recite", 0.4, 0.3)):
        records += attention(rotary, ROTARY, task=task) + own(mine, task=task)
    # Few ran this one: it is in no mean.
    records += attention(0.9, ROTARY, task="recall")
    found = ranking_of(records)
    assert ([one.task for one in found.settings], found.left) == (["apply", "recite"], ("recall",))
    (mine,) = own_rows(found)
    assert mine.retention.mean == pytest.approx(0.6 + 0.006)
    # Chance is 0.04 everywhere in made-up records, and taken out.
    assert mine.kept.mean == pytest.approx((0.606 - 0.04) / 0.96)
    assert mine.lowest == pytest.approx((0.302 - 0.04) / 0.96)
    assert mine.difference is not None
    assert mine.difference.mean == pytest.approx(0.303 / 0.96)
    assert mine.difference.seeds == 5
    assert dict(mine.by_task) == {"apply": pytest.approx(0.906), "recite": pytest.approx(0.306)}


def test_of_several_of_the_users_own_a_gain_is_said_after_correction() -> None:
    strong = [record("attention", s, {64: 0.5}, mixer_options=CONVOLVED) for s in SEEDS]
    first = [
        record("mine.py:A", s, {64: 0.5 + by})
        for s, by in zip(SEEDS, (0.02, 0.06, 0.1, 0.14, 0.18), strict=True)
    ]
    # Mean 0.1, deviation 0.0632, t = 3.5355: p = 0.024, and below 0.05 alone.
    assert "gains on attention" in said([*strong, *first])
    (row, *_) = own_rows(ranking_of([*strong, *first]))
    assert row.difference.p == pytest.approx(0.02412, abs=1e-5)
    # Two others of the user's own, and thrice 0.024 is not.
    others = [
        record(f"mine.py:{name}", s, {64: 0.5 + 0.1 * (-1) ** s + 0.001 * place})
        for place, name in enumerate("BC")
        for s in SEEDS
    ]
    assert "cannot be told from attention" in said([*strong, *first, *others])
    assert "tested with 2 others" in said([*strong, *first, *others])


def with_lost(records: list[Values], count: int) -> list[Values]:
    """The same records; the last seeds, so many, diverged."""
    lost = [{**one, "status": "diverged", "evaluations": []} for one in records[-count:]]
    return [*records[:-count], *lost]


def test_a_variant_with_a_diverged_seed_comes_last_whatever_the_others_keep() -> None:
    low = [record("slots", seed, {64: 0.2}) for seed in SEEDS]
    found = ranking_of([*attention(0.5, ROTARY), *with_lost(own(0.9), 4), *low])
    assert {row.label: row.place for row in found.rows} == {
        "attention, rotary": 1, "slots": 2, "mine.py:Mine": 3
    }  # fmt: skip
    # Nor do they share a place, where they keep as much.
    both = [*low, *with_lost([record("delta", seed, {64: 0.2}) for seed in SEEDS], 1)]
    assert {row.label: row.place for row in ranking_of(both).rows} == {"slots": 1, "delta": 2}

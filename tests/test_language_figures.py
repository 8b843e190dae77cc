"""Scores of rules in words: values by hand, a second implementation, coverage, comparisons."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from report_records import of_language
from scripts import script

from rulekeep.language import comparing, figures, intervals
from rulekeep.language.calibration import Judged, keys_of
from rulekeep.language.comparing import compare, worse
from rulekeep.records.pack import packed
from rulekeep.records.record import Choice, Record

MADE = script("calibration", "studies")


def row(
    prompt: int, family: str, option: int | None, scores: Sequence[float], **more: Any
) -> Choice:
    """What one family scored in one prompt."""
    return Choice("none", "test", prompt, family, 0, option, tuple(scores), **more)


def judged(rows: Sequence[Choice]) -> tuple[list[float], list[float]]:
    """Whether each rule is followed, and its gain over its rivals."""
    keys = keys_of(rows)
    right, gain = Judged(rows, keys).right(np.ones((1, len(keys))))
    return right[0].tolist(), gain.tolist()


# Calibration


def test_an_option_is_held_against_what_it_scores_where_it_is_not_stated() -> None:
    # b is 2 nats likelier than a, whether stated or not; stated options gain 1 nat.
    unstated = [row(at, "f", None, (-5.0 + at, -3.0 + at)) for at in (0, 1)]
    right, gain = judged([*unstated, row(2, "f", 0, (-4.0, -3.0)), row(3, "f", 1, (-9.0, -6.0))])
    # Prompt 2: (-4, -3) less (0, 2) is (-4, -5). Prompt 3: (-9, -6) less (0, 2) is (-9, -8).
    assert right == [1, 1]
    assert gain == pytest.approx([1, 1])


def test_an_option_that_is_likely_by_itself_does_not_count_as_followed() -> None:
    unstated = [row(at, "f", None, (0.0, -4.0)) for at in (0, 1)]
    # Both gain 1 nat where a is stated: a tie, half right. Where b is stated a gains: not followed.
    tie, lost = row(2, "f", 0, (1.0, -3.0)), row(3, "f", 1, (0.5, -4.0))
    assert judged([*unstated, tie, lost]) == ([0.5, 0], [0, -0.5])


def test_a_prompt_is_no_part_of_what_it_is_held_against() -> None:
    # Of three prompts that state a, b or c, each other's rivals are all that is known.
    rows = [
        row(0, "f", 0, (7.0, -2.0, -3.0)),
        row(1, "f", 1, (-1.0, 7.0, -3.0)),
        row(2, "f", 2, (-1.0, -2.0, 7.0)),
        row(3, "f", 0, (7.0, -2.0, -3.0)),
        row(4, "f", 1, (-1.0, 7.0, -3.0)),
        row(5, "f", 2, (-1.0, -2.0, 7.0)),
    ]
    _, gain = judged(rows)
    # By itself a scores -1, b -2, c -3: gains of 8, 9 and 10 over rivals that gain nothing.
    assert gain == pytest.approx([8, 9, 10] * 2)


def test_an_effect_of_a_prompt_on_all_options_cancels() -> None:
    # Options are stated in other prompts, and those of a are likelier by 100 nats in all.
    rows = [
        row(0, "f", 0, (100.5, 99.0, 98.0)), row(1, "f", 1, (0.0, -0.5, -2.0)),
        row(2, "f", 2, (50.0, 49.0, 48.5)), row(3, "f", 0, (-70.0, -71.0, -72.0)),
        row(4, "f", 1, (7.0, 6.5, 5.0)), row(5, "f", 2, (0.0, -1.0, -1.5)),
    ]  # fmt: skip
    right, gain = judged(rows)
    # a - b is 1 and b - c is 1 wherever neither is stated; prompt 3 gains nothing by its rule.
    assert gain == pytest.approx([0.5, 0.5, 0.5, 0.0, 0.5, 0.5])
    assert right == pytest.approx([1, 1, 1, 1 / 3, 1, 1])


def test_a_rule_without_two_other_samples_of_each_option_is_not_known() -> None:
    rows = [row(0, "f", 0, (1.0, 0.0)), row(1, "f", None, (0.0, 0.0))]
    assert np.isnan(judged(rows)[0]).all()
    assert judged([*rows, row(2, "f", None, (0.0, 0.0))])[0] == [1]
    # Two options whose rivals alone are known are never scored in one prompt: no fit.
    rivals = [row(at, "f", at % 2, (0.0, 0.0)) for at in range(8)]
    assert np.isnan(judged(rivals)[0]).all()


def test_a_rule_that_is_not_known_is_no_part_of_all_rules() -> None:
    # Of family g nothing else is known: prompt 2 is judged by its other rule.
    rows = [row(at, "f", None, (0.0, 0.0)) for at in (0, 1)]
    rows += [row(2, "f", 0, (1.0, 0.0)), row(2, "g", 0, (1.0, 0.0))]
    own = Judged(rows, keys_of(rows))
    assert own.by_prompt(own.right(np.ones((1, 3)))[0], whole=True).tolist() == [[1.0]]


def test_the_fit_is_that_of_least_squares() -> None:
    draw = np.random.default_rng(3)
    rows = MADE.made(draw, MADE.Truth.drawn(draw, 5, 4), 12, 1)
    right, gain = judged(rows)
    rules = [
        one for one in sorted(rows, key=lambda r: (r.prompt, r.family)) if one.option is not None
    ]
    for rule, was_right, was_gain in zip(rules, right, gain, strict=True):
        others = [one for one in rows if one.family == rule.family and one.prompt != rule.prompt]
        # One column a prompt, one an option; the cells of a prompt but for its stated one.
        cells = [
            (at, option, score)
            for at, one in enumerate(others)
            for option, score in enumerate(one.scores)
            if option != one.option
        ]
        design = np.zeros((len(cells), len(others) + 4))
        for line, (at, option, _) in enumerate(cells):
            design[line, [at, len(others) + option]] = 1
        fitted = np.linalg.lstsq(design, np.array([score for *_, score in cells]), rcond=None)[0]
        gains = np.array(rule.scores) - fitted[len(others) :]
        rivals = np.delete(gains, rule.option)
        assert was_gain == pytest.approx(gains[rule.option] - rivals.mean(), abs=1e-9)
        assert was_right == float(gains.argmax() == rule.option)


# Intervals


@pytest.mark.parametrize("cell", MADE.CELLS, ids=str)
def test_the_interval_over_prompts_holds_the_truth(cell: tuple[int, int, int]) -> None:
    # As the study found with more repeats; a small cell is made up again here.
    (row,) = [
        one for one in MADE.measured() if (one["prompts"], one["families"], one["options"]) == cell
    ]
    assert row["covered"] >= 0.9


def test_the_interval_of_a_small_cell_holds_the_truth() -> None:
    assert np.mean(MADE.held(60, 6, 4, 40, seed=2).inside) >= 0.87


@pytest.mark.parametrize("families", [6, 28])
def test_the_interval_over_families_covers_families_that_were_not_drawn(families: int) -> None:
    draw, inside = np.random.default_rng(7), []
    for _ in range(500):
        # Families of all kinds: their true shares are spread from 0 to 1; twelve rules each.
        shares = draw.beta(1.4, 0.6, families)
        found = intervals.over_families([*(draw.binomial(12, shares) / 12)])
        inside.append(found.low <= 0.7 <= found.high)
    assert np.mean(inside) > 0.9


def test_the_interval_over_families_is_that_of_student() -> None:
    from scipy import stats

    shares = [0.2, 0.5, 0.9, 0.4]
    low, high = stats.t.interval(0.95, 3, np.mean(shares), stats.sem(shares))
    found = intervals.over_families(shares)
    assert astuple(found) == pytest.approx((0.5, max(0, low), min(1, high)))
    # Exact where all are at an end: 1 - 0.025 ** (1 / 4) could fail.
    assert astuple(intervals.over_families([1.0] * 4)) == pytest.approx((1, 0.025**0.25, 1))
    assert astuple(intervals.over_families([0.3])) == (0.3, 0, 1)


def test_each_draw_leaves_out_every_copy_of_the_prompt_that_is_scored() -> None:
    draw = np.random.default_rng(1)
    rows = MADE.made(draw, MADE.Truth.drawn(draw, 5, 3), 9, 1)
    keys = keys_of(rows)
    weights = np.array([[1.0] * 9, [3, 0, 1, 2, 0, 0, 1, 2, 0]])
    own = Judged(rows, keys)
    gains = own.right(weights[1:])[1]
    # The same prompts as so many copies with names of their own.
    copies = [
        one._replace(prompt=100 * copy + one.prompt)
        for one in rows
        for copy in range(int(weights[1, one.prompt]))
    ]
    compared = 0
    for rule, gain in zip(own.rules, gains, strict=True):
        others = [one for one in copies if one.prompt % 100 != rule.prompt]
        alone = Judged([*others, rule], keys_of([*others, rule]))
        mine = alone.right(np.ones((1, len(keys_of([*others, rule])))))[1]
        (expected,) = [of for one, of in zip(alone.rules, mine, strict=True) if one is rule]
        if not np.isnan(expected):
            compared += 1
            assert gain == pytest.approx(expected, abs=1e-9)
    assert compared > 10


def test_an_interval_lies_around_the_mean_wherever_its_draws_lie() -> None:
    # A sample of 0.5, and a thousand draws from 0.1 to 0.3: their mean is moved by 0.3.
    draws = np.linspace(0.1, 0.3, 1001)
    shares = np.concatenate([[0.5], draws])[:, None].repeat(4, 1)
    found = intervals.percentiles(shares, np.ones_like(shares))
    assert astuple(found) == pytest.approx((0.5, 0.405, 0.595))


# Comparisons


def two_cells() -> tuple[list[Choice], list[Choice]]:
    """Six prompts of two rules: the second cell loses `b` in prompts 0 to 3."""
    unstated = [row(at, family, None, (0.0, 0.0)) for at in (8, 9) for family in "ab"]

    def of(lost: int) -> Iterator[Choice]:
        for prompt in range(6):
            yield row(prompt, "a", 0, (1.0, 0.0))
            yield row(prompt, "b", 1, (0.0, -1.0 if prompt < lost else 1.0))

    return [*of(0), *unstated], [*of(4), *unstated]


def test_a_comparison_is_paired_by_prompt() -> None:
    first, second = two_cells()
    found = compare(first, second)
    assert found is not None
    assert (found.first.mean, found.second.mean) == (1, pytest.approx(8 / 12))
    assert found.difference.mean == pytest.approx(-4 / 12)
    assert found.difference.low < -4 / 12 < found.difference.high <= 0
    assert (found.all_first, found.all_second) == (1, pytest.approx(2 / 6))
    assert (found.only_first, found.only_second) == (4, 0)
    # Four of four discordant prompts on one side: twice one in sixteen.
    assert found.mcnemar == pytest.approx(2 * comb(4, 0) / 2**4)
    assert found.by_family == {"b": pytest.approx(-4 / 6), "a": 0}
    assert [*found.by_family] == ["b", "a"]
    assert (found.prompts, found.rules) == (6, 12)
    back = compare(second, first)
    assert back is not None
    assert back.difference.mean == pytest.approx(4 / 12)
    assert (back.only_first, back.only_second) == (0, 4)
    assert worse([found, back]) == [found]
    same = compare(first, first)
    assert same is not None
    assert (same.difference.mean, same.p_value, same.mcnemar) == (0, 1, 1)
    assert worse([same]) == []


def test_only_rules_of_both_cells_are_compared() -> None:
    first, second = two_cells()
    # Another option is another rule, and what it scores calibrates still.
    second = [
        one._replace(option=0) if one.prompt == 5 and one.family == "b" else one for one in second
    ]
    found = compare(first, second)
    assert found is not None
    assert (found.prompts, found.rules) == (6, 11)
    assert found.difference.mean == pytest.approx(-4 * 0.5 / 6)
    assert compare(first, [one._replace(prompt=one.prompt + 50) for one in second]) is None


def test_a_rule_that_one_cell_does_not_know_counts_in_neither() -> None:
    first, second = two_cells()
    # Both state c in prompt 5, and only the second scores it where it is not stated.
    first, second = ([*cell, row(5, "c", 0, (-1.0, 0.0))] for cell in (first, second))
    second += [row(at, "c", None, (0.0, 0.0)) for at in (8, 9)]
    found = compare(first, second)
    assert found is not None
    assert (found.rules, found.second.mean) == (12, pytest.approx(8 / 12))
    assert (found.all_second, found.only_first) == (pytest.approx(2 / 6), 4)


def test_what_is_said_is_no_part_of_a_comparison() -> None:
    first, second = two_cells()
    noise = [one._replace(how="said", scores=(9.0, 0.0)) for one in first]
    assert compare([*first, *noise], second) == compare(first, second)


def test_a_loss_is_shown_after_holm_over_all_comparisons() -> None:
    found = compare(*two_cells())
    assert found is not None
    from dataclasses import replace

    made_up = [replace(found, p_value=p) for p in (0.02, 0.03, 0.2)]
    # 0.02 * 3 is above 0.05: nothing is shown. Alone it is.
    assert comparing.worse(made_up) == []
    assert comparing.worse(made_up[:1]) == made_up[:1]
    # 0.01 * 3 and 0.02 * 2 are not above it, 0.2 is.
    made_up = [replace(found, p_value=p) for p in (0.2, 0.02, 0.01)]
    assert comparing.worse(made_up) == [made_up[2], made_up[1]]


def test_the_p_of_a_difference_is_that_of_the_spread_of_its_draws() -> None:
    first, second = two_cells()
    # Prompts 6 and 7 state rules in the second cell alone: no draw of the difference counts them.
    second = [*second, row(6, "a", 0, (0.0, 5.0)), row(7, "a", 0, (0.0, 5.0))]
    found = compare(first, second)
    assert found is not None
    keys = keys_of([*first, *second])
    changes = {number: -0.5 if number < 4 else 0.0 for number in range(6)}
    means = []
    for draw in intervals.resampled(len(keys))[1:]:
        held = [
            (weight, changes.get(number)) for weight, (_, number) in zip(draw, keys, strict=True)
        ]
        counted = [(weight, change) for weight, change in held if change is not None]
        total = sum(weight for weight, _ in counted)
        means.append(sum(weight * change for weight, change in counted) / total)
    from scipy.stats import norm

    spread = float(np.std(means))
    assert found.p_value == pytest.approx(2 * norm.sf(abs(found.difference.mean) / spread))


def test_a_difference_that_is_the_same_in_every_prompt_is_held_by_the_sign_test() -> None:
    first, _ = two_cells()
    lost = [
        one._replace(scores=one.scores[::-1]) if one.option is not None else one for one in first
    ]
    found = compare(first, lost)
    assert found is not None
    assert found.difference.mean == -1
    # Six prompts, all one way: twice one in sixty-four.
    assert found.p_value == pytest.approx(2 / 64)


# Certificates and written replies


def test_the_interval_of_a_family_without_rules_holds_for_all_families_at_once() -> None:
    from scipy.stats import beta

    unstated = [row(at, family, None, (0.0, 0.0)) for at in (90, 91) for family in "abcd"]
    # Of ten rules of each family, which are in no text, so many are right by luck.
    lucky = {"a": 3, "b": 5, "c": 10, "d": 0}
    rules = [
        row(number, family, 0, (1.0, 0.0) if number < right else (0.0, 1.0))
        for family, right in lucky.items()
        for number in range(10)
    ]
    made = figures.cell(Record.read(of_language([*rules, *unstated], families=[*lucky])))
    found = {one.family: one for one in figures.without_rules(made["none"])}
    tail = 0.05 / 2 / 4
    for family, right in lucky.items():
        one = found[family]
        assert one.share.mean == right / 10
        assert one.share.low == pytest.approx(beta.ppf(tail, right, 11 - right) if right else 0)
        assert one.share.high == pytest.approx(
            beta.ppf(1 - tail, right + 1, 10 - right) if right < 10 else 1
        )
        assert one.is_at_chance == (right in (3, 5))


def test_a_written_reply_is_right_where_it_shows_its_option_alone() -> None:
    shown = {(1.0, 0.0): 1, (1.0, 1.0): 0, (0.0, 1.0): 0, (0.0, 0.0): 0}
    rows = [row(at, "f", 0, scores, judged="written") for at, scores in enumerate(shown)]
    assert judged(rows)[0] == [*shown.values()]


# The command


def test_the_command_compares_two_folders_or_two_compressions_and_ends_with_1_for_a_loss(
    tmp_path: Path, run: Command
) -> None:
    first, second = two_cells()
    both = [*first, *(one._replace(compress="h2o@0.5") for one in second)]
    for name, rows in (("whole", first), ("worse", second), ("both", both)):
        compress = [*dict.fromkeys(one.compress for one in rows)]
        values = of_language(
            rows, versions={"model": "m", "protocol": 3}, families=["a", "b"], compress=compress,
            prompts=10,
        )  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "records.jsonl").write_bytes(packed([values]))
    gate = ("--compress", "none,h2o@0.5", "--fail-if-worse")
    for words, code, named in (
        (("whole", "worse"), 0, "none"),
        (("whole", "worse", "--fail-if-worse"), 1, "none"),
        (("worse", "whole", "--fail-if-worse"), 0, "none"),
        (("both", *gate), 1, "none → h2o@0.5"),
    ):
        ended, shown, errors = run("compare", *words)
        assert ended == code, errors
        better = words[0] == "worse"
        told = shown.decode()
        assert named in told
        # Two thirds of the rules are kept by the worse side, and its b loses four of six.
        assert ("0.333 (" if better else "-0.333 (") in told
        assert ("0.667" if better else "-0.667") in told
        assert ("1 of 1 comparisons show" in errors) == (not better)
    for words in (("whole",), ("whole", "nothing"), ("whole", "--compress", "a,b,c")):
        ended, shown, errors = run("compare", *words)
        assert (ended, shown, errors.count("\n")) == (2, b"", 1)

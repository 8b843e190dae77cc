"""Scores by hand on tiny samples; then the chance of whole answers, by enumerating them.

tests/test_tasks.py enumerates the chance of each word, and tests/test_model.py reads in parts.
"""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from reading import every_answer, make

from rulekeep.analysis.metrics import score_samples
from rulekeep.records.figures import SCORES
from rulekeep.tasks import (
    Apply,
    Override,
    Recall,
    Recite,
    Role,
    RuleWords,
    Sample,
    SampledTask,
)


def tiny(**changes: Any) -> Sample:
    """Two examples of a made-up task, answers `rule rule item rule`, the last a later mention.

    Rule words 10 to 15 demand themselves; 16 and 17 are items; 0 is a filler.

    context:  10 13 16  11 14  0 | 10 13 16 10      decoys 11 and 14
              12 10 17  12 12  0 | 10 12 17 10      decoy 12; its rules stand the other way round
    """
    tokens = np.array([[10, 13, 16, 11, 14, 0, 10, 13, 16, 10],
                       [12, 10, 17, 12, 12, 0, 10, 12, 17, 10]])  # fmt: skip
    rule = np.array([[1, 1, 0, 1]] * 2, dtype=bool)
    roles = [Role.RULE, Role.RULE, Role.ITEM, Role.DECOY_RULE, Role.DECOY_RULE, Role.PLAIN]
    words = np.arange(10, 16)
    made = Sample(
        tokens=tokens,
        answer_start=6,
        supervised=np.ones_like(rule),
        rule=rule,
        first_mention=np.array([[1, 1, 0, 0]] * 2, dtype=bool),
        item=~rule,
        prohibition=np.zeros_like(rule),
        chance=np.array([[1 / 6, 1 / 5, 1 / 2, 1]] * 2),
        source=np.array([[0, 1, 2, 0], [1, 0, 2, 1]]),
        step=np.array([[0, 0, 1, 1]] * 2),
        roles=np.array([[*roles, *[Role.ANSWER] * 4]] * 2),
        rule_words=RuleWords(words, words, np.zeros_like(words)),
    )
    return made._replace(**changes)


def scores_of(sample: Sample, *rows: list[int], generated: Any = None) -> dict[str, Any]:
    return score_samples([(sample, np.array(rows), generated)])


def test_accuracies_count_the_positions_that_they_name() -> None:
    scores = scores_of(tiny(), [10, 0, 16, 10], [10, 12, 0, 0])
    assert scores["n"] == 2
    assert scores["token_accuracy"] == 5 / 8
    assert scores["item_accuracy"] == 1 / 2
    assert scores["rule_accuracy"] == 4 / 6
    assert scores["retention"] == 3 / 4
    assert scores["joint"] == 1 / 2
    assert scores["exact_teacher_forced"] == 0


def test_chance_and_correction_by_hand() -> None:
    scores = scores_of(tiny(), [10, 0, 16, 10], [10, 12, 0, 0])
    retention = (1 / 6 + 1 / 5) / 2
    assert scores["chance"] == {
        "token_accuracy": pytest.approx((1 / 6 + 1 / 5 + 1 / 2 + 1) / 4),
        "item_accuracy": 1 / 2,
        "rule_accuracy": pytest.approx((1 / 6 + 1 / 5 + 1) / 3),
        "retention": pytest.approx(retention),
        "joint": pytest.approx(1 / 30),
        "exact": pytest.approx(1 / 60),
    }
    assert scores["corrected"]["retention"] == pytest.approx((3 / 4 - retention) / (1 - retention))
    assert scores["corrected"]["item_accuracy"] == 0
    assert scores["corrected"]["exact"] is None
    # All that is asked for can be read off: nothing is left to correct.
    given = scores_of(tiny(chance=np.ones((2, 4))), [10, 13, 16, 10], [10, 12, 17, 10])
    assert given["retention"] == 1
    assert set(given["corrected"].values()) == {None}


def test_what_is_given_counts_nowhere() -> None:
    """Recall's queries: here the first mention of each example is given, and the item."""
    supervised = np.array([[0, 1, 0, 1]] * 2, dtype=bool)
    sample = tiny(supervised=supervised)
    wrong = [0, 13, 0, 10], [0, 12, 0, 10]
    scores = scores_of(sample, *wrong, generated=np.array(wrong))
    assert scores["exact_teacher_forced"] == 1
    assert scores["item_accuracy"] is scores["chance"]["item_accuracy"] is None
    assert {scores[name] for name in SCORES.keys() - {"item_accuracy"}} == {1}
    assert scores["intrusion_rate"] is None
    assert scores["chance"]["exact"] == pytest.approx(1 / 5)


def test_retention_by_step_position_and_kind() -> None:
    prohibition = np.array([[1, 0, 0, 1], [0, 0, 0, 0]], dtype=bool)
    step = np.array([[0, 1, 1, 1]] * 2)
    scores = scores_of(tiny(prohibition=prohibition, step=step), [10, 0, 0, 0], [0, 12, 0, 0])
    assert scores["retention_by_step"] == [
        {"step": 0, "n": 2, "retention": 1 / 2, "chance": pytest.approx(1 / 6)},
        {"step": 1, "n": 2, "retention": 1 / 2, "chance": pytest.approx(1 / 5)},
    ]
    # The second example says last the rule that stands first.
    assert scores["retention_by_position"] == [
        {"position": 0, "n": 2, "retention": 1, "chance": pytest.approx((1 / 6 + 1 / 5) / 2)},
        {"position": 1, "n": 2, "retention": 0, "chance": pytest.approx((1 / 6 + 1 / 5) / 2)},
    ]
    assert scores["retention_by_kind"] == {
        "prohibition": {"n": 1, "retention": 1, "chance": pytest.approx(1 / 6)},
        "requirement": {"n": 3, "retention": 1 / 3, "chance": pytest.approx((1 / 6 + 2 / 5) / 3)},
    }
    assert scores_of(tiny(), [0] * 4, [0] * 4)["retention_by_kind"] == {}


def test_positions_are_ranks_of_the_instructions_of_each_example() -> None:
    first = np.array([[1, 1, 0, 1]] * 2, dtype=bool)
    source = np.array([[5, 1, -1, 3], [0, 2, -1, 4]])
    sample = tiny(first_mention=first, source=source, rule_words=None)
    scores = scores_of(sample, [10, 0, 16, 0], [0, 0, 17, 10])
    found = [entry["retention"] for entry in scores["retention_by_position"]]
    assert found == [0, 0, 1]
    assert [entry["position"] for entry in scores["retention_by_position"]] == [0, 1, 2]


def test_intrusions_by_hand() -> None:
    # Wrong are 11 (a decoy) and 15 (none), then 13 (a decoy elsewhere) and, right, 12.
    scores = scores_of(tiny(), [11, 15, 16, 10], [13, 12, 17, 10])
    assert scores["intrusion_rate"] == 1 / 3
    # Decoys 11 and 14 among 5 wrong words, then among 4; 12 among 5.
    assert scores["intrusion_chance"] == pytest.approx((2 / 5 + 2 / 4 + 1 / 5) / 3)
    # After a right 10 no rule is 10 again: decoys 11 and 14 among 11, 12, 14 and 15.
    after_right = scores_of(tiny(), [10, 15, 16, 10], [10, 12, 17, 10])
    assert (after_right["intrusion_rate"], after_right["intrusion_chance"]) == (0, 2 / 4)
    right = scores_of(tiny(), [10, 13, 0, 0], [10, 12, 0, 0])
    assert right["intrusion_rate"] is right["intrusion_chance"] is None
    untold = scores_of(tiny(rule_words=None), [11, 15, 16, 10], [13, 12, 17, 10])
    assert untold["intrusion_rate"] is None


def test_an_answer_that_several_rules_demand_names_that_of_its_group() -> None:
    """As in override: 10 and 13 demand 0, each of its group; 11 demands 21, 12 22 and so on."""
    words, answers = np.arange(10, 16), np.array([0, 21, 22, 0, 24, 25])
    groups = np.array([0, 0, 0, 1, 1, 1])
    sample = tiny(rule_words=RuleWords(words, answers, groups))
    sample.tokens[:, 6:] = [[21, 24, 16, 21], [22, 25, 17, 22]]
    sample.tokens[:, :2] = [[11, 14], [15, 12]]
    # Decoys: 10 and 11; then 13 and 12.
    sample.tokens[:, 3:5] = [[10, 11], [13, 12]]
    scores = scores_of(sample, [0, 0, 16, 21], [0, 0, 17, 22])
    assert scores["intrusion_rate"] == 2 / 4
    # Of two wrong words each: 10 of (10, 12); none of (13, 15); none of (10, 11); 13 of (13, 14).
    assert scores["intrusion_chance"] == pytest.approx((1 / 2 + 0 + 0 + 1 / 2) / 4)
    # A decoy of another group is named by an answer of its own.
    assert scores_of(sample, [21, 21, 16, 21], [22, 22, 17, 22])["intrusion_rate"] == 1


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (Recite, {"rules": 2, "rule_words": 6, "items": 4}),
        (Recall, {"rules": 2, "rule_words": 5, "items": 4}),
        (Apply, {"rules": 2, "rule_words": 7, "items": 9, "outputs": 2, "kinds": 2}),
        (Apply, {"rules": 3, "rule_words": 7, "items": 9, "outputs": 3, "kinds": 2}),
        (Apply, {"rules": 3, "rule_words": 6, "items": 8, "outputs": 2, "kinds": 1}),
        (Override, {"rules": 1, "rule_words": 13, "items": 9, "outputs": 3, "kinds": 2}),
    ],
)
def test_chance_of_whole_answers_is_that_of_the_likeliest_one(
    task: type[SampledTask], options: dict[str, Any]
) -> None:
    """By enumeration: the best guesser, told what is a first mention, is right on one answer."""
    made = make(task, **options)
    weights: defaultdict[Any, Counter[Any]] = defaultdict(Counter)
    for weight, told in every_answer(made):
        # What the guesser is told: which kind of token comes, and for joint all other tokens.
        masks = (tuple(told.rule), tuple(told.first))
        known = tuple(w for w, first in zip(told.words, told.first, strict=True) if not first)
        if task is Recall:
            known = tuple(told.words[0::2])
        repeated = tuple(w if w.startswith("item-") else "" for w in known)
        mentions = tuple(w for w, first in zip(told.words, told.first, strict=True) if first)
        weights["joint", masks, repeated][mentions] += weight
        # In recall the keys are given.
        weights["exact", masks if task is not Recall else known][tuple(told.words)] += weight
    total = {name: sum(sum(c.values()) for key, c in weights.items() if key[0] == name)
             for name in ("joint", "exact")}  # fmt: skip
    best = {name: sum(max(c.values()) for key, c in weights.items() if key[0] == name)
            for name in ("joint", "exact")}  # fmt: skip
    sample = made.sample("train", 96, 3000)
    scores = score_samples([(sample, sample.answers, None)])
    joint, exact = (float(best[name] / total[name]) for name in ("joint", "exact"))
    assert scores["chance"]["joint"] == pytest.approx(joint, rel=1e-9)
    if task in (Recite, Recall) or options["kinds"] == 1:
        assert scores["chance"]["exact"] == pytest.approx(exact, rel=1e-9)
    else:
        assert scores["chance"]["exact"] == pytest.approx(exact, abs=0.003)

"""Scores by hand on tiny samples; then what an oracle, a guesser and a copier score on tasks."""

import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from reading import SAMPLED, every_answer, make, number

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


TASKS_BY_NAME: dict[str, tuple[type[SampledTask], dict[str, Any]]] = {
    f"{task.name} {placement}": (task, {"placement": placement})
    for task in SAMPLED
    for placement in ("early", "marked")
}
TASKS_BY_NAME["recall zoology"] = (Recall, {"layout": "zoology"})
every_task = pytest.mark.parametrize("name", TASKS_BY_NAME)


@cache
def drawn(name: str, context: int = 512, n: int = 400) -> tuple[SampledTask, Sample]:
    task, options = TASKS_BY_NAME[name]
    made = make(task, **options)
    return made, made.sample("test", context, n)


def possible(task: SampledTask, sample: Sample, i: int, j: int) -> list[str]:
    """Words that a first mention may be, by the tasks' descriptions: of equal chance, but in
    override, where the one prohibition comes first."""
    right = task.vocabulary[sample.answers[i, j]]
    size, k = task.options.rule_words, task.options.rules
    if task.name in ("recite", "recall"):
        kind = right.split("-")[0]
        before = sample.answers[i, :j][sample.first_mention[i, :j]]
        told = {task.vocabulary[token] for token in before}
        return [word for r in range(size) if (word := f"{kind}-{r}") not in told]
    rule = task.vocabulary[sample.tokens[i, sample.source[i, j]]]
    m = k if task.name == "apply" else k + math.ceil(k / 2)
    words = [f"shows-{r}" for r in range(number(rule) % m, size, m)]
    return ["<none>", *words[1:]] if task.name == "override" else words


def with_mentions(
    task: SampledTask, sample: Sample, say: Callable[[int, int], str | None]
) -> np.ndarray:
    """The answers, with `say` in the place of each first mention."""
    predictions = sample.answers.copy()
    for i, j in np.argwhere(sample.first_mention):
        word = say(i, j)
        predictions[i, j] = -1 if word is None else task.vocabulary.index(word)
    return predictions


@every_task
def test_a_guesser_without_the_context_scores_chance(name: str) -> None:
    """Any of the possible words; in override the likeliest, since one of them is likelier."""
    task, sample = drawn(name)
    stream = np.random.default_rng(3)
    biased = task.name == "override"

    def say(i: int, j: int) -> str:
        words = possible(task, sample, i, j)
        return words[0 if biased else stream.integers(len(words))]

    predictions = with_mentions(task, sample, say)
    for i, j in np.argwhere(sample.item):
        kind, size = number(task.vocabulary[sample.answers[i, j]]), task.options.items
        # Items are one kind in recite. Else two of four are even: told which, guess among those.
        step = 1 if task.name == "recite" else 2
        guess = stream.integers(size // step) * step + kind % step
        predictions[i, j] = task.vocabulary.index(f"item-{guess}")
    scores = score_samples([(sample, predictions, predictions)])
    names = ["retention", "rule_accuracy", "joint"]
    names += ["token_accuracy", "item_accuracy", "exact"] if task.name == "recite" else []
    for metric in names:
        found, chance = scores[metric], scores["chance"][metric]
        count = sample.first_mention.sum() if metric == "retention" else len(sample.tokens)
        assert abs(found - chance) < 4 * (chance * (1 - chance) / count) ** 0.5 + 1e-3, metric
    for metric in set(names) & set(scores["corrected"]):
        level = scores["chance"][metric]
        assert level is not None
        expected = (scores[metric] - level) / (1 - level)
        assert scores["corrected"][metric] == pytest.approx(expected)
    assert scores["intrusion_rate"] is not None
    if not biased:
        assert scores["intrusion_rate"] == pytest.approx(scores["intrusion_chance"], abs=0.06)


@every_task
def test_chunks_change_no_bit(name: str) -> None:
    task, sample = drawn(name)
    stream = np.random.default_rng(5)
    spoilt = stream.random(sample.answers.shape) < 0.4
    first = task.vocabulary.index("value-0" if task.name == "recall" else "rule-0")
    guesses = stream.integers(first, first + 32, sample.answers.shape)
    predictions = np.where(spoilt, guesses, sample.answers)
    whole = score_samples([(sample, predictions, sample.answers)])
    ends = [0, 1, 8, 150, 400]
    parts = [
        (
            Sample(*(x[a:b] if isinstance(x, np.ndarray) else x for x in sample)),
            predictions[a:b],
            sample.answers[a:b],
        )
        for a, b in itertools.pairwise(ends)
    ]
    assert score_samples(parts) == whole
    assert score_samples(reversed(parts)) == whole
    # A record's row: plain JSON, no NaN in it, and itself again after the round trip.
    row = whole
    assert json.loads(json.dumps(row, allow_nan=False)) == row


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

"""Recall with several numbers of pairs: each in its share, asked alike, as `recall` otherwise."""

from collections import Counter

import numpy as np
import pytest

from rulekeep.analysis.metrics import score_samples
from rulekeep.tasks import Role, Sample
from rulekeep.tasks.mixed_recall import (
    FEWEST,
    PAIRS,
    TOGETHER,
    MixedRecall,
    steps_of,
)

TASK = MixedRecall()


def pairs_of(sample: Sample) -> list[int]:
    """Keys before the first query, told by their roles."""
    return (sample.roles == Role.RULE).sum(axis=1).tolist()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("context", [16, 77, 256])
def test_every_answer_is_the_value_of_the_key_before_it(split: str, context: int) -> None:
    sample = TASK.sample(split, context, 100)
    assert sample.tokens.shape == (100, context)
    row, column = np.nonzero(sample.supervised)
    source = sample.source[row, column]
    before = sample.tokens[row, sample.answer_start + column - 1]
    assert (sample.tokens[row, source] == sample.answers[row, column]).all()
    assert (sample.tokens[row, source - 1] == before).all()
    assert (sample.source[~sample.supervised] == -1).all()
    assert (sample.chance[~sample.supervised] == 1).all()


def test_a_batch_of_training_has_one_number_of_pairs_and_asks_for_all() -> None:
    sample = TASK.sample("train", 256, 40 * TOGETHER)
    numbers = np.array(pairs_of(sample)).reshape(-1, TOGETHER)
    assert (numbers == numbers[:, :1]).all()
    assert set(numbers[:, 0].tolist()) == set(PAIRS)
    assert (sample.supervised.sum(axis=1) == numbers.ravel()).all()


def test_elsewhere_numbers_of_pairs_take_turns_and_four_are_asked_for() -> None:
    sample = TASK.sample("test", 256, 250)
    assert pairs_of(sample) == [PAIRS[i % 5] for i in range(250)]
    assert (sample.supervised.sum(axis=1) == FEWEST).all()
    assert Counter(pairs_of(TASK.sample("validation", 64, 60))) == {4: 20, 8: 20, 16: 20}
    # Any of the pairs, wherever its query stands.
    asked = sample.step[sample.supervised]
    assert {step for step in asked if step in steps_of(16)} == set(steps_of(16))


def test_steps_tell_numbers_of_pairs_apart() -> None:
    steps = [step for pairs in PAIRS for step in steps_of(pairs)]
    assert steps == list(range(sum(PAIRS)))
    sample = TASK.sample("test", 256, 100)
    right = np.where(np.array(pairs_of(sample))[:, None] == 8, sample.answers, -1)
    rows = score_samples([(sample, right, None)])["retention_by_step"]
    assert {row["step"] for row in rows if row["retention"] == 1} <= set(steps_of(8))
    assert sum(row["n"] for row in rows if row["step"] in steps_of(8)) == 20 * FEWEST

import numpy as np
import pytest

from rulekeep.metrics import score
from rulekeep.tasks import Article, Examples


@pytest.fixture
def one() -> Examples:
    """`A B I A B I <eos>` with A = 3, B = 4, I = 12."""
    return Article().examples("test", 16).take([0])


def test_the_answer_itself_scores_one(one: Examples) -> None:
    assert set(score(one.answers, one).as_dict().values()) == {1.0}


def test_a_wrong_everything_scores_zero(one: Examples) -> None:
    assert set(score(one.answers * 0, one).as_dict().values()) == {0.0}


def test_a_model_that_only_copies_has_no_retention(one: Examples) -> None:
    scores = score(np.array([[0, 0, 0, 3, 4, 12, 2]]), one)
    assert scores.rule_accuracy == 0.5
    assert scores.retention == 0.0
    assert scores.second_mention_accuracy == 1.0
    assert scores.item_accuracy == 0.5
    assert scores.token_accuracy == pytest.approx(4 / 7)
    assert scores.exact == 0.0


def test_scores_are_pooled_over_examples(one: Examples) -> None:
    two = Article().examples("test", 16).take([0, 1])  # I A B I A B <eos>
    predictions = two.answers.copy()
    predictions[0, 0] = 0
    predictions[1, 0] = 0
    scores = score(predictions, two)
    assert scores.rule_accuracy == pytest.approx(7 / 8)
    assert scores.retention == pytest.approx(3 / 4)
    assert scores.item_accuracy == pytest.approx(3 / 4)
    assert scores.exact == 0.0
    predictions[1] = two.answers[1]
    assert score(predictions, two).exact == 0.5

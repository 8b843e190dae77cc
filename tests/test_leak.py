import pytest

from rulekeep.article.leak import leak_scores


@pytest.mark.parametrize("context", [20, 21, 22, 64, 256, 1028])
def test_the_last_six_prefix_tokens_give_the_known_figures(context: int) -> None:
    scores = leak_scores(context)
    assert scores["token_accuracy"] == 0.875
    assert scores["rule_accuracy"] == 0.78125
    assert scores["item_accuracy"] == 1.0
    assert scores["retention"] == 0.5625


@pytest.mark.parametrize("context", [16, 17, 18, 19])
def test_a_cut_cycle_gives_less(context: int) -> None:
    assert leak_scores(context)["token_accuracy"] < 0.875


def test_a_reader_of_the_whole_prefix_is_never_wrong() -> None:
    assert leak_scores(64, window=57)["exact"] == 1.0


def test_a_reader_of_nothing_but_the_target_retains_next_to_nothing() -> None:
    scores = leak_scores(64, window=0)
    assert scores["second_mention_accuracy"] == 1.0
    assert scores["retention"] < 0.2


@pytest.mark.parametrize("context", [64, 1028])
def test_independent_decoys_leave_that_reader_at_chance(context: int) -> None:
    scores = leak_scores(context, decoys="independent")
    # Every rule and item is as frequent as the others, and what is said already is sure.
    assert scores["retention"] == pytest.approx((1 / 9 + 1 / 8) / 2)
    assert scores["item_accuracy"] == pytest.approx((1 / 9 + 1) / 2)
    assert scores["second_mention_accuracy"] == 1.0

import as_published
import numpy as np
import pytest

from rulekeep.tasks import TASKS, Article
from rulekeep.tasks.article import FILLERS, ITEMS, RULES, SPECIAL, STEPS

SPLITS = [("train", "train"), ("test", "validation")]
CONTEXTS = [16, 17, 21, 22, 23, 64, 256, 1028]


def test_vocabulary_has_39_words_in_the_published_order() -> None:
    assert Article.vocabulary == tuple(as_published.VOCABULARY)
    assert [len(kind) for kind in (SPECIAL, RULES, ITEMS, STEPS, FILLERS)] == [3, 9, 9, 9, 9]


@pytest.mark.parametrize(("split", "published"), SPLITS)
@pytest.mark.parametrize("context", CONTEXTS)
def test_every_example_is_the_published_one(split: str, published: str, context: int) -> None:
    ours = Article().examples(split, context).tokens
    assert ours.shape == (1944, context)
    assert ours.tolist() == as_published.examples(published, context)


def test_a_hand_written_example() -> None:
    tokens = Article().examples("train", 22).tokens[0]
    assert Article().words(tokens) == (
        "<bos> red blue app please make add show test "
        "make please green chart test small "
        "red blue app red blue app <eos>"
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_independent_decoys_change_nothing_else_and_go_with_no_rule(split: str) -> None:
    published = Article().examples(split, 64)
    drawn = Article().examples(split, 64, decoys=np.random.default_rng(1))
    changed = published.tokens != drawn.tokens
    places = [9 + 6 * cycle + k for cycle in range(8) for k in (2, 3)]
    assert set(changed.any(axis=0).nonzero()[0]) == set(places)
    # One decoy rule and one decoy item in all of an example's cycles.
    for first in (11, 12):
        assert (drawn.tokens[:, first::6][:, :8] == drawn.tokens[:, first : first + 1]).all()
    answers = drawn.answers
    for k, (a, b, item) in enumerate(((0, 1, 2), (1, 2, 0), (2, 0, 2))):
        rows = np.arange(1944) % 3 == k
        for column, place in ((a, 11), (b, 11), (item, 12)):
            shift = (drawn.tokens[rows, place] - answers[rows, column]) % 9
            counts = np.bincount(shift, minlength=9)
            # 648 examples on 9 shifts, each 72 and a standard deviation of 8.
            assert abs(counts - 72).max() < 32
    again = Article().examples(split, 64, decoys=np.random.default_rng(1))
    assert np.array_equal(again.tokens, drawn.tokens)


@pytest.mark.parametrize("split", ["train", "test"])
def test_masks_say_which_answer_tokens_are_rules_first_mentions_and_items(split: str) -> None:
    examples = Article().examples(split, 64)
    words = np.array(Article.vocabulary)[examples.answers]
    assert np.array_equal(examples.rule, np.isin(words, RULES))
    assert np.array_equal(examples.item, np.isin(words, ITEMS))
    for row in range(0, 1944, 7):
        first = [words[row, i] not in words[row, :i] for i in range(7)]
        assert np.array_equal(examples.first_mention[row], examples.rule[row] & first)


def test_catalogue_names_each_task() -> None:
    assert all(task.name == name for name, task in TASKS.items())

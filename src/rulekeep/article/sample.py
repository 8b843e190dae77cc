"""Published sequences with the role of each token and its chance, as sampled tasks have them.

>>> article_sample(Article().examples("test", 64)).tokens.shape
(1944, 64)
"""

from typing import NamedTuple

import numpy as np

from rulekeep.analysis.metrics import score_samples
from rulekeep.kernels.shapes import AnswerMask, AnswerTable
from rulekeep.tasks import Article, Role, Sample
from rulekeep.tasks.article import ITEMS, PREFIX_LENGTH, RULES, Examples


class ArticleScores(NamedTuple):
    """Scores of teacher-forced answers, and the chance level of each, by the names of records.

    `second_mention_accuracy` is of rules that can be copied from three tokens before. `exact` is of
    whole answers: tokens before a mistake are the model's own, so generation scores the same.
    """

    figures: dict[str, float]
    chance: dict[str, float]


def article_scores(predictions: AnswerTable, examples: Examples) -> ArticleScores:
    """Scores of predicted answers, `[n, answer]` token ids."""
    sample = article_sample(examples)
    found = score_samples([(sample, predictions, None)])
    second = sample.rule & ~sample.first_mention
    shares = {
        "token_accuracy": found.token_accuracy,
        "rule_accuracy": found.rule_accuracy,
        "item_accuracy": found.item_accuracy,
        "retention": found.retention,
        "second_mention_accuracy": float((predictions == sample.answers)[second].mean()),
        "exact": found.exact_teacher_forced,
    }
    chance = {**found.chance, "second_mention_accuracy": 1.0}
    return ArticleScores(
        {name: share for name, share in shares.items() if share is not None},
        {name: level for name in shares if (level := chance[name]) is not None},
    )


def article_sample(examples: Examples) -> Sample:
    """The same examples, in their order.

    Chance is that of a reader who knows the answer so far and the kind of token here. It is one
    rule of 9, then one of the 8 others, and one item of 9. What was said before is certain.
    """
    tokens, start = examples.tokens, examples.answer_start
    is_rule, is_item = (
        np.isin(tokens, [Article.vocabulary.index(word) for word in words])
        for words in (RULES, ITEMS)
    )
    in_prefix = np.arange(tokens.shape[1]) < PREFIX_LENGTH
    roles = np.full(tokens.shape, Role.PLAIN, dtype=np.int8)
    roles[is_rule] = Role.DECOY_RULE
    roles[is_item] = Role.DECOY_ITEM
    roles[is_rule & in_prefix] = Role.RULE
    roles[is_item & in_prefix] = Role.ITEM
    roles[:, start:] = Role.ANSWER
    first = examples.first_mention
    chance = np.ones(first.shape)
    chance[first] = np.where(first.cumsum(axis=1) == 1, 1 / len(RULES), 1 / (len(RULES) - 1))[first]
    chance[_firsts(examples.item)] = 1 / len(ITEMS)
    # Where the same word stands in the prefix; <eos> stands nowhere.
    same = tokens[:, None, :PREFIX_LENGTH] == examples.answers[:, :, None]
    source = np.where(same.any(axis=2), same.argmax(axis=2), -1)
    return Sample(
        tokens=tokens,
        answer_start=start,
        supervised=np.ones_like(first),
        rule=examples.rule,
        first_mention=first,
        item=examples.item,
        prohibition=np.zeros_like(first),
        chance=chance,
        source=source,
        step=np.tile(np.arange(first.shape[1]), (len(tokens), 1)),
        roles=roles,
    )


def _firsts(mask: AnswerMask) -> AnswerMask:
    """The first place of each row that a mask marks."""
    first: np.ndarray = mask & (mask.cumsum(axis=1) == 1)
    return first

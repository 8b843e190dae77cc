"""The published sequences with the role of each token and its chance, as sampled tasks have them.

>>> article_sample("test", 64).tokens.shape
(1944, 64)
"""

import numpy as np

from rulekeep.tasks import Article, Role, Sample, Split
from rulekeep.tasks.article import ITEMS, PREFIX_LENGTH, RULES
from rulekeep.tasks.base import AnswerMask


def article_sample(split: Split, context: int) -> Sample:
    """All 1944 examples, in the order of the table.

    Chance is that of a reader who knows the answer so far and the kind of token here. It is one
    rule of 9, then one of the 8 others, and one item of 9. What was said before is certain.

    Raises:
        ValueError: the article has no such split, or the context is too short.
    """
    examples = Article().examples(split, context)
    tokens, start = examples.tokens, examples.answer_start
    is_rule, is_item = (
        np.isin(tokens, [Article.vocabulary.index(word) for word in words])
        for words in (RULES, ITEMS)
    )
    in_prefix = np.arange(context) < PREFIX_LENGTH
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

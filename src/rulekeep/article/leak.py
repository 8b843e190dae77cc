"""The leak of the published data, by exact enumeration: no model, no training, no memory.

A reader sees only the last 6 tokens of the prefix and the target so far. The 1944 validation
examples are grouped by what it sees. Its best answer is the most frequent next token of each group.
This score needs no memory of the rules.

Decoys that are drawn independently of the rules reveal nothing, so the reader does not see them:
with 1944 examples it could only memorise them.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np

from rulekeep.article.scores import article_scores
from rulekeep.printable import markdown_table
from rulekeep.specs import ArticleDecoys
from rulekeep.tasks import Article
from rulekeep.tasks.article import ITEMS, PREFIX_LENGTH, RULES

WINDOW = 6


def leak_scores(
    context: int, window: int = WINDOW, *, decoys: ArticleDecoys = "published"
) -> dict[str, float]:
    """The scores of the best reader of the last `window` prefix tokens at a context."""
    examples = Article().examples("test", context)
    answers = examples.answers
    shown = examples.tokens
    if decoys == "independent":
        is_decoy = np.isin(shown, [Article.vocabulary.index(word) for word in (*RULES, *ITEMS)])
        is_decoy[:, :PREFIX_LENGTH] = is_decoy[:, examples.answer_start :] = False
        shown = np.where(is_decoy, Article.vocabulary.index("<pad>"), shown)
    first_seen = max(0, examples.answer_start - window)
    predictions = np.empty_like(answers)
    for position in range(answers.shape[1]):
        seen = shown[:, first_seen : examples.answer_start + position]
        keys = [row.tobytes() for row in seen]
        groups: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
        for key, answer in zip(keys, answers[:, position], strict=True):
            groups[key][int(answer)] += 1
        best = {key: counts.most_common(1)[0][0] for key, counts in groups.items()}
        predictions[:, position] = [best[key] for key in keys]
    scores = article_scores(predictions, examples)
    del scores["chance"]
    return scores


def leak_text(scores: Mapping[int, Mapping[str, float]]) -> str:
    """What the published data gives away: the scores of that reader by context, as a table."""
    header = ["context", "token", "rule", "item", "first-mention rule", "exact"]
    names = ("token_accuracy", "rule_accuracy", "item_accuracy", "retention", "exact")
    body = [[f"{at}", *(f"{found[name]:.3f}" for name in names)] for at, found in scores.items()]
    return (
        f"A reader of only the last {WINDOW} tokens of the prefix and the target so far, by exact "
        "enumeration of all 1944 validation examples: what the published data gives away to a "
        f"model that remembers nothing.\n\n{markdown_table(header, body)}"
    )

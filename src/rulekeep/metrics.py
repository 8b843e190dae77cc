"""Metrics as pure functions of predicted tokens: no model, no torch.

All are teacher-forced: position i of the answer is predicted from the true tokens before it.
"""

from dataclasses import asdict, dataclass

import numpy as np

from rulekeep.shapes import AnswerTable
from rulekeep.tasks import Examples


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Shares of right tokens, pooled over examples, each from 0 to 1.

    `rule_accuracy` is the article's: every rule token. `retention` counts only a rule's
    first mention; the other ones, `second_mention_accuracy`, can be copied from three tokens
    before. `exact` is the share of whole answers that are right: since every token before
    the first mistake is then the model's own, it is also what greedy generation scores.
    """

    token_accuracy: float
    rule_accuracy: float
    item_accuracy: float
    retention: float
    second_mention_accuracy: float
    exact: float

    def as_dict(self) -> dict[str, float]:
        """Name to value, as records keep them."""
        return asdict(self)


def score(predictions: AnswerTable, examples: Examples) -> Scores:
    """Scores of predicted answers, `[n, answer]` token ids."""
    right = predictions == examples.answers
    return Scores(
        token_accuracy=float(right.mean()),
        rule_accuracy=_share(right, examples.rule),
        item_accuracy=_share(right, examples.item),
        retention=_share(right, examples.first_mention),
        second_mention_accuracy=_share(right, examples.rule & ~examples.first_mention),
        exact=float(right.all(axis=1).mean()),
    )


def _share(right: np.ndarray, where: np.ndarray) -> float:
    assert where.any(), "a metric over no position"
    return float(right[where].mean())

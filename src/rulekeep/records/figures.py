"""The scores of an evaluation, each in one line: all that counts, keeps and shows them reads this.

A score is the share of answers that are right, among the places that count.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Score(NamedTuple):
    """How tables call a score, and where it counts in a `Sample`.

    It is of single answers, or of `whole` examples: those that are right at all such places.
    `generated` ones are of answers that follow the model's own tokens; others follow true tokens.
    """

    title: str
    where: Callable[[Any], Any]
    whole: bool = False
    generated: bool = False


SCORES = {
    "retention": Score("retention", lambda sample: sample.first_mention & sample.supervised),
    "exact": Score("exact", lambda sample: sample.supervised, whole=True, generated=True),
    "joint": Score(
        "all rules", lambda sample: sample.first_mention & sample.supervised, whole=True
    ),
    "rule_accuracy": Score("rule", lambda sample: sample.rule & sample.supervised),
    "item_accuracy": Score("item", lambda sample: sample.item & sample.supervised),
    "token_accuracy": Score("token", lambda sample: sample.supervised),
}

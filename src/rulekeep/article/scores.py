"""Scores of the published sequences, by the names that the article's records have."""

from typing import Any

from rulekeep.analysis.metrics import score_samples
from rulekeep.tasks.base import AnswerTable
from rulekeep.tasks.sampled import Sample


def article_scores(predictions: AnswerTable, sample: Sample) -> dict[str, Any]:
    """Scores of teacher-forced answers, `[n, answer]` token ids, and under `chance` that of each.

    `second_mention_accuracy` is of rules that can be copied from three tokens before. `exact` is of
    whole answers: tokens before a mistake are the model's own, so generation scores the same.
    """
    found = score_samples([(sample, predictions, None)])
    second = sample.rule & ~sample.first_mention
    names = ("token_accuracy", "rule_accuracy", "item_accuracy", "retention")
    figures = {
        **{name: found[name] for name in names if found[name] is not None},
        "second_mention_accuracy": float((predictions == sample.answers)[second].mean()),
        "exact": found["exact_teacher_forced"],
    }
    chance = {**found["chance"], "second_mention_accuracy": 1.0}
    return {**figures, "chance": {name: chance[name] for name in figures}}

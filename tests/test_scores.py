"""An evaluation's row by hand: loss and scores of a reader that is wrong at places of our choice.

tests/test_metrics.py has the scores of made-up answers, one by one.
"""

import math
from collections.abc import Callable, Iterator
from statistics import fmean

import numpy as np
import pytest
import torch
from oracles import Knowing, Places, Writing
from reading import make

from rulekeep.running import evaluation
from rulekeep.running.evaluation import evaluate_samples
from rulekeep.running.training import answer_loss
from rulekeep.tasks import Override, Recall, Recite, SampledTask

N, SEED, SURE = 5, 3, 4.0


def places(where: np.ndarray) -> Iterator[tuple[int, int]]:
    return ((int(row), int(place)) for row, place in np.argwhere(where))


def share(where: np.ndarray, wrong: Places) -> float | None:
    """Of these places, how many are right."""
    counted = [at not in wrong for at in places(where)]
    return fmean(counted) if counted else None


def whole(where: np.ndarray, wrong: Places) -> float:
    """Of the examples with such a place, how many have all of them right."""
    rows = {row for row, _ in places(where)}
    return fmean(not any(at in wrong and where[at] for at in wrong if at[0] == row) for row in rows)


TASKS: dict[str, Callable[[], SampledTask]] = {
    "recite": Recite,
    # Its queries are given, and no item is asked for.
    "recall": Recall,
    # Its items come before first uses, and one rule may be used twice.
    "override": lambda: make(Override, rules=2),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_row_of_a_record_is_what_was_answered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS[name]()
    context, words = task.shortest_context, len(task.vocabulary)
    sample = task.sample("test", context, N, seed=SEED)
    asked = [*places(sample.supervised)]
    first = [*places(sample.first_mention)]
    # Two first uses of the second example, the last answer of the fourth; in pieces of two rows.
    wrong = {*[at for at in first if at[0] == 1][:2], [at for at in asked if at[0] == 3][-1]}
    monkeypatch.setattr(evaluation, "TOKENS_AT_ONCE", 2 * context + 1)
    knowing = Knowing(sample, words, wrong, sure=SURE)
    row = evaluate_samples(knowing, task, "test", context, N, SEED)
    rules, items = sample.rule & sample.supervised, sample.item & sample.supervised
    scores = {
        "retention": share(sample.first_mention, wrong), "token_accuracy": (len(asked) - 3)
        / len(asked), "rule_accuracy": share(rules, wrong), "item_accuracy": share(items, wrong),
        "joint": whole(sample.first_mention, wrong), "exact": 3 / 5, "exact_teacher_forced": 3 / 5,
    }  # fmt: skip
    assert {key: row[key] for key in scores} == pytest.approx(scores)
    assert (row["split"], row["context"], row["n"]) == ("test", context, N)
    # Each right word has the probability of e^4 beside ones, each wrong one that of 1.
    total = math.log(math.exp(SURE) + words - 1)
    assert row["val_loss"] == pytest.approx(total - SURE * (len(asked) - 3) / len(asked))
    chance = sample.chance
    levels = {
        "retention": fmean(chance[at] for at in first),
        "token_accuracy": fmean(chance[at] for at in asked),
        "joint": fmean(
            math.prod(chance[at] for at in first if at[0] == row)
            for row in {row for row, _ in first}
        ),
        "exact": fmean(math.prod(chance[at] for at in asked if at[0] == row) for row in range(N)),
    }
    assert {key: row["chance"][key] for key in levels} == pytest.approx(levels)
    retention = scores["retention"]
    assert retention is not None
    over = (retention - levels["retention"]) / (1 - levels["retention"])
    assert row["corrected"]["retention"] == pytest.approx(over)
    # What only writes has the same scores, and no loss.
    written = evaluate_samples(Writing(knowing), task, "test", context, N, SEED)
    assert written == {**row, "val_loss": None}


def test_the_loss_of_training_is_of_the_supervised_answers_alone() -> None:
    # The second word is right, then the first, with these probabilities.
    right = torch.tensor([[3 / 4, 1 / 4], [1 / 2, 1 / 8]])
    both = torch.stack([1 - right, right], dim=2)
    both[:, 1] = both[:, 1].flip(-1)
    tokens = torch.tensor([[7, 7, 1, 0]] * 2)
    every = answer_loss(both.log() + 5, tokens)
    assert float(every) == pytest.approx(-math.log(3 / 4 / 4 / 2 / 8) / 4)
    some = torch.tensor([[True, False], [True, True]])
    assert float(answer_loss(both.log(), tokens, some)) == pytest.approx(
        -math.log(3 / 4 / 2 / 8) / 3
    )

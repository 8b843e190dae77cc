"""A predictor on examples of a task: its loss, its answers and their scores."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from rulekeep.metrics import Scores, score
from rulekeep.shapes import AnswerTable
from rulekeep.tasks import Examples


class Evaluation(NamedTuple):
    """Loss in nats a supervised token (the mean of the batches' means), answers, scores."""

    loss: float
    predictions: AnswerTable
    scores: Scores


def evaluate(
    answer_logits: Callable[[Int[Tensor, "batch context"]], Float[Tensor, "batch answer v"]],
    examples: Examples,
    batch_size: int,
) -> Evaluation:
    """Scores a predictor, teacher-forced, the examples taken in order.

    `answer_logits` maps whole sequences to the logits of their answer tokens, each
    predicted from the tokens before it.
    """
    tokens = torch.from_numpy(examples.tokens)
    losses, predictions = [], []
    with torch.no_grad():
        for batch in tokens.split(batch_size):
            logits = answer_logits(batch)
            losses.append(answer_loss(logits, batch).item())
            predictions.append(logits.argmax(dim=-1).numpy())
    answers = np.concatenate(predictions)
    return Evaluation(float(np.mean(losses)), answers, score(answers, examples))


def answer_loss(
    logits: Float[Tensor, "batch answer v"], tokens: Int[Tensor, "batch context"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the answer tokens, the last ones of each sequence."""
    answers = tokens[:, -logits.shape[1] :]
    return F.cross_entropy(logits.flatten(0, 1), answers.flatten())

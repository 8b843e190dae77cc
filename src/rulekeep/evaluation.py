"""A predictor on examples of a task: its loss, its answers and their scores.

What is scored is a `Predictor`: a trained tiny model, or anything from outside that turns
token ids into logits (`LogitsPredictor`) or into generated tokens (`GeneratingPredictor`).

    >>> evaluate_samples(predictor, task, "test", 1028, 1000, seed=1)      # doctest: +SKIP
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from rulekeep.metrics import Scores, score, score_samples
from rulekeep.model import LanguageModel
from rulekeep.shapes import AnswerTable
from rulekeep.tasks.base import Examples, Split
from rulekeep.tasks.sampled import Sample, SampledTask

# As many tokens as a predictor is given at once: what an outsider can hold is its own affair.
_TOKENS_AT_ONCE = 2**16


class Reading(NamedTuple):
    """What a predictor makes of examples; None for what it cannot give.

    `loss` is summed over supervised tokens, in nats. `predictions` are teacher-forced, each
    from the true tokens before it; `generated` is greedy, each from the predictor's own.
    """

    loss: float | None
    predictions: AnswerTable | None
    generated: AnswerTable | None


class Predictor(ABC):
    """What is scored on a task."""

    @abstractmethod
    def read(self, sample: Sample) -> Reading:
        """Reads whole examples: the answer stands in their last tokens."""


@final
class ModelPredictor(Predictor):
    """A trained model; it generates from its own state, token by token."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def read(self, sample: Sample) -> Reading:
        """The context is read once; the answer goes on from its state, twice."""
        device = self._model.head.weight.device
        tokens = torch.from_numpy(sample.tokens).to(device)
        supervised = torch.from_numpy(sample.supervised).to(device)
        # The token before the answer predicts its first one.
        prefix, answer = tokens.split([sample.answer_start, sample.answers.shape[1]], dim=1)
        with torch.no_grad():
            _, state = self._model.advance(prefix[:, :-1])
            logits, _ = self._model(tokens[:, sample.answer_start - 1 : -1], state)
            loss = F.cross_entropy(
                logits[supervised].float(), answer[supervised], reduction="sum"
            ).item()
            generated = []
            token = prefix[:, -1:]
            for place in range(answer.shape[1]):
                step, state = self._model(token, state)
                told = supervised[:, place : place + 1]
                token = torch.where(told, step.argmax(dim=-1), answer[:, place : place + 1])
                generated.append(token)
        own = torch.cat(generated, dim=1).cpu().numpy()
        return Reading(loss, logits.argmax(dim=-1).cpu().numpy(), own)


class LogitsPredictor(Predictor):
    """An outside model that gives next-token logits; generation reads everything anew."""

    @abstractmethod
    def logits(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time vocabulary"]:
        """Logits of the token after each position; only earlier tokens may count."""

    def read(self, sample: Sample) -> Reading:
        """Teacher-forced, then greedily."""
        tokens, start = torch.from_numpy(sample.tokens), sample.answer_start
        supervised = torch.from_numpy(sample.supervised)
        with torch.no_grad():
            logits = self.logits(tokens[:, :-1])[:, start - 1 :].float()
            own = tokens.clone()
            for place in range(start, tokens.shape[1]):
                said = self.logits(own[:, :place])[:, -1].argmax(dim=-1)
                told = supervised[:, place - start]
                own[:, place] = torch.where(told, said, own[:, place])
        answers = tokens[:, start:]
        loss = F.cross_entropy(logits[supervised], answers[supervised], reduction="sum").item()
        return Reading(loss, logits.argmax(dim=-1).numpy(), own[:, start:].numpy())


class GeneratingPredictor(Predictor):
    """An outside model that only generates: it has no loss, and all is scored on its own text."""

    @abstractmethod
    def generate(
        self,
        prompts: Int[np.ndarray, "batch time"],
        given: Int[np.ndarray, "batch answer"],
        is_given: Bool[np.ndarray, "batch answer"],
    ) -> Int[np.ndarray, "batch answer"]:
        """Answers to prompts; where `is_given`, the token is the one in `given`."""

    def read(self, sample: Sample) -> Reading:
        """Generated answers only."""
        given = np.where(sample.supervised, 0, sample.answers)
        own = self.generate(sample.tokens[:, : sample.answer_start], given, ~sample.supervised)
        own = np.asarray(own)
        if own.shape != sample.answers.shape:
            raise ValueError(
                f"{type(self).__name__} generated {own.shape}, expected {sample.answers.shape}"
            )
        return Reading(None, None, own)


def evaluate_samples(
    predictor: Predictor, task: SampledTask, split: Split, context: int, examples: int, seed: int
) -> dict[str, Any]:
    """One row of a record: split, context, loss in nats a supervised token, scores and chance."""
    losses, supervised = [], 0

    def parts() -> Iterator[tuple[Sample, AnswerTable, AnswerTable | None]]:
        nonlocal supervised
        rows = max(1, _TOKENS_AT_ONCE // context)
        for start in range(0, examples, rows):
            n = min(rows, examples - start)
            sample = task.sample(split, context, n, seed=seed, start=start)
            reading = predictor.read(sample)
            losses.append(reading.loss)
            supervised += int(sample.supervised.sum())
            forced = reading.predictions
            if forced is None:
                assert reading.generated is not None, "a predictor that predicts nothing"
                forced = reading.generated
            yield sample, forced, reading.generated

    scores = score_samples(parts())
    known = [loss for loss in losses if loss is not None]
    loss = sum(known) / supervised if len(known) == len(losses) else None
    return {"split": split, "context": context, "val_loss": loss, **scores.as_dict()}


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
    """Scores a predictor as the article does, teacher-forced, the examples taken in order.

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
    logits: Float[Tensor, "batch answer v"],
    tokens: Int[Tensor, "batch context"],
    supervised: Bool[Tensor, "batch answer"] | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the answer tokens, the last ones of each sequence."""
    answers = tokens[:, -logits.shape[1] :]
    if supervised is None:
        return F.cross_entropy(logits.flatten(0, 1), answers.flatten())
    return F.cross_entropy(logits[supervised], answers[supervised])

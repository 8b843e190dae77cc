"""What is scored of outside models: the classes to derive from, and what they are asked.

A predictor never gets the answers that it is asked for, and its arrays are read-only copies.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rulekeep.tasks.base import AnswerTable
from rulekeep.tasks.sampled import Sample


class Reading(NamedTuple):
    """What is scored of examples; None where a predictor cannot give it.

    `loss` is summed over supervised tokens, in nats. `predictions` are teacher-forced: each follows
    the true tokens. `generated` is greedy: each follows the predictor's own tokens.
    """

    loss: float | None
    predictions: AnswerTable | None
    generated: AnswerTable | None


class PredictorError(ValueError):
    """An outside model breaks the contract of its kind of predictor."""


class NotFiniteError(PredictorError):
    """What would be scored is not finite from `token` on, counted from 0: it has no score."""

    def __init__(self, said: str, token: int) -> None:
        super().__init__(said)
        self.token = token


@dataclass(frozen=True)
class Question:
    """What a predictor is asked: prompts to answer, and the given tokens of each answer.

    It holds no answers: where a token is asked for, `given` is 0. Arrays are read-only copies.
    """

    prompts: Int[np.ndarray, "batch time"]
    given: Int[np.ndarray, "batch answer"]
    is_given: Bool[np.ndarray, "batch answer"]

    @classmethod
    def of(cls, sample: Sample) -> Self:
        """The question that an example asks."""
        given = np.where(sample.supervised, 0, sample.answers)
        return cls._read_only(sample.tokens[:, : sample.answer_start], given, ~sample.supervised)

    @classmethod
    def of_next(cls, prompts: Int[np.ndarray, "batch time"]) -> Self:
        """The question for one more token."""
        given = np.zeros((len(prompts), 1), dtype=np.int64)
        return cls._read_only(prompts, given, given > 0)

    @classmethod
    def _read_only(cls, *tables: np.ndarray) -> Self:
        copies = [table.copy() for table in tables]
        for table in copies:
            table.flags.writeable = False
        return cls(*copies)


class Predictor(ABC):
    """An outside model to score on a task. It never gets the answers that it is asked for."""

    @abstractmethod
    def read(self, question: Question) -> Int[np.ndarray, "batch answer"]:
        """Answers to prompts, as token ids; -1 stands for no word of the task."""


class LogitsPredictor(Predictor):
    """An outside model that gives next-token logits; generation reads the whole text again."""

    @abstractmethod
    def logits(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time vocabulary"]:
        """Logits of the token after each position; only earlier tokens may count."""

    def read(self, question: Question) -> Int[np.ndarray, "batch answer"]:
        """Greedily."""
        own = torch.from_numpy(np.concatenate([question.prompts, question.given], axis=1))
        start = question.prompts.shape[1]
        for place in range(start, own.shape[1]):
            said = self.logits(own[:, :place].clone())[:, -1].argmax(dim=-1)
            given = torch.from_numpy(question.is_given[:, place - start])
            own[:, place] = torch.where(given, own[:, place], said)
        return own[:, start:].numpy()


class GeneratingPredictor(Predictor):
    """An outside model that only generates: it has no loss, and its own text is scored."""

    @abstractmethod
    def generate(
        self,
        prompts: Int[np.ndarray, "batch time"],
        given: Int[np.ndarray, "batch answer"],
        is_given: Bool[np.ndarray, "batch answer"],
    ) -> Int[np.ndarray, "batch answer"]:
        """Answers to prompts; where `is_given`, the token is the one in `given`."""

    def read(self, question: Question) -> Int[np.ndarray, "batch answer"]:
        """Generated answers."""
        return self.generate(question.prompts, question.given, question.is_given)

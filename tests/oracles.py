"""Readers that know the answers of a sample, and err where a test says so."""

import numpy as np
import torch
from torch import Tensor

from rulekeep.running.evaluation import GeneratingPredictor, LogitsPredictor
from rulekeep.tasks import Sample

# Rows and places of the answer.
Places = set[tuple[int, int]]


class Knowing(LogitsPredictor):
    """Gives the right word a logit of `sure` and all others 0; at wrong places the word after it.

    It tells texts apart by what stands before the answer, or of labels by all that is read.
    """

    def __init__(
        self, sample: Sample, words: int, wrong: Places = frozenset(), *, sure: float = 9.0,
        labelled: bool = False,
    ) -> None:  # fmt: skip
        self.sample, self.words, self.wrong, self.sure = sample, words, wrong, sure
        self.start, self.labelled = sample.answer_start, labelled

    def row_of(self, text: np.ndarray) -> int:
        """The example that begins so."""
        known = len(text) if self.labelled else self.start
        return int((self.sample.tokens[:, :known] == text[:known]).all(axis=1).argmax())

    def said(self, row: int, place: int) -> int:
        """What it says there."""
        right = int(self.sample.answers[row, place])
        return (right + 1) % self.words if (row, place) in self.wrong else right

    def logits(self, tokens: Tensor) -> Tensor:
        made = torch.zeros(*tokens.shape, self.words)
        for at, text in enumerate(tokens.numpy()):
            row, places = self.row_of(text), self.sample.answers.shape[1]
            for end in range(self.start, min(len(text), self.start + places - 1) + 1):
                made[at, end - 1, self.said(row, end - self.start)] = self.sure
        return made


class Writing(GeneratingPredictor):
    """Gives the same answers, without a likelihood: of labels one at a time."""

    def __init__(self, knowing: Knowing) -> None:
        self.knowing, self.asked = knowing, list[tuple[int, ...]]()

    def generate(self, prompts: np.ndarray, given: np.ndarray, is_given: np.ndarray) -> np.ndarray:
        self.asked.append(given.shape)
        first = prompts.shape[1] - self.knowing.start
        own = [
            [
                self.knowing.said(self.knowing.row_of(prompt), first + at)
                for at in range(given.shape[1])
            ]
            for prompt in prompts
        ]
        return np.where(is_given, given, own)

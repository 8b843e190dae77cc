"""Outside models on the tasks, without training:

    rulekeep run --predictor examples/outside_model.py:ReadsTheHead --task recite

`ReadsTheHead` only generates; `Uniform` gives logits. A language model goes the same way: turn
prompts into text with `task.words(prompt)` and its reply into token ids by `task.vocabulary`.
"""

import numpy as np
import torch
from torch import Tensor

from rulekeep.running.evaluation import GeneratingPredictor, LogitsPredictor
from rulekeep.tasks import SampledTask


class ReadsTheHead(GeneratingPredictor):
    """Solves `recite` with early rules: says the first rule words of the prompt, then the item."""

    def __init__(self, task: SampledTask) -> None:
        self.task = task

    def generate(self, prompts: np.ndarray, given: np.ndarray, is_given: np.ndarray) -> np.ndarray:
        """The first words of each kind, in the order in which they stand."""
        kinds = np.array([word.partition("-")[0] for word in self.task.vocabulary])
        assert not is_given.any(), "all of this task's answer is asked for"
        answers = given.copy()
        rules = given.shape[1] - 1
        for row, prompt in enumerate(prompts):
            found = kinds[prompt]
            answers[row, :rules] = prompt[found == "rule"][:rules]
            answers[row, rules:] = prompt[found == "item"][:1]
        return answers


class Uniform(LogitsPredictor):
    """Knows nothing: every word is as likely, so the first is said, which is never right."""

    def __init__(self, task: SampledTask) -> None:
        self.words = len(task.vocabulary)

    def logits(self, tokens: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros(*tokens.shape, self.words)

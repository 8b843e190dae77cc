"""What tasks with labels share: answers that no model is fed back, at places of the text.

A label belongs to the token that is read there. Nothing of it is told to a model, and what it says
changes nothing that it reads. So `retention` is the share of right labels, `exact` the share of
texts with no wrong one, and generated answers are the teacher-forced ones.
"""

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from rulekeep.tasks.base import Split
from rulekeep.tasks.drawing import Rows, Streams
from rulekeep.tasks.sampled import (
    MOST_RULES,
    Placement,
    Sample,
    SampledTask,
    TaskOptions,
    asking,
)

# A shorter text has hardly a label whose source no reader of the last 32 tokens sees.
SHORTEST = 64


class LabelledOptions(TaskOptions):
    """Of a task whose texts have no decoys at a rate, and no placement to choose."""

    def most_rules(self) -> int:
        """What is asked for may come back in a text."""
        return MOST_RULES

    def check(self) -> None:
        """Check that no option is given that says nothing here."""
        placement: Placement = "early"
        if self.placement != placement:
            raise ValueError(f"placement {self.placement!r}: must be {placement!r} for this task")


class LabelledTask(SampledTask):
    """A sampled task with `labels`; splits differ by their random streams."""

    labelled: ClassVar[bool] = True
    combinations: int | None = None

    @abstractmethod
    def _drawn(self, context: int, n: int, streams: Streams) -> Sample:
        """`n` samples of a split's streams."""

    def _block(self, split: Split, context: int, n: int, streams: Streams) -> Sample:
        # The streams are the split's own already.
        del split
        return self._drawn(context, n, streams)

    def _labelled(
        self, tokens: np.ndarray, roles: np.ndarray, start: int, asked_at: Rows, labels: Rows, *,
        source: Rows, chance: float | np.ndarray, there: np.ndarray | None = None,
    ) -> Sample:  # fmt: skip
        """A sample that asks for `labels` at the tokens `asked_at`, `[n, k]` each.

        The first label that may be asked for is that of the token before `start`. The rest is as in
        `asking`.
        """
        place = asked_at + 1 - start
        sample = asking(tokens, roles, start, place, source=source, chance=chance, there=there)
        row, turn = np.nonzero(np.ones(place.shape, dtype=bool) if there is None else there)
        of_answer = tokens[:, start:].copy()
        of_answer[row, place[row, turn]] = labels[row, turn]
        return sample._replace(labels=of_answer)


def last_equal(keys: np.ndarray) -> np.ndarray:
    """The place of the last equal key before each, `[n, k]`; -1 where there is none."""
    k = keys.shape[1]
    same = (keys[:, :, None] == keys[:, None, :]) & np.tri(k, k=-1, dtype=bool)
    found: np.ndarray = np.where(same, np.arange(k), -1).max(axis=2)
    return found

"""What tasks with labels share: answers that no model is fed back, at places of the text.

A label belongs to the token that is read there. Nothing of it is told to a model, and what it says
changes nothing that it reads. So `retention` is the share of right labels, `exact` the share of
texts with no wrong one, and generated answers are the teacher-forced ones.
"""

from abc import abstractmethod
from typing import ClassVar, Literal

from rulekeep.tasks.base import Split
from rulekeep.tasks.drawing import Streams
from rulekeep.tasks.sampled import MOST_RULES, Sample, SampledTask, TaskOptions

# A shorter text has hardly a label whose source no reader of the last 32 tokens sees.
SHORTEST = 64


class LabelledOptions(TaskOptions):
    """Of a task whose texts have no decoys at a rate, and no placement to choose."""

    placement: Literal["early"] = "early"

    def most_rules(self) -> int:
        """What is asked for may come back in a text."""
        return MOST_RULES


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

"""Associative recall with 4 to 64 pairs in one training, as the literature trains and tests it.

    rulekeep run --task rulekeep.tasks.mixed_recall:MixedRecall --context 256 --out RUNS

This is `recall` in the `zoology` layout with several numbers of pairs: 4, 8, 16 … up to `rules`, if
the context has room for 4 tokens a pair.

In training, 64 examples in a row have the same number of pairs, drawn uniformly. The published
training has such batches too. A loss over mixed batches would hardly see few pairs, and with few
pairs the look-up is learned first.

In validation and test the numbers take turns, and 4 random pairs of each example are asked for. So
the mean over answers is the mean over the numbers of pairs, as published. The text still holds all
queries and values.

Queries of k pairs are steps k − 4 to 2 k − 5 of the output. So `retention_by_step` of a record
holds the accuracy on each number of pairs (`steps_of`).

The published mixture (HazyResearch/zoology, `original_mqar_configs.py`) differs: 4 pairs in 64
tokens and 8 in 128 make two thirds of the examples, and 16, 32 and 64 in 256 share the rest. Here
every number of pairs stands in every context that has room; `length_growth` starts with short ones.
"""

from typing import Any, ClassVar, Literal

import numpy as np

from rulekeep.tasks.base import Split
from rulekeep.tasks.drawing import Streams
from rulekeep.tasks.recall import Recall, RecallOptions
from rulekeep.tasks.sampled import Sample, Size, TaskOptions

FEWEST = 4
PAIRS = (4, 8, 16, 32, 64)
# Examples of one number of pairs in training: a batch of so many, or a whole part of one.
TOGETHER = 64
_START = 2 * FEWEST


class MixedRecallOptions(RecallOptions):
    """`rules` is the largest number of pairs in an example: 4, 8, 16, 32 or 64."""

    rules: int = 64
    rule_words: Size = 128
    items: int = 128
    layout: Literal["exam", "zoology"] = "zoology"

    def check(self) -> None:
        """Check the number of pairs and the layout."""
        super().check()
        if self.rules not in PAIRS:
            raise ValueError(f"rules {self.rules}: choose from {', '.join(map(str, PAIRS))}")
        if self.layout != "zoology":
            raise ValueError(f"layout {self.layout!r}: mixed_recall has 'zoology' only")


class MixedRecall(Recall):
    """4 to `rules` pairs of key and value; distances of queries follow a power law."""

    name: ClassVar[str] = "mixed_recall"
    # Its own: it is no task of the catalogue.
    version: ClassVar[int] = 1
    options_type: ClassVar[type[TaskOptions]] = MixedRecallOptions

    def __init__(self, options: MixedRecallOptions | None = None) -> None:
        super().__init__(options or MixedRecallOptions())
        self.shortest_context = 4 * FEWEST

    def _block(self, split: Split, context: int, n: int, streams: Streams) -> Sample:
        most = min(self.options.rules, context // 4)
        numbers = np.array([pairs for pairs in PAIRS if pairs <= most])
        if split == "train":
            drawn = streams("pairs").choice(numbers, -(-n // TOGETHER))
            number = np.repeat(drawn, TOGETHER)[:n]
        else:
            number = np.resize(numbers, n)
        order, parts = list[np.ndarray](), list[Sample]()
        for pairs in np.unique(number).tolist():
            order.append(np.flatnonzero(number == pairs))
            part = _Part(streams, pairs)
            parts.append(self._of(pairs, context, len(order[-1]), part, few=split != "train"))
        back = np.concatenate(order).argsort()
        tables: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])[back]
            for name in parts[0].tables
        }
        return parts[0]._replace(**tables)

    def _of(self, pairs: int, context: int, n: int, streams: Streams, *, few: bool) -> Sample:
        """Rows with one number of pairs; the answer starts where that of the fewest pairs does."""
        text, value_at, source = self._zoology(streams, context, *self._drawn(streams, n, pairs))
        place, there = value_at - _START, None
        if few:
            # 4 pairs of each are asked for; the other values are given.
            lots = streams("asked").random((n, context - _START))
            drawn = np.take_along_axis(lots, place, axis=1)
            there = drawn <= np.partition(drawn, FEWEST - 1, axis=1)[:, FEWEST - 1 : FEWEST]
        sample = self._asked(text, _START, value_at, source, there)
        step = np.full(sample.step.shape, -1)
        np.put_along_axis(step, place, np.array(steps_of(pairs))[None], axis=1)
        return sample._replace(step=np.where(sample.supervised, step, -1))


class _Part(Streams):
    """The streams of one number of pairs within those of a block."""

    def __init__(self, streams: Streams, pairs: int) -> None:
        self._streams, self._pairs = streams, pairs

    def __call__(self, purpose: str) -> np.random.Generator:
        return self._streams(f"{purpose} of {self._pairs} pairs")


def steps_of(pairs: int) -> range:
    """The steps of the output at which examples with this many pairs have queries."""
    return range(pairs - FEWEST, 2 * pairs - FEWEST)

"""Obey the rules instead of reciting them: after each item stands what the rules demand of it.

    <bos> filler-3 rule-5 filler-1 filler-2 rule-8 … | filler-4 rule-2 … <ask> item-6 item-3 <go>
    | item-6 shows-8 item-3 shows-5

There are as many attributes as rules. Rule word r sets attribute r modulo K. It demands the token
`shows-r` on items of the kind that the attribute concerns (`requests.py`). The rules stand in any
order; the answer has them in the order of attributes.
"""

import math
from typing import ClassVar

import numpy as np

from rulekeep.tasks.base import Role, Split
from rulekeep.tasks.drawing import Streams, distinct
from rulekeep.tasks.requests import RequestOptions, RequestTask, Shown
from rulekeep.tasks.sampled import Sample


class ApplyOptions(RequestOptions):
    """`outputs` is N, the number of requested items; each of the `kinds` has its own attributes."""


class Apply(RequestTask):
    """K rules, one for each attribute, and a request for N items."""

    name: ClassVar[str] = "apply"
    options_type: ClassVar[type[RequestOptions]] = ApplyOptions

    def __init__(self, options: ApplyOptions | None = None) -> None:
        self.options = options = options or ApplyOptions()
        super().__init__()
        values = math.prod(int(size) for size in self._sizes)
        self._count_tuples(math.factorial(options.rules) * values)
        self.shortest_context = self._shortest(options.rules, width=1, tail=self._tail)

    def _block(self, split: Split, context: int, n: int, streams: Streams) -> Sample:
        k = self.options.rules
        order = distinct(streams("order"), n, k, k)[0]
        rules = order + k * streams("values").integers(0, self._sizes[order])
        requested = self._requested(streams, split, rules)
        text, at, _ = self._open(streams, n, context - self.answer_length, k, tail=self._tail)
        text.put(at, self._starts["rule"].first + rules, Role.RULE)
        # From the order of the instructions to the order of the attributes.
        by_attribute = np.argsort(order, axis=1)
        in_force = np.take_along_axis(rules, by_attribute, axis=1)
        shown = Shown(
            tokens=self._starts["shows"].first + in_force,
            ruled=np.ones((n, k), dtype=bool),
            prohibition=np.zeros((n, k), dtype=bool),
            chance=np.tile(1 / self._sizes, (n, 1)),
            source=np.take_along_axis(at, by_attribute, axis=1),
        )
        return self._answered(text, requested, shown)

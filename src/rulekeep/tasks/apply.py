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
from rulekeep.tasks.drawing import FEWEST_ITEMS, Streams, distinct
from rulekeep.tasks.requests import Requests, Shown
from rulekeep.tasks.sampled import (
    MOST_RULES,
    RuleWords,
    Sample,
    SampledTask,
    TaskOptions,
    within,
)


class ApplyOptions(TaskOptions):
    """`outputs` is N, the number of requested items; each of the `kinds` has its own attributes."""

    outputs: int = 4
    kinds: int = 2

    def most_rules(self) -> int:
        """Every attribute needs two words to choose from."""
        return min(MOST_RULES, self.rule_words // 2)

    def fewest_items(self) -> int:
        """Four of each kind."""
        return FEWEST_ITEMS * max(1, self.kinds)

    def check(self) -> None:
        """Check outputs and kinds."""
        within("outputs", self.outputs, 1, 64)
        within("kinds", self.kinds, 1, 64)


class Apply(SampledTask):
    """K rules, one for each attribute, and a request for N items."""

    name: ClassVar[str] = "apply"
    options_type: ClassVar[type[TaskOptions]] = ApplyOptions
    options: ApplyOptions

    def __init__(self, options: ApplyOptions | None = None) -> None:
        self.options = options = options or ApplyOptions()
        kinds = (
            ("rule", options.rule_words),
            ("item", options.items),
            ("filler", options.fillers),
            ("shows", options.rule_words),
        )
        super().__init__(kinds, ("<bos>", "<go>", "<rule>", "<ask>"))
        word = np.arange(options.rule_words)
        self.rule_words = RuleWords(
            tokens=self._starts["rule"].first + word,
            answers=self._starts["shows"].first + word,
            groups=word % options.rules,
        )
        self._requests = Requests(options.outputs, options.kinds, options.items, options.rules)
        self._sizes = np.array(
            [len(range(a, options.rule_words, options.rules)) for a in range(options.rules)]
        )
        orders = math.factorial(options.rules)
        values = math.prod(int(size) for size in self._sizes)
        self._count(orders * values * self._requests.first_items)
        self.answer_length = self._requests.answer_length
        self.shortest_context = self._shortest(options.rules, width=1, tail=self._requests.tail)

    def _block(self, split: Split, context: int, n: int, streams: Streams) -> Sample:
        k = self.options.rules
        order = distinct(streams("order"), n, k, k)[0]
        rules = order + k * streams("values").integers(0, self._sizes[order])
        drawn = self._requests.draw(streams, split, rules)
        prefix, at, _ = self._open(
            streams, n, context - self.answer_length, k, tail=self._requests.tail
        )
        prefix.put(at, self._starts["rule"].first + rules, Role.RULE)
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
        ask, item_words = self._cues["<ask>"], self._starts["item"]
        return self._requests.answer(prefix, ask, item_words, drawn, shown)

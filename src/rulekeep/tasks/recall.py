"""Multi-query associative recall, after Zoology (Arora et al., arXiv 2312.04927).

    exam:     <bos> key-3 value-9 filler-1 key-7 value-2 … | filler-4 value-9 key-5 …
              <go> | key-7 value-2 key-3 value-9
    zoology:  key-3 value-9 key-7 value-2 | value-4 key-7 value-2 key-1 … key-3 value-9 …

A rule is a pair: K different keys have K different values. Keys are the items of this task, so
`items` is the number of keys and `rule_words` the number of values. No filler is a key of its
context. Every pair is queried once. Queries are given, and only values are supervised.

`zoology` is the published layout: pairs first, then queries at even distances that follow the
published power law (a = 0.01), and random words between. It differs from the published code
(HazyResearch/zoology, `multiquery_ar`) in three ways:

- The value of a query stands after it. In the published code the label alone has it, and a random
  word follows. So here values given before can be ruled out, and chance rises from query to query.
- No random word is a key of the context. There, any word of the vocabulary may be.
- The vocabulary is small by default. There it has 8,192 words, keys from 1, values from 4,096, and
  word 0 for blanks. `items=4095, rule_words=4096` gives as many keys and values here.

Random words are the published default. Figure 2 of the paper has blanks in their place
(`random_non_queries=False`).

`fillers`, `decoy_rate` and `placement` concern `exam` only. Splits differ by their random streams:
every example draws its own pairs.
"""

from typing import ClassVar, Literal

import numpy as np

from rulekeep.tasks.base import Role, Split
from rulekeep.tasks.drawing import (
    Rows,
    Streams,
    Text,
    Words,
    distinct,
    power_law_gaps,
    random_words,
)
from rulekeep.tasks.sampled import RuleWords, Sample, SampledTask, TaskOptions, asking


class RecallOptions(TaskOptions):
    """`rules` pairs out of `items` keys and `rule_words` values, in one of two layouts."""

    items: int = 32
    layout: Literal["exam", "zoology"] = "exam"

    def fewest_items(self) -> int:
        """A key for each pair."""
        return self.rules

    def check(self) -> None:
        """Check that the published layout has its pairs early."""
        if self.layout == "zoology" and self.placement != "early":
            raise ValueError(
                f"placement {self.placement!r}: the zoology layout has its pairs 'early' only"
            )


class Recall(SampledTask):
    """K pairs of key and value, each key queried once."""

    name: ClassVar[str] = "recall"
    options_type: ClassVar[type[TaskOptions]] = RecallOptions
    options: RecallOptions

    def __init__(self, options: RecallOptions | None = None) -> None:
        self.options = options = options or RecallOptions()
        kinds = [("value", options.rule_words), ("key", options.items)]
        if options.layout == "exam":
            super().__init__([*kinds, ("filler", options.fillers)], ("<bos>", "<go>", "<rule>"))
        else:
            super().__init__(kinds, ())
        self._starts["rule"], self._starts["item"] = self._starts["value"], self._starts["key"]
        self.rule_words = RuleWords.recited(self._starts["value"])
        self.combinations = None
        # Queries and values; the zoology layout has no fixed length: all after the pairs.
        self.answer_length, self.shortest_context = 2 * options.rules, 4 * options.rules
        if options.layout == "exam":
            self.shortest_context = self._shortest(options.rules, width=2, tail=1)

    def _block(self, split: Split, context: int, n: int, streams: Streams) -> Sample:
        # The streams are the split's own already.
        del split
        keys, others, values = self._drawn(streams, n, self.options.rules)
        if self.options.layout == "exam":
            return self._exam(streams, context, keys, others, values)
        text, value_at, source = self._zoology(streams, context, keys, others, values)
        return self._asked(text, self.answer_length, value_at, source)

    def _drawn(self, streams: Streams, n: int, pairs: int) -> tuple[Rows, Rows, Rows]:
        """The keys of a text, the numbers of all other keys, and the values; `[n, pairs]`."""
        keys, values = self._starts["key"], self._starts["value"]
        mine, others = distinct(streams("keys"), n, pairs, keys.size)
        picked, _ = distinct(streams("values"), n, pairs, values.size)
        return keys.first + mine, others, values.first + picked

    def _exam(
        self, streams: Streams, context: int, keys: Rows, others: Rows, values: Rows
    ) -> Sample:
        n, k = values.shape
        start = context - self.answer_length
        # Decoy keys are drawn by their place among the keys that the context does not have.
        place = Words(0, max(1, others.shape[1]))
        text, at, _ = self._open(streams, n, start, k, width=2, items=place)
        row, column = np.nonzero(text.roles == Role.DECOY_ITEM)
        if others.shape[1]:
            decoys = self._starts["key"].first + others[row, text.tokens[row, column]]
        else:
            decoys = self._starts["value"].draw(streams("more decoys"), row.shape)
            text.roles[row, column] = Role.DECOY_RULE
        text.tokens[row, column] = decoys
        text.put(at, keys, Role.ITEM)
        text.put(at + 1, values, Role.RULE)
        turn = streams("queries").permuted(np.tile(np.arange(k), (n, 1)), axis=1)
        pairs = np.stack([keys, values], axis=2)[np.arange(n)[:, None], turn]
        answer = Text.of(pairs.reshape(n, 2 * k), Role.ANSWER)
        whole = (np.concatenate(parts, axis=1) for parts in zip(text, answer, strict=True))
        value_at = np.tile(start + np.arange(1, 2 * k, 2), (n, 1))
        source = np.take_along_axis(at + 1, turn, axis=1)
        return self._asked(Text(*whole), start, value_at, source)

    def _zoology(
        self, streams: Streams, context: int, keys: Rows, others: Rows, values: Rows
    ) -> tuple[Text, Rows, Rows]:
        """A text, the places of its values in order, and those of the pairs they are from."""
        n, k = values.shape
        text = random_words(
            streams("fillers"), context, self._starts["key"], others, self._starts["value"]
        )
        text.put(2 * np.arange(k)[None], keys, Role.ITEM)
        text.put(2 * np.arange(k)[None] + 1, values, Role.RULE)
        query_at = 2 * k + 2 * power_law_gaps(streams("gaps"), n, k, context // 2 - k)
        text.put(query_at, keys, Role.ANSWER)
        text.put(query_at + 1, values, Role.ANSWER)
        turn = query_at.argsort(axis=1)
        value_at = np.take_along_axis(query_at, turn, axis=1) + 1
        return text, value_at, 2 * turn + 1

    def _asked(
        self, text: Text, start: int, value_at: Rows, source: Rows, there: np.ndarray | None = None
    ) -> Sample:
        """A sample that asks for values, each of which was not given before."""
        left = self.options.rule_words - np.arange(value_at.shape[1])
        return asking(text, start, value_at, source=source, chance=1 / left, there=there)

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
from rulekeep.tasks.drawing import Rows, Streams, Words, distinct, power_law_gaps, random_words
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
        self.answer_length = 2 * options.rules
        if options.layout == "exam":
            self.shortest_context = self._shortest(options.rules, width=2, tail=1)
        else:
            self.shortest_context = 4 * options.rules

    def _block(self, split: Split, context: int, n: int, streams: Streams) -> Sample:
        # The streams are the split's own already.
        del split
        k = self.options.rules
        keys, others = distinct(streams("keys"), n, k, self.options.items)
        values, _ = distinct(streams("values"), n, k, self.options.rule_words)
        lay = self._exam if self.options.layout == "exam" else self._zoology
        first_key, first_value = self._starts["key"].first, self._starts["value"].first
        return lay(streams, context, first_key + keys, others, first_value + values)

    def _exam(
        self, streams: Streams, context: int, keys: Rows, others: Rows, values: Rows
    ) -> Sample:
        n, k = values.shape
        start = context - self.answer_length
        # Decoy keys are drawn by their place among the keys that the context does not have.
        place = Words(0, max(1, others.shape[1]))
        prefix, at, _ = self._open(streams, n, start, k, width=2, items=place)
        row, column = np.nonzero(prefix.roles == Role.DECOY_ITEM)
        if others.shape[1]:
            decoys = self._starts["key"].first + others[row, prefix.tokens[row, column]]
        else:
            decoys = self._starts["value"].draw(streams("more decoys"), row.shape)
            prefix.roles[row, column] = Role.DECOY_RULE
        prefix.tokens[row, column] = decoys
        prefix.put(at, keys, Role.ITEM)
        prefix.put(at + 1, values, Role.RULE)
        turn = streams("queries").permuted(np.tile(np.arange(k), (n, 1)), axis=1)
        answer = np.empty((n, 2 * k), dtype=np.int64)
        answer[:, 0::2] = np.take_along_axis(keys, turn, axis=1)
        answer[:, 1::2] = np.take_along_axis(values, turn, axis=1)
        tokens = np.concatenate([prefix.tokens, answer], axis=1)
        roles = np.pad(prefix.roles, ((0, 0), (0, 2 * k)), constant_values=Role.ANSWER)
        value_at = np.tile(np.arange(1, 2 * k, 2), (n, 1))
        source = np.take_along_axis(at + 1, turn, axis=1)
        return self._sample(tokens, roles, start, value_at, source)

    def _zoology(
        self, streams: Streams, context: int, keys: Rows, others: Rows, values: Rows
    ) -> Sample:
        n, k = values.shape
        start = 2 * k
        tokens, roles = random_words(
            streams("fillers"), context, self._starts["key"], others, self._starts["value"]
        )
        tokens[:, 0:start:2], tokens[:, 1:start:2] = keys, values
        roles[:, 0:start:2], roles[:, 1:start:2] = Role.ITEM, Role.RULE
        gap = power_law_gaps(streams("gaps"), n, k, (context - start) // 2)
        query_at = start + 2 * gap
        for offset, words in ((0, keys), (1, values)):
            np.put_along_axis(tokens, query_at + offset, words, axis=1)
            np.put_along_axis(roles, query_at + offset, Role.ANSWER, axis=1)
        turn = gap.argsort(axis=1)
        value_at = np.take_along_axis(query_at, turn, axis=1) + 1 - start
        return self._sample(tokens, roles, start, value_at, 2 * turn + 1)

    def _sample(
        self, tokens: np.ndarray, roles: np.ndarray, start: int, value_at: Rows, source: Rows
    ) -> Sample:
        """A sample, from the places of the values in the answer and in the pairs."""
        left = self.options.rule_words - np.arange(value_at.shape[1])
        return asking(tokens, roles, start, value_at, source=source, chance=1 / left)

"""Multi-query associative recall, MQAR, as Zoology lays it out (Arora et al., arXiv 2312.04927).

    text:    key-3 value-9 key-7 value-2 | value-4 key-1 key-7 value-4 … key-3 value-6 …
    labels:                                              value-2         value-9

`rules` is the number of pairs: different keys, each with a value of its own. They stand first. Then
each key is asked for once, at even distances that follow the published power law (a = 0.01). The
value is the label of its query. It stands nowhere after it: a random word follows.

With `updates` some keys, drawn from all, are bound once more right after the pairs, to another
value. The latest value is the label (Zoology's forgetting variant).

`retention` is the share of queries that are right, and `exact` the share of texts whose queries all
are. A model's answers are not fed back, so teacher forcing and generation score the same.

With `key_fillers` a random word may be a key of its text too, as in the published code. Then a key
may stand where nothing is asked for, and only its place tells that it is no query.

What differs from the published code (HazyResearch/zoology, `multiquery_ar` and `forgetting_mqar`):

- Between queries stand random words as in its default, but without `key_fillers` none is a key of
  its text.
- Keys and values are 128 each by default. There the vocabulary has 8,192 words, which
  `items=4095, rule_words=4096` gives.
- A context of n tokens reads n - 1 of them: the last is asked nothing.
- New values differ from all others of the text. There they differ from the values of the first
  keys, which may not be the keys that are bound anew.

`recall` in its layout `zoology` is the same, but there a value follows its query, so that answers
are fed back. `fillers` and `decoy_rate` concern other tasks. Splits differ by their random streams.
"""

from typing import ClassVar

import numpy as np

from rulekeep.tasks.base import Role
from rulekeep.tasks.drawing import Streams, Text, distinct, power_law_gaps, random_words
from rulekeep.tasks.labelled import LabelledOptions, LabelledTask
from rulekeep.tasks.sampled import MOST_RULES, RuleWords, Sample, Size, asking, within


class MqarOptions(LabelledOptions):
    """`rules` pairs out of `items` keys and `rule_words` values, `updates` of them bound anew."""

    rules: int = 16
    rule_words: Size = 128
    items: int = 128
    updates: int = 0
    key_fillers: bool = False
    later: ClassVar[frozenset[str]] = frozenset({"key_fillers"})

    def most_rules(self) -> int:
        """Values differ."""
        return min(MOST_RULES, self.rule_words)

    def fewest_items(self) -> int:
        """A key for each pair."""
        return self.rules

    def check(self) -> None:
        """Check that new values are left for the updates."""
        within("updates", self.updates, 0, min(self.rules, self.rule_words - self.rules))


class Mqar(LabelledTask):
    """K pairs of key and value, then a query for each key; the value is the query's label."""

    name: ClassVar[str] = "mqar"
    options_type: ClassVar[type[MqarOptions]] = MqarOptions
    options: MqarOptions

    def __init__(self, options: MqarOptions | None = None) -> None:
        self.options = options = options or MqarOptions()
        super().__init__([("value", options.rule_words), ("key", options.items)], ())
        self.rule_words = RuleWords.recited(self._starts["value"])
        self.shortest_context = 2 * (options.rules + options.updates) + 2 * options.rules

    def _drawn(self, context: int, n: int, streams: Streams) -> Sample:
        k, updates = self.options.rules, self.options.updates
        key_words, value_words = self._starts["key"], self._starts["value"]
        picked, others = distinct(streams("keys"), n, k, key_words.size)
        if self.options.key_fillers:
            others = np.tile(np.arange(key_words.size), (n, 1))
        keys = key_words.first + picked
        values = value_words.first + distinct(
            streams("values"), n, k + updates, value_words.size
        )[0]  # fmt: skip
        # The pairs in order of the text: all keys, then those that are bound anew.
        anew = distinct(streams("updates"), n, updates, k)[0]
        pair_keys = np.concatenate([keys, np.take_along_axis(keys, anew, axis=1)], axis=1)
        start = 2 * (k + updates)
        text = Text.of(np.empty((n, context), dtype=np.int64))
        text.tokens[:, start:], text.roles[:, start:] = random_words(
            streams("fillers"), context - start, key_words, others, value_words
        )
        text.put(np.arange(0, start, 2)[None], pair_keys, Role.ITEM)
        text.put(np.arange(1, start, 2)[None], values, Role.RULE)
        query_at = start + 2 * power_law_gaps(streams("gaps"), n, k, (context - start) // 2)
        text.put(query_at, keys, Role.REQUEST)
        # The pair that holds of each key: its own, or the one that bound it anew.
        holds = np.tile(np.arange(k), (n, 1))
        np.put_along_axis(holds, anew, k + np.arange(updates), axis=1)
        return asking(
            text, start + 1, query_at + 1, labels=np.take_along_axis(values, holds, axis=1),
            source=2 * holds + 1, chance=1 / value_words.size,
        )  # fmt: skip

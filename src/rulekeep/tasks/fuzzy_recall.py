"""Fuzzy in-context recall, after MAD (Poli et al. 2024, arXiv 2403.17844).

    text:    <pad> k-3 k-0 v-5 <pad> k-1 v-2 v-4 v-0 … k-3 k-0 v-5 <pad> k-1 v-2 v-4 v-0
    labels:                                                v-5           v-2 v-4 v-0

Keys and values are one to three words long, from two vocabularies. No word comes twice in one. A
text has `items` keys, each with a value, and `rules` pairs of these in all, with `<pad>` between.
Each word of a value is a label, at the word before it, if its key was shown before. The last pair
ends the text, and its key was shown before.

`retention` is the share of such words that are right, and `exact` the share of texts with no wrong
one. Values stand in the text, whatever a model says, as published.

At a longer context there are as many pairs, and more `<pad>`.

What differs from the published code (athms/mad-lab, `fuzzy-in-context-recall`):

- Pairs come from few keys, so that they come back. There, each is drawn from all keys, and mostly
  the pair that is asked for at the end comes back.
- Lengths are the same in training and test: key i of a text has 1 + i modulo 3 words, and its value
  1 to 3. There, keys of tests have 3.
- The number of pairs is fixed, and `<pad>` stands anywhere between them. There it stands in front.
- Only labels are trained on, and a context of n tokens reads n - 1 of them.

`fillers` is the number of words of keys, `rule_words` of values: 7 each, as published. `decoy_rate`
concerns other tasks. Splits differ by their random streams.
"""

from itertools import permutations
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from rulekeep.tasks.base import Role
from rulekeep.tasks.drawing import Rows, Streams, Text, distinct, last_equal
from rulekeep.tasks.labelled import SHORTEST, LabelledOptions, LabelledTask
from rulekeep.tasks.sampled import RuleWords, Sample, asking, within

_LENGTHS = (1, 2, 3)
_LONGEST = 3
# The first token whose label may be asked for is that before this one: a key after a pair.
_FIRST = 3


class FuzzyRecallOptions(LabelledOptions):
    """`rules` pairs in a text, of `items` keys; words of keys and values."""

    # A key can come back, and there are words for keys and values.
    rules: Annotated[int, Field(ge=2)] = 10
    rule_words: Annotated[int, Field(ge=_LONGEST, le=20)] = 7
    items: int = 4
    fillers: Annotated[int, Field(ge=_LONGEST, le=20)] = 7

    def fewest_items(self) -> int:
        """One key, which comes back."""
        return 1

    def check(self) -> None:
        """Check that there are as many keys: those of one word are the fewest, a third of all."""
        within("items", self.items, 1, _LONGEST * self.fillers)


class FuzzyRecall(LabelledTask):
    """Pairs of a key and a value of one to three words each; values of keys shown are labels."""

    name: ClassVar[str] = "fuzzy_recall"
    options_type: ClassVar[type[FuzzyRecallOptions]] = FuzzyRecallOptions
    options: FuzzyRecallOptions

    def __init__(self, options: FuzzyRecallOptions | None = None) -> None:
        self.options = options = options or FuzzyRecallOptions()
        super().__init__([("v", options.rule_words), ("k", options.fillers)], ("<pad>",))
        self.rule_words = RuleWords.recited(self._starts["v"])
        self._keys, self._values = (
            [_words(self._starts[kind].first, self._starts[kind].size, n) for n in _LENGTHS]
            for kind in ("k", "v")
        )
        self.shortest_context = max(SHORTEST, 2 * _LONGEST * options.rules)

    def _drawn(self, context: int, n: int, streams: Streams) -> Sample:
        k, items = self.options.rules, self.options.items
        # Key i of a text has 1 + i modulo 3 words; no two are the same.
        key_sizes = 1 + np.arange(items) % _LONGEST
        keys = np.zeros((n, items, _LONGEST), dtype=np.int64)
        for length, known in enumerate(self._keys, start=1):
            some = np.flatnonzero(key_sizes == length)
            which = distinct(streams(f"keys of {length}"), n, len(some), len(known))[0]
            keys[:, some] = known[which]
        value_sizes = streams("sizes").integers(1, _LONGEST + 1, (n, items))
        values = np.zeros_like(keys)
        for length, known in enumerate(self._values, start=1):
            which = streams(f"values of {length}").integers(0, len(known), (n, items))
            values = np.where((value_sizes == length)[..., None], known[which], values)
        turn = streams("turns").integers(0, items, (n, k))
        turn[:, -1] = turn[np.arange(n), streams("last").integers(0, k - 1, n)]
        row = np.arange(n)[:, None]
        key_size, value_size = key_sizes[turn], value_sizes[row, turn]
        size = key_size + value_size
        slack = context - size.sum(axis=1)
        gaps = np.sort(streams("places").integers(0, slack[:, None] + 1, (n, k)), axis=1)
        gaps[:, -1] = slack
        at = gaps + np.cumsum(size, axis=1) - size
        text = Text.of(np.full((n, context), self._cues["<pad>"]))
        value_at = at + key_size
        for start, words, sizes, role in (
            (at, keys[row, turn], key_size, Role.ITEM),
            (value_at, values[row, turn], value_size, Role.RULE),
        ):
            for i in range(_LONGEST):
                rows, pair = np.nonzero(i < sizes)
                place = rows, start[rows, pair] + i
                text.tokens[place], text.roles[place] = words[rows, pair, i], role
        before = last_equal(turn)
        word = np.arange(_LONGEST)

        def flat(table: np.ndarray) -> Rows:
            laid: Rows = np.broadcast_to(table, (n, k, _LONGEST)).reshape(n, k * _LONGEST)
            return laid

        # Words of a value that stand before are no candidates.
        chance = 1 / np.arange(self.options.rule_words, self.options.rule_words - _LONGEST, -1)
        there = (before >= 0)[..., None] & (word < value_size[..., None])
        return asking(
            text, _FIRST, flat(value_at[..., None] + word), labels=flat(values[row, turn]),
            source=flat(np.take_along_axis(value_at, before, axis=1)[..., None] + word),
            chance=flat(chance), there=flat(there),
        )  # fmt: skip


def _words(first: int, size: int, length: int) -> np.ndarray:
    """Every row of so many different words, `[rows, 3]`; what is beyond its length is no word."""
    rows = np.array(list(permutations(range(first, first + size), length)), dtype=np.int64)
    return np.pad(rows, ((0, 0), (0, _LONGEST - length)))

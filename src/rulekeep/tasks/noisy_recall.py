"""Noisy in-context recall, after MAD (Poli et al. 2024, arXiv 2403.17844).

    text:    noise-4 key-3 value-1 key-7 value-1 noise-2 noise-9 … key-3 value-1 … key-7 value-1
    labels:                                                   value-1         value-1

A text has `rules` pairs of key and value, and noise words in all other places. Each key has one
value in a text, and another in the next. Keys are drawn with replacement, so they come back. The
value is the label of each key that was shown before. The last pair ends the text, and its key was
shown before.

`retention` is the share of such keys that are right, and `exact` the share of texts with no wrong
one. The value stands in the text after its key, whatever a model says, as published.

At a longer context there are as many pairs, and more noise: 22 % at 64 tokens, 98.8 % at 4,096.
`rules=31` at 64 tokens is MAD's in-context recall: no noise but two words.

What differs from the published code (athms/mad-lab, `noisy-in-context-recall`):

- The number of pairs is fixed. There the share of noise is, 20 % by default, and pairs are drawn.
- Noise comes in any number of words. There it comes in twos.
- Only labels are trained on. There every next word is, and labels only are tested on.
- A context of n tokens reads n - 1 of them: nothing is asked after the last value.

`items` is the number of keys, `rule_words` of values and `fillers` of noise words: 8, 8 and 16, as
published. `decoy_rate` concerns other tasks. Splits differ by their random streams.
"""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from rulekeep.tasks.base import Role
from rulekeep.tasks.drawing import Streams, Text, last_equal, places
from rulekeep.tasks.labelled import SHORTEST, LabelledOptions, LabelledTask
from rulekeep.tasks.sampled import RuleWords, Sample, Size, asking


class NoisyRecallOptions(LabelledOptions):
    """`rules` pairs of key and value in a text, out of `items` keys and `rule_words` values."""

    # A key can come back.
    rules: Annotated[int, Field(ge=2)] = 25
    rule_words: Size = 8
    items: int = 8
    fillers: Size = 16

    def fewest_items(self) -> int:
        """One key, which comes back."""
        return 1


class NoisyRecall(LabelledTask):
    """K pairs of key and value among noise; the value of a key that was shown is its label."""

    name: ClassVar[str] = "noisy_recall"
    options_type: ClassVar[type[NoisyRecallOptions]] = NoisyRecallOptions
    options: NoisyRecallOptions

    def __init__(self, options: NoisyRecallOptions | None = None) -> None:
        self.options = options = options or NoisyRecallOptions()
        kinds = (
            ("value", options.rule_words), ("key", options.items), ("noise", options.fillers)
        )  # fmt: skip
        super().__init__(kinds, ())
        self.rule_words = RuleWords.recited(self._starts["value"])
        self.shortest_context = max(SHORTEST, 2 * options.rules)

    def _drawn(self, context: int, n: int, streams: Streams) -> Sample:
        k = self.options.rules
        keys = streams("keys").integers(0, self.options.items, (n, k))
        # The last key is one that was shown: that of an earlier pair.
        shown = streams("last").integers(0, k - 1, n)
        keys[:, -1] = keys[np.arange(n), shown]
        value_of = streams("values").integers(0, self.options.rule_words, (n, self.options.items))
        values = self._starts["value"].first + np.take_along_axis(value_of, keys, axis=1)
        at = places(streams("places"), n, k - 1, 2, 0, context - 2)
        at = np.concatenate([at, np.full((n, 1), context - 2)], axis=1)
        text = Text.of(self._starts["noise"].draw(streams("noise"), (n, context)))
        text.put(at, self._starts["key"].first + keys, Role.ITEM)
        text.put(at + 1, values, Role.RULE)
        earlier = last_equal(keys)
        return asking(
            text, 3, at + 1, labels=values, source=np.take_along_axis(at, earlier, axis=1) + 1,
            chance=1 / self.options.rule_words, there=earlier >= 0,
        )  # fmt: skip

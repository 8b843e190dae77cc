"""Compression, after MAD (Poli et al. 2024, arXiv 2403.17844), asked for by place.

    text:    token-4 token-9 token-4 … <compress> <blank> … place-2 place-0 place-1 <blank>
    labels:                                                 token-4 token-4 token-9

A text begins with `rules` random tokens and `<compress>`. At its end stands each place, in any
order, and the token that stood there is its label. So a model has to keep all tokens with their
places, as it does not know which is asked for next.

`retention` is the share of tokens that are right, and `exact` the share of texts with no wrong one.
A model's answers are not fed back.

At a longer context there are as many tokens, and more blanks before they are asked for.

What differs from the published code (athms/mad-lab, `compression`):

- Places are asked for in the text. There, an MLP decodes each token from the output at `<compress>`
  alone, with the place added. So attention has to compress there; here it looks back, and only a
  state of fixed size compresses.
- There are 12 tokens by default, there 31. At least 31 blanks stand before the first place.
- A context of n tokens reads n - 1 of them: nothing is asked after the last.

`rule_words` is the number of different tokens: 15, as published. `items`, `fillers` and
`decoy_rate` concern other tasks. Splits differ by their random streams.
"""

from typing import ClassVar

import numpy as np

from rulekeep.tasks.base import Role
from rulekeep.tasks.drawing import Streams, Text, distinct
from rulekeep.tasks.labelled import LabelledOptions, LabelledTask
from rulekeep.tasks.sampled import CLEAR_TOKENS, RuleWords, Sample, Size, asking


class CompressionOptions(LabelledOptions):
    """`rules` tokens to keep, each one of `rule_words`."""

    rules: int = 12
    rule_words: Size = 15


class Compression(LabelledTask):
    """K tokens; at the end of the text each is asked for by its place."""

    name: ClassVar[str] = "compression"
    options_type: ClassVar[type[CompressionOptions]] = CompressionOptions
    options: CompressionOptions

    def __init__(self, options: CompressionOptions | None = None) -> None:
        self.options = options = options or CompressionOptions()
        kinds = (("token", options.rule_words), ("place", options.rules))
        super().__init__(kinds, ("<blank>", "<compress>"))
        self.rule_words = RuleWords.recited(self._starts["token"])
        self.shortest_context = options.rules + CLEAR_TOKENS + options.rules

    def _drawn(self, context: int, n: int, streams: Streams) -> Sample:
        k, start = self.options.rules, context - self.options.rules
        words = self._starts["token"].draw(streams("tokens"), (n, k))
        order = distinct(streams("order"), n, k, k)[0]
        text = Text.of(np.full((n, context), self._cues["<blank>"]))
        text.put(np.arange(k)[None], words, Role.RULE)
        text.put(np.array([[k]]), self._cues["<compress>"], Role.CUE)
        # The first place that is asked for stands right before the answer.
        asked = np.tile(np.arange(start, context), (n, 1))
        text.put(asked - 1, self._starts["place"].first + order, Role.REQUEST)
        labels, chance = np.take_along_axis(words, order, axis=1), 1 / self.options.rule_words
        return asking(text, start, asked, labels=labels, source=order, chance=chance)

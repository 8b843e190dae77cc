"""Selective copying, after MAD (Poli et al. 2024, arXiv 2403.17844; Gu and Dao 2023, Mamba).

    text:    <blank> token-4 <blank> <blank> token-9 … <blank> … <copy> <blank> <blank>
    labels:                                                             token-4 token-9

A text has `rules` tokens to copy among blanks, drawn with replacement. After `<copy>` blanks
follow, as many as tokens. The tokens are their labels, in the order of the text.

`retention` is the share of tokens that are right, and `exact` the share of texts that are copied
without a mistake. A model's answers are not fed back: it reads blanks, and has to count.

At a longer context there are as many tokens, and more blanks.

What differs from the published code (athms/mad-lab, `selective-copying`):

- There are 8 tokens by default, so that a text of 64 tokens has room. There they are 16, at 256
  tokens: `rules=16`.
- The last 33 tokens before the first label are `<copy>` and blanks, so that no reader of these is
  above chance. There, the last token to copy stands right before `<copy>`.
- A context of n tokens reads n - 1 of them: nothing is asked after the last.

`rule_words` is the number of different tokens: 14, as published. `items`, `fillers` and
`decoy_rate` concern other tasks. Splits differ by their random streams.
"""

from typing import ClassVar

import numpy as np

from rulekeep.tasks.base import Role
from rulekeep.tasks.drawing import Streams, Text, places
from rulekeep.tasks.labelled import LabelledOptions, LabelledTask
from rulekeep.tasks.sampled import CLEAR_TOKENS, RuleWords, Sample, Size, asking


class SelectiveCopyOptions(LabelledOptions):
    """`rules` tokens to copy, each one of `rule_words`."""

    rules: int = 8
    rule_words: Size = 14


class SelectiveCopy(LabelledTask):
    """K tokens among blanks; after `<copy>` they are the labels of blanks."""

    name: ClassVar[str] = "selective_copy"
    options_type: ClassVar[type[SelectiveCopyOptions]] = SelectiveCopyOptions
    options: SelectiveCopyOptions

    def __init__(self, options: SelectiveCopyOptions | None = None) -> None:
        self.options = options = options or SelectiveCopyOptions()
        super().__init__([("token", options.rule_words)], ("<blank>", "<copy>"))
        self.rule_words = RuleWords.recited(self._starts["token"])
        self.shortest_context = options.rules + CLEAR_TOKENS + options.rules

    def _drawn(self, context: int, n: int, streams: Streams) -> Sample:
        k, start = self.options.rules, context - self.options.rules
        words = self._starts["token"].draw(streams("tokens"), (n, k))
        at = places(streams("places"), n, k, 1, 0, start - CLEAR_TOKENS)
        text = Text.of(np.full((n, context), self._cues["<blank>"]))
        text.put(at, words, Role.RULE)
        # The first blank that is asked for a token stands right before the answer.
        text.put(np.array([[start - 2]]), self._cues["<copy>"], Role.REQUEST)
        asked = np.tile(np.arange(start, context), (n, 1))
        chance = 1 / self.options.rule_words
        return asking(text, start, asked, labels=words, source=at, chance=chance)

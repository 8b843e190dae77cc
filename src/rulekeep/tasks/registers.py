"""A register machine: values that are set and copied, and every register read at the end.

    text:    <set> register-2 value-5 … <copy> register-0 register-2 … <read> register-0 <end>
    labels:                                                                   value-5

There are `items` registers and `rules` instructions. The first of them set each register once, in
any order. Each of the others sets a register or copies one into another, equally likely. A longer
text has as many instructions, and more fillers and decoys between. At the end every register is
read once, in any order. The label of a read is the value that its register holds then.

What is copied twice is kept if the copies are: no later instruction names its value again. Whoever
keeps the last value written beside each register's name is wrong wherever it was copied.

`retention` is the share of reads that are right, and `exact` the share of texts with no wrong one.
Labels are told to nobody, and values are drawn independently: chance is one in `rule_words`.
Decoys are register and value words without a cue. Splits differ by their random streams.
"""

from typing import ClassVar

import numpy as np

from rulekeep.tasks.base import Role
from rulekeep.tasks.drawing import Streams, body, places
from rulekeep.tasks.labelled import SHORTEST, LabelledOptions, LabelledTask
from rulekeep.tasks.sampled import MOST_RULES, RuleWords, Sample, Size, asking, within


class RegistersOptions(LabelledOptions):
    """`rules` instructions about `items` registers and `rule_words` values."""

    rules: int = 12
    rule_words: Size = 16
    items: int = 4

    def fewest_items(self) -> int:
        """One to copy into, and one to copy from."""
        return 2

    def check(self) -> None:
        """Check that every register is set."""
        within("rules", self.rules, self.items, MOST_RULES)


class Registers(LabelledTask):
    """Registers that are set and copied among words that say nothing, then all read."""

    name: ClassVar[str] = "registers"
    options_type: ClassVar[type[RegistersOptions]] = RegistersOptions
    options: RegistersOptions

    def __init__(self, options: RegistersOptions | None = None) -> None:
        self.options = options = options or RegistersOptions()
        kinds = (
            ("value", options.rule_words),
            ("register", options.items),
            ("filler", options.fillers),
        )
        super().__init__(kinds, ("<set>", "<copy>", "<read>", "<end>"))
        self.rule_words = RuleWords.recited(self._starts["value"])
        self.shortest_context = max(SHORTEST, 3 * options.rules + 2 * options.items + 1)

    def _drawn(self, context: int, n: int, streams: Streams) -> Sample:
        k, m, cue = self.options.rules, self.options.items, self._cues
        values, registers = self._starts["value"], self._starts["register"]
        text = body(
            streams, (n, context), self.options.decoy_rate, self._starts["filler"], values,
            registers,
        )  # fmt: skip
        end = context - 2 * m - 1
        at = places(streams("places"), n, k, 3, 0, end)
        each = np.tile(np.arange(m), (n, 1))
        target = np.concatenate(
            [
                streams("order").permuted(each, axis=1),
                streams("targets").integers(0, m, (n, k - m)),
            ],
            axis=1,
        )
        is_copy = streams("copies").random((n, k)) < 0.5
        is_copy[:, :m] = False
        origin = (target + streams("origins").integers(1, m, (n, k))) % m
        written = values.draw(streams("values"), (n, k))
        text.put(at, np.where(is_copy, cue["<copy>"], cue["<set>"]), Role.CUE)
        text.put(at + 1, registers.first + target, Role.ITEM)
        text.put(at + 2, np.where(is_copy, registers.first + origin, written), Role.RULE)
        np.put_along_axis(text.roles, at + 2, np.where(is_copy, Role.ITEM, Role.RULE), axis=1)
        # What each register holds, and where it was first written.
        rows = np.arange(n)
        held, source = (np.zeros((n, m), dtype=np.int64) for _ in range(2))
        for turn in range(k):
            to, copied, of = target[:, turn], is_copy[:, turn], origin[:, turn]
            held[rows, to] = np.where(copied, held[rows, of], written[:, turn])
            source[rows, to] = np.where(copied, source[rows, of], at[:, turn] + 2)
        asked = streams("reads").permuted(each, axis=1)
        asked_at = np.tile(end + 1 + 2 * np.arange(m), (n, 1))
        text.put(asked_at - 1, cue["<read>"], Role.REQUEST)
        text.put(asked_at, registers.first + asked, Role.REQUEST)
        text.put(np.full((n, 1), context - 1), cue["<end>"], Role.PLAIN)
        return asking(
            text, end + 2, asked_at + 1, labels=np.take_along_axis(held, asked, axis=1),
            source=np.take_along_axis(source, asked, axis=1), chance=1 / values.size,
        )  # fmt: skip

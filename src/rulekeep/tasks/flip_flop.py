"""Flip-flop with undo, after Zhou (2026, arXiv 2604.05923) and Liu et al. (2023, arXiv 2306.00946).

    text:    <write> value-1 <ignore> value-0 <write> value-0 <undo> <nothing> … <read> value-1
    labels:                                                                      value-1

A text is a row of instructions, two tokens each. `<write>` puts a value on a stack, and `<ignore>`
does nothing. `<undo>` takes the top value off. `<read>` asks for the top value, which is its label.
The value stands after it, whatever a model says.

`rules` instructions of a text are no `<ignore>`. The first writes; the last reads, and ends the
text. The others write (0.4), undo or read (0.3 each). The last value on the stack is not undone:
there a write stands. A longer text has as many of them, and more to ignore.

`retention` is the share of reads that are right, and `exact` the share of texts with no wrong one.

The paper's text was not at hand beyond its abstract: shares of instructions and lengths are ours,
and the bound of the stack is what `rules` leaves room for. Instructions are those of the flip-flop
language, whose long texts hold few writes and reads too.

`rule_words` is the number of values, 2 as published. `items`, `fillers` and `decoy_rate` concern
other tasks. Splits differ by their random streams.
"""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from rulekeep.tasks.base import Role
from rulekeep.tasks.drawing import Streams, Text, places
from rulekeep.tasks.labelled import SHORTEST, LabelledOptions, LabelledTask
from rulekeep.tasks.sampled import Sample, asking

_WRITES, _UNDOES = 0.4, 0.3


class FlipFlopOptions(LabelledOptions):
    """`rules` instructions that count, about `rule_words` values."""

    # Something is written and read.
    rules: Annotated[int, Field(ge=2)] = 16
    rule_words: Annotated[int, Field(ge=2, le=64)] = 2


class FlipFlop(LabelledTask):
    """Values that are written, read and undone among instructions to ignore."""

    name: ClassVar[str] = "flip_flop"
    options_type: ClassVar[type[FlipFlopOptions]] = FlipFlopOptions
    options: FlipFlopOptions

    def __init__(self, options: FlipFlopOptions | None = None) -> None:
        self.options = options = options or FlipFlopOptions()
        cues = ("<write>", "<read>", "<ignore>", "<undo>", "<nothing>")
        super().__init__([("value", options.rule_words)], cues)
        self.shortest_context = max(SHORTEST, 2 * options.rules)

    def _drawn(self, context: int, n: int, streams: Streams) -> Sample:
        k, words, cue = self.options.rules, self._starts["value"], self._cues
        first = context % 2
        text = Text.of(words.draw(streams("ignored"), (n, context)), Role.DECOY_RULE)
        tokens, roles = text
        tokens[:, first::2], roles[:, first::2] = cue["<ignore>"], Role.PLAIN
        # Of an odd text the first token stands alone.
        tokens[:, :first], roles[:, :first] = cue["<nothing>"], Role.PLAIN
        slots = context // 2
        middle = places(streams("places"), n, k - 2, 1, 1, slots - 1)
        slot = np.pad(middle, ((0, 0), (1, 1)), constant_values=((0, 0), (0, slots - 1)))
        at = first + 2 * slot
        written = words.draw(streams("written"), (n, k))
        drawn = streams("instructions").random((n, k))
        # The stack of each row: its values, and where each was last seen.
        rows, depth = np.arange(n), np.zeros(n, dtype=np.int64)
        stack, seen = (np.zeros((n, k), dtype=np.int64) for _ in range(2))
        labels, source = (np.zeros((n, k), dtype=np.int64) for _ in range(2))
        reads = np.zeros((n, k), dtype=bool)
        for turn in range(k):
            draw, last = drawn[:, turn], turn == k - 1
            reading = np.full(n, last) if last or not turn else draw >= _WRITES + _UNDOES
            undoing = ~reading & (draw >= _WRITES) & (depth > 1)
            writing = ~reading & ~undoing
            depth += writing.astype(np.int64) - undoing
            top = depth - 1
            place = at[:, turn] + 1
            stack[rows[writing], top[writing]] = written[writing, turn]
            labels[:, turn], source[:, turn] = stack[rows, top], seen[rows, top]
            seen[rows[~undoing], top[~undoing]] = place[~undoing]
            reads[:, turn] = reading
            for where, word in ((writing, "<write>"), (reading, "<read>"), (undoing, "<undo>")):
                tokens[rows[where], at[where, turn]] = cue[word]
                roles[rows[where], at[where, turn]] = Role.CUE
            tokens[rows, place] = np.where(undoing, cue["<nothing>"], stack[rows, top])
            roles[rows, place] = np.where(undoing, Role.PLAIN, Role.RULE)
        return asking(
            text, first + 3, at + 1, labels=labels, source=source, chance=1 / words.size,
            there=reads,
        )  # fmt: skip

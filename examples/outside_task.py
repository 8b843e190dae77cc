"""A task of one's own, in a file of one's own: say the rules backwards, then the item.

    rulekeep check-task examples/outside_task.py:Backwards
    rulekeep certify examples/outside_task.py:Backwards --context 64,256
    rulekeep show examples/outside_task.py:Backwards --n 1

    <bos> filler-3 rule-7 filler-1 item-2 rule-5 … | filler-4 rule-7 … <go> | rule-5 rule-7 item-2

A class says what its vocabulary is and how long its answer, and draws one block of examples
from named streams: the rest (splits, pieces, places, bodies) comes with `SampledTask`.
"""

from typing import ClassVar

import numpy as np

from rulekeep.tasks import Role, Sample, SampledTask, Split, TaskOptions
from rulekeep.tasks.drawing import Streams, draw_ranks


class Backwards(SampledTask):
    """K rules, which may repeat, from the last to the first; then the item."""

    name: ClassVar[str] = "backwards"
    options_type: ClassVar[type[TaskOptions]] = TaskOptions
    options: TaskOptions

    def __init__(self, options: TaskOptions | None = None) -> None:
        self.options = options = options or TaskOptions()
        sizes = {"rule": options.rule_words, "item": options.items, "filler": options.fillers}
        super().__init__(list(sizes.items()), ("<bos>", "<go>", "<rule>"))
        self._count(options.rule_words**options.rules * options.items)
        # The rules and the item.
        self.answer_length = options.rules + 1
        self.shortest_context = self._shortest(options.rules + 1, width=1, tail=1)

    def _block(self, split: Split, context: int, n: int, streams: Streams) -> Sample:
        k, start = self.options.rules, context - self.answer_length
        rules = streams("rules").integers(0, self.options.rule_words, (n, k))
        # Which items a split may have with these rules: no combination is in two splits.
        item = draw_ranks(streams("item"), split, rules, self.options.items)[:, None]
        rules += self._starts["rule"].first
        item += self._starts["item"].first
        # Head and body with decoys; `at` says where the instructions stand, by placement.
        prefix, at, _ = self._open(streams, n, start, k + 1)
        prefix.put(at[:, :k], rules, Role.RULE)
        prefix.put(at[:, k:], item, Role.ITEM)
        rule = np.tile(np.arange(k + 1) < k, (n, 1))
        return Sample(
            tokens=np.concatenate([prefix.tokens, rules[:, ::-1], item], axis=1),
            answer_start=start,
            supervised=np.ones_like(rule),
            rule=rule,
            first_mention=rule.copy(),
            item=~rule,
            prohibition=np.zeros_like(rule),
            chance=np.where(rule, 1 / self.options.rule_words, 1 / self.options.items),
            source=np.concatenate([at[:, k - 1 :: -1], at[:, k:]], axis=1),
            step=np.tile(np.arange(k + 1), (n, 1)),
            roles=np.pad(prefix.roles, ((0, 0), (0, k + 1)), constant_values=Role.ANSWER),
        )

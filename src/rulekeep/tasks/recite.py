"""Say the rules in order, then the item: the article's question without its leaks.

    <bos> filler-3 rule-7 filler-1 item-2 rule-5 filler-9 | filler-4 rule-7 item-8 … <go>
    | rule-7 rule-5 item-2

K distinct rules and one item stand among fillers in a head (`early`), or anywhere after a cue
(`marked`). The body repeats words of both kinds as decoys, those in force included.
"""

import math
from typing import ClassVar

import numpy as np

from rulekeep.tasks.base import Role, Split
from rulekeep.tasks.drawing import Streams, distinct, draw_ranks
from rulekeep.tasks.sampled import RuleWords, Sample, SampledTask, TaskOptions


class ReciteOptions(TaskOptions):
    """The options that every sampled task has, and no others."""


class Recite(SampledTask):
    """K rules in order and one item."""

    name: ClassVar[str] = "recite"
    options_type: ClassVar[type[TaskOptions]] = ReciteOptions
    options: ReciteOptions

    def __init__(self, options: ReciteOptions | None = None) -> None:
        self.options = options = options or ReciteOptions()
        kinds = (
            ("rule", options.rule_words),
            ("item", options.items),
            ("filler", options.fillers),
        )
        super().__init__(kinds, ("<bos>", "<go>", "<rule>"))
        self.rule_words = RuleWords.recited(self._starts["rule"])
        self._count(options.items * math.perm(options.rule_words, options.rules))
        # The rules and the item.
        self.answer_length = options.rules + 1
        self.shortest_context = self._shortest(options.rules + 1, width=1, tail=1)

    def _block(self, split: Split, context: int, n: int, streams: Streams) -> Sample:
        k, start = self.options.rules, context - self.answer_length
        rules = distinct(streams("rules"), n, k, self.options.rule_words)[0]
        item = draw_ranks(streams("item"), split, rules, self.options.items)[:, None]
        rule_tokens, item_token = (
            rules + self._starts["rule"].first,
            item + self._starts["item"].first,
        )
        prefix, at, _ = self._open(streams, n, start, k + 1)
        item_turn = streams("item turn").integers(0, k + 1, (n, 1))
        turns = np.arange(k) + (np.arange(k) >= item_turn)
        rules_at = np.take_along_axis(at, turns, axis=1)
        item_at = np.take_along_axis(at, item_turn, axis=1)
        prefix.put(rules_at, rule_tokens, Role.RULE)
        prefix.put(item_at, item_token, Role.ITEM)
        answer = np.concatenate([rule_tokens, item_token], axis=1)
        step = np.tile(np.arange(k + 1), (n, 1))
        rule = step < k
        chance = np.full((n, k + 1), 1 / self.options.items)
        chance[:, :k] = 1 / (self.options.rule_words - np.arange(k))
        return Sample(
            tokens=np.concatenate([prefix.tokens, answer], axis=1),
            answer_start=start,
            supervised=np.ones_like(rule),
            rule=rule,
            first_mention=rule.copy(),
            item=~rule,
            prohibition=np.zeros_like(rule),
            chance=chance,
            source=np.concatenate([rules_at, item_at], axis=1),
            step=step,
            roles=np.pad(prefix.roles, ((0, 0), (0, k + 1)), constant_values=Role.ANSWER),
        )

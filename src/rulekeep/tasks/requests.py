"""What tasks with a request share: items asked for at the end, each shown with its attributes.

Attribute a concerns the items of one kind: a modulo the number of kinds. Item i is of kind i modulo
the same number. Each kind has a fixed number of requested items, in any order. So answers have
equal lengths, and the first item that a rule concerns comes early or late.

The answer gives each item, then one token for each attribute that concerns it, in the order of the
attributes. Only the first token that an attribute shows cannot be copied from the answer.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from rulekeep.tasks.base import Role, Split
from rulekeep.tasks.drawing import FEWEST_ITEMS, Rows, Streams, Text, draw_ranks, last_equal
from rulekeep.tasks.sampled import MOST_RULES, RuleWords, Sample, SampledTask, TaskOptions


class RequestOptions(TaskOptions):
    """`outputs` is N, the number of requested items; each of the `kinds` has its own attributes."""

    outputs: Annotated[int, Field(ge=1, le=64)] = 4
    kinds: Annotated[int, Field(ge=1, le=64)] = 2

    @property
    def attributes(self) -> int:
        """Attributes, with a rule or without: M."""
        return self.rules

    def most_rules(self) -> int:
        """Every attribute needs two words to choose from."""
        return min(MOST_RULES, self.rule_words // 2)

    def fewest_items(self) -> int:
        """Four of each kind."""
        return FEWEST_ITEMS * self.kinds


class Shown(NamedTuple):
    """What each attribute shows, `[n, attributes]` each; `chance` is that of its first use."""

    tokens: np.ndarray
    ruled: np.ndarray
    prohibition: np.ndarray
    chance: np.ndarray
    source: np.ndarray


class RequestTask(SampledTask):
    """A task whose rule word r is about attribute r modulo M, and shows `shows-r`."""

    options: RequestOptions

    def __init__(self, kinds: Sequence[tuple[str, int]] = (), cues: Sequence[str] = ()) -> None:
        options, words = self.options, self.options.rule_words
        super().__init__(
            [("rule", words), ("item", options.items), ("filler", options.fillers),
             ("shows", words), *kinds],
            ("<bos>", "<go>", "<rule>", "<ask>", *cues),
        )  # fmt: skip
        word, m = np.arange(words), options.attributes
        first_rule, first_shown = self._starts["rule"].first, self._starts["shows"].first
        self.rule_words = RuleWords(first_rule + word, first_shown + word, word % m)
        # Words of each attribute, and items of each kind.
        self._sizes = np.bincount(word % m)
        self._items = np.bincount(np.arange(options.items) % options.kinds)
        # The request is `<ask>`, the items, `<go>`.
        self._tail = options.outputs + 2
        shown = 1 + np.bincount(np.arange(m) % options.kinds, minlength=options.kinds)
        self.answer_length = int(shown[np.arange(options.outputs) % options.kinds].sum())

    def _count_tuples(self, tuples: int) -> None:
        """Counts ordered tuples of rules, each with any of the items that may be asked first."""
        self._count(tuples * int(self._items[: self.options.outputs].sum()))

    def _requested(self, streams: Streams, split: Split, rules: Rows) -> tuple[Rows, Rows]:
        """The items asked for, and their kinds, `[n, outputs]` both; items may repeat."""
        in_order = np.tile(np.arange(self.options.outputs) % self.options.kinds, (len(rules), 1))
        kind = streams("kinds").permuted(in_order, axis=1)
        sizes = self._items[kind]
        rank = streams("items").integers(0, sizes)
        rank[:, 0] = draw_ranks(streams("first item"), split, rules, sizes[:, 0])
        return kind + self.options.kinds * rank, kind

    def _answered(self, text: Text, requested: tuple[Rows, Rows], shown: Shown) -> Sample:
        """Writes the request at the end of the text, and the answer after it."""
        (items, kind), (n, length) = requested, text.tokens.shape
        outputs, kinds, attributes = items.shape[1], self.options.kinds, self.options.attributes
        words = self._starts["item"].first + items
        asked_at = np.arange(length - outputs - 2, length - 1)[None]
        text.put(asked_at[:, :1], self._cues["<ask>"], Role.REQUEST)
        text.put(asked_at[:, 1:], words, Role.REQUEST)
        # Cells are [n, outputs, 1 + most attributes of a kind]: the item, then its attributes.
        attribute = kind[:, :, None] + kinds * np.arange(-(-attributes // kinds))
        used = np.insert(attribute < attributes, 0, True, axis=2)
        attribute = np.minimum(attribute, attributes - 1)

        def lay(of_item: np.ndarray | float, of_attribute: np.ndarray) -> np.ndarray:
            cells = np.empty(used.shape, dtype=of_attribute.dtype)
            cells[:, :, 0], cells[:, :, 1:] = of_item, of_attribute
            laid: np.ndarray = cells[used].reshape(n, self.answer_length)
            return laid

        def of(table: np.ndarray) -> np.ndarray:
            return np.take_along_axis(table[:, None, :], attribute, axis=2)

        ruled = of(shown.ruled)
        first = ruled & (last_equal(kind) < 0)[:, :, None]
        rule, step = lay(False, ruled), np.arange(outputs)
        return Sample(
            tokens=np.concatenate([text.tokens, lay(words, of(shown.tokens))], axis=1),
            answer_start=length,
            supervised=np.ones_like(rule),
            rule=rule,
            first_mention=lay(False, first),
            item=lay(True, np.zeros_like(ruled)),
            prohibition=lay(False, of(shown.prohibition)),
            chance=lay(self._item_chance(kind), np.where(first, of(shown.chance), 1.0)),
            source=lay(-1, of(shown.source)),
            step=lay(step, np.broadcast_to(step[:, None], attribute.shape)),
            roles=np.pad(text.roles, ((0, 0), (0, rule.shape[1])), constant_values=Role.ANSWER),
        )

    def _item_chance(self, kind: Rows) -> np.ndarray:
        """Chance on each item, `[n, outputs]`: the likeliest kind left, then any item of it."""
        best = np.zeros(kind.shape)
        left_in_all = kind.shape[1] - np.arange(kind.shape[1])
        for number, size in enumerate(self._items):
            is_kind = kind == number
            left = is_kind.sum(axis=1, keepdims=True) - is_kind.cumsum(axis=1) + is_kind
            best = np.maximum(best, left / left_in_all / size)
        return best

"""The request for items at the end, and the answer that shows each item with its attributes.

Attribute a concerns the items of one kind: a modulo the number of kinds. Item i is of kind i modulo
the same number. Each kind has a fixed number of requested items, in any order. So answers have
equal lengths, and the first item that a rule concerns comes early or late.

The answer gives each item, then one token for each attribute that concerns it, in the order of the
attributes. Only the first token that an attribute shows cannot be copied from the answer.
"""

from typing import NamedTuple

import numpy as np

from rulekeep.tasks.base import Role, Split
from rulekeep.tasks.drawing import Prefix, Rows, Streams, Words, draw_ranks
from rulekeep.tasks.sampled import Sample


class Shown(NamedTuple):
    """What each attribute shows, `[n, attributes]` each; `chance` is that of its first use."""

    tokens: np.ndarray
    ruled: np.ndarray
    prohibition: np.ndarray
    chance: np.ndarray
    source: np.ndarray


class Requests(NamedTuple):
    """The shape of a task's requests: N items of several kinds, and the attributes of each."""

    outputs: int
    kinds: int
    items: int
    attributes: int

    @property
    def tail(self) -> int:
        """Tokens of the request: `<ask>`, the items, `<go>`."""
        return self.outputs + 2

    @property
    def answer_length(self) -> int:
        """Every item, and the attributes of its kind."""
        return sum(
            len(range(kind, self.outputs, self.kinds))
            * (1 + len(range(kind, self.attributes, self.kinds)))
            for kind in range(self.kinds)
        )

    @property
    def first_items(self) -> int:
        """How many different items may be asked for first."""
        return sum(int(self._sizes()[kind]) for kind in range(min(self.kinds, self.outputs)))

    def draw(self, streams: Streams, split: Split, rules: Rows) -> tuple[Rows, Rows]:
        """The items asked for, and their kinds, `[n, outputs]` both; items may repeat."""
        n = len(rules)
        in_order = np.tile(np.arange(self.outputs) % self.kinds, (n, 1))
        kind = streams("kinds").permuted(in_order, axis=1)
        sizes = self._sizes()[kind]
        rank = streams("items").integers(0, sizes)
        rank[:, 0] = draw_ranks(streams("first item"), split, rules, sizes[:, 0])
        return kind + self.kinds * rank, kind

    def answer(
        self, prefix: Prefix, ask: int, item_words: Words, drawn: tuple[Rows, Rows], shown: Shown
    ) -> Sample:
        """Writes the request at the end of the prefix, and the answer after it."""
        items, kind = drawn
        n, length = prefix.tokens.shape
        asked_at = np.tile(np.arange(length - self.outputs - 2, length - 1), (n, 1))
        prefix.put(asked_at[:, :1], ask, Role.REQUEST)
        prefix.put(asked_at[:, 1:], item_words.first + items, Role.REQUEST)
        # Cells are [n, outputs, 1 + most attributes of a kind]: the item, then its attributes.
        most = -(-self.attributes // self.kinds)
        attribute = kind[:, :, None] + self.kinds * np.arange(most)
        shows = attribute < self.attributes
        attribute = np.minimum(attribute, self.attributes - 1)
        used = np.concatenate([np.ones((n, self.outputs, 1), dtype=bool), shows], axis=2)
        # Whether an item is the first of its kind: kinds are few, outputs may be many.
        first = np.zeros(kind.shape, dtype=bool)
        for number in range(self.kinds):
            is_kind = kind == number
            first |= is_kind & (is_kind.cumsum(axis=1) == 1)

        def lay(of_item: np.ndarray, of_attribute: np.ndarray) -> np.ndarray:
            cells = np.concatenate([of_item[:, :, None], of_attribute], axis=2)
            laid: np.ndarray = cells[used].reshape(n, self.answer_length)
            return laid

        def of(table: np.ndarray) -> np.ndarray:
            return np.take_along_axis(table[:, None, :], attribute, axis=2)

        no = np.zeros(items.shape, dtype=bool)
        is_first = np.broadcast_to(first[:, :, None], attribute.shape)
        ruled = of(shown.ruled)
        answer = lay(item_words.first + items, of(shown.tokens))
        rule = lay(no, ruled)
        item = lay(~no, np.zeros_like(ruled))
        step = np.arange(self.outputs)
        step_cells = np.broadcast_to(step[:, None], attribute.shape)
        return Sample(
            tokens=np.concatenate([prefix.tokens, answer], axis=1),
            answer_start=length,
            supervised=np.ones_like(rule),
            rule=rule,
            first_mention=lay(no, ruled & is_first),
            item=item,
            prohibition=lay(no, of(shown.prohibition)),
            chance=lay(self._item_chance(kind), np.where(is_first & ruled, of(shown.chance), 1.0)),
            source=lay(np.full_like(items, -1), of(shown.source)),
            step=lay(np.broadcast_to(step, items.shape), step_cells),
            roles=np.pad(
                prefix.roles, ((0, 0), (0, self.answer_length)), constant_values=Role.ANSWER
            ),
        )

    def _sizes(self) -> np.ndarray:
        """Items of each kind, `[kinds]`."""
        return np.array([len(range(kind, self.items, self.kinds)) for kind in range(self.kinds)])

    def _item_chance(self, kind: Rows) -> np.ndarray:
        """Chance on each item, `[n, outputs]`: the likeliest kind left, then any item of it."""
        best = np.zeros(kind.shape)
        left_in_all = self.outputs - np.arange(self.outputs)
        for number, size in enumerate(self._sizes()):
            is_kind = kind == number
            left = is_kind.sum(axis=1, keepdims=True) - is_kind.cumsum(axis=1) + is_kind
            best = np.maximum(best, left / left_in_all / size)
        return best

"""The data of the article "An experiment with attention" (wop, May 2026), as published.

A sequence opens with two rules A and B and an item I in one of three templates. Then a cycle of six
distractors follows, and last a target of 7 tokens that needs the rules:

    <bos> A B I please make add show test | 0-cycle ... | A B I A B I <eos>

The cycle holds a decoy rule and a decoy item. Both are a fixed shift of A and of I, so the
published data can be solved from its last six tokens (`rulekeep certify article`). With a stream,
both are drawn from all rules and items instead, and reveal nothing. The published validation set is
the test split here; there is no validation split.

    >>> Article().examples("test", 64).tokens.shape
    (1944, 64)
"""

from typing import ClassVar

import numpy as np

from rulekeep.specs import Spec, UsageError
from rulekeep.tasks.base import Role, Split, Task
from rulekeep.tasks.sampled import Sample

SPECIAL = ("<pad>", "<bos>", "<eos>")
RULES = ("red", "blue", "green", "cold", "warm", "quiet", "loud", "fast", "slow")
ITEMS = ("app", "game", "note", "chart", "bot", "tool", "page", "form", "deck")
STEPS = ("make", "add", "show", "test", "save", "open", "close", "draw", "sort")
FILLERS = ("please", "now", "clean", "simple", "small", "later", "again", "today", "brief")

_PREFIXES: dict[Split, tuple[str, ...]] = {
    "train": (
        "<bos> A B I please make add show test",
        "<bos> I A simple B open draw save close",
        "<bos> A now I clean B sort show test",
    ),
    "test": (
        "<bos> A B I brief make open save show",
        "<bos> I A later B draw close test sort",
        "<bos> A again I small B show save open",
    ),
}
# What is repeated behind the prefix, with a decoy rule D and a decoy item J.
_CYCLES = ("make please D J test small", "add now D J save later", "show clean D J open again")
_ANSWERS = ("A B I A B I <eos>", "I A B I A B <eos>", "B A I B A I <eos>")
ANSWER_LENGTH = 7
PREFIX_LENGTH = 9
_NO_OPTIONS, _ALL = Spec(), slice(None)


class Article(Task):
    """The published sequences: every (item, A, B, template), 1944 a split."""

    name: ClassVar[str] = "article"
    vocabulary: tuple[str, ...] = SPECIAL + RULES + ITEMS + STEPS + FILLERS
    shortest_context: int = PREFIX_LENGTH + ANSWER_LENGTH
    combinations: ClassVar[int] = len(ITEMS) * len(RULES) * (len(RULES) - 1)
    size: ClassVar[int] = combinations * len(_ANSWERS)
    options_type: ClassVar[type[Spec]] = Spec

    def __init__(self, options: Spec = _NO_OPTIONS) -> None:
        self.options = options

    def sample(
        self, split: Split, context: int, n: int = size, *, seed: int = 0,  # noqa: ARG002
        start: int = 0,
    ) -> Sample:  # fmt: skip
        """Examples number `start` to `start + n - 1` of the table.

        A seed changes nothing.

        Raises:
            UsageError: a value is out of its range.
        """
        if not 0 <= start < start + n <= self.size:
            raise UsageError(f"n {start + n}: must be from 1 to {self.size} for article, a table")
        return self.examples(split, context, rows=slice(start, start + n))

    def examples(
        self, split: Split, context: int, *, decoys: np.random.Generator | None = None,
        rows: slice | list[int] = _ALL,
    ) -> Sample:  # fmt: skip
        """All 1944 examples: item outermost, then A, then B (not A), then the template.

        `decoys` draws each cycle's decoy rule and decoy item, those in force included; left
        out, they are the published ones, tied to A and I. `rows` are those of them to give.

        Chance is that of a reader who knows the answer so far and the kind of token here. It is one
        rule of 9, then one of the 8 others, and one item of 9. What was said before is certain.

        Raises:
            UsageError: there is no such split, or the context is too short.
        """
        if split not in _PREFIXES:
            raise UsageError(
                f"split {split!r}: the article task has only {' and '.join(_PREFIXES)}"
            )
        if context < self.shortest_context:
            raise UsageError(
                f"context {context}: the article task needs {self.shortest_context} or more "
                f"({PREFIX_LENGTH} tokens of prefix and {ANSWER_LENGTH} of target)"
            )
        item, rule_a, rule_b, template = (column[rows] for column in _combinations())
        decoy_rule, decoy_item = _tied_decoys(item, rule_a, rule_b, template)
        if decoys is not None:
            decoy_rule = _FIRST_RULE + decoys.integers(len(RULES), size=self.size)[rows]
            decoy_item = _FIRST_ITEM + decoys.integers(len(ITEMS), size=self.size)[rows]
        columns = {"A": rule_a, "B": rule_b, "I": item, "D": decoy_rule, "J": decoy_item}
        tokens = np.empty((len(item), context), dtype=np.int64)
        symbols = np.empty((len(item), ANSWER_LENGTH), dtype="<U5")
        answer_start = context - ANSWER_LENGTH
        texts = zip(_PREFIXES[split], _CYCLES, _ANSWERS, strict=True)
        for k, (prefix, cycle, answer) in enumerate(texts):
            mine = template == k
            of_mine = {name: column[mine] for name, column in columns.items()}
            turned = np.arange(answer_start - PREFIX_LENGTH) % len(cycle.split())
            body = _fill(cycle, of_mine)[:, turned]
            tokens[mine] = np.hstack([_fill(prefix, of_mine), body, _fill(answer, of_mine)])
            symbols[mine] = answer.split()
        # Every target says its two rules and its item once, then all three again.
        first_half = np.arange(ANSWER_LENGTH) < 3
        rule, asked_item = (symbols == "A") | (symbols == "B"), symbols == "I"
        first = rule & first_half
        of_rules = np.where(first.cumsum(axis=1) == 1, 1 / len(RULES), 1 / (len(RULES) - 1))
        chance = np.where(first, of_rules, 1.0)
        chance[asked_item & first_half] = 1 / len(ITEMS)
        # Where the same word stands in the prefix; <eos> stands nowhere.
        same = tokens[:, None, :PREFIX_LENGTH] == tokens[:, answer_start:, None]
        return Sample(
            tokens=tokens,
            answer_start=answer_start,
            supervised=np.ones_like(rule),
            rule=rule,
            first_mention=first,
            item=asked_item,
            prohibition=np.zeros_like(rule),
            chance=chance,
            source=np.where(same.any(axis=2), same.argmax(axis=2), -1),
            step=np.tile(np.arange(ANSWER_LENGTH), (len(tokens), 1)),
            roles=_roles(tokens),
        )


def _roles(tokens: np.ndarray) -> np.ndarray:
    is_rule, is_item = (
        np.isin(tokens, [Article.vocabulary.index(word) for word in words])
        for words in (RULES, ITEMS)
    )
    in_prefix = np.arange(tokens.shape[1]) < PREFIX_LENGTH
    roles = np.full(tokens.shape, Role.PLAIN, dtype=np.int8)
    roles[is_rule] = Role.DECOY_RULE
    roles[is_item] = Role.DECOY_ITEM
    roles[is_rule & in_prefix] = Role.RULE
    roles[is_item & in_prefix] = Role.ITEM
    roles[:, -ANSWER_LENGTH:] = Role.ANSWER
    return roles


def _combinations() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Item, A, B and template of each example: token ids and numbers, `[1944]` each."""
    grid = np.indices((len(ITEMS), len(RULES), len(RULES), len(_ANSWERS))).reshape(4, -1)
    item, rule_a, rule_b, template = grid[:, grid[1] != grid[2]]
    return _FIRST_ITEM + item, _FIRST_RULE + rule_a, _FIRST_RULE + rule_b, template


def _tied_decoys(
    item: np.ndarray, rule_a: np.ndarray, rule_b: np.ndarray, template: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The published decoy rule and decoy item of each example, a shift of A and of I."""
    decoy_rule = (rule_a - _FIRST_RULE + template + 2) % len(RULES)
    collides = decoy_rule == rule_b - _FIRST_RULE
    decoy_item = (item - _FIRST_ITEM + template + 3) % len(ITEMS)
    return _FIRST_RULE + (decoy_rule + collides) % len(RULES), _FIRST_ITEM + decoy_item


def _fill(pattern: str, columns: dict[str, np.ndarray]) -> np.ndarray:
    """A template with A, B, I, D and J put in: token ids `[n, words]`."""
    known = Article.vocabulary
    words = [columns[w] if w in columns else known.index(w) for w in pattern.split()]
    return np.stack(np.broadcast_arrays(*words, columns["I"])[:-1], axis=1)


_FIRST_RULE = Article.vocabulary.index(RULES[0])
_FIRST_ITEM = Article.vocabulary.index(ITEMS[0])

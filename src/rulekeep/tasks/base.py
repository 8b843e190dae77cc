"""What every task gives: tables of tokens, and what each answer position means.

A task is pure numpy: data can be made and inspected without torch.
"""

from abc import ABC, abstractmethod
from enum import IntEnum
from typing import ClassVar, Literal, NamedTuple, TypeAlias

from rulekeep.kernels.shapes import AnswerMask, AnswerTable, TokenTable

# "dev" is the validation split: records keep this key, and people read "validation".
Split: TypeAlias = Literal["train", "dev", "test"]


class Role(IntEnum):
    """The role of a token in a sequence."""

    PLAIN = 0
    CUE = 1
    RULE = 2
    ITEM = 3
    DECOY_RULE = 4
    DECOY_ITEM = 5
    REQUEST = 6
    ANSWER = 7


class Examples(NamedTuple):
    """Sequences of one task, split and context; the answer is the last tokens of each.

    `tokens` is `[n, context]`. The masks are `[n, answer]`, aligned with `tokens[:,
    answer_start:]`. `first_mention` marks the rule tokens that cannot be copied from earlier in the
    answer: `retention` is measured on these. `labels` are as in a `Sample`.
    """

    tokens: TokenTable
    answer_start: int
    rule: AnswerMask
    first_mention: AnswerMask
    item: AnswerMask
    labels: AnswerTable | None = None

    @property
    def answers(self) -> AnswerTable:
        """The supervised tokens, `[n, answer]`."""
        return self.tokens[:, self.answer_start :] if self.labels is None else self.labels

    def take(self, rows: list[int]) -> "Examples":
        """The examples at these row numbers, in this order."""
        return Examples(
            self.tokens[rows],
            self.answer_start,
            self.rule[rows],
            self.first_mention[rows],
            self.item[rows],
            None if self.labels is None else self.labels[rows],
        )


class Task(ABC):
    """One kind of sequence, at any context of at least `shortest_context`."""

    name: ClassVar[str]
    # It goes up where the task gives other examples, or an option another default.
    version: ClassVar[int] = 1
    vocabulary: tuple[str, ...]
    shortest_context: int

    @abstractmethod
    def examples(self, split: Split, context: int) -> Examples:
        """Examples of a split at a context, in the task's fixed order.

        A task that is a table gives all of them; a sampled task gives as many as were asked for.

        Raises:
            ValueError: the task has no such split, or the context is too short.
        """

    def words(self, tokens: "list[int] | TokenTable") -> str:
        """Token ids as readable text, one word a token."""
        return " ".join(self.vocabulary[int(token)] for token in tokens)

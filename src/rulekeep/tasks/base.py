"""What every task gives: tables of tokens, and what each answer position means.

A task is pure numpy: data can be made and inspected without torch.
"""

from enum import IntEnum
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from rulekeep.specs import Spec

# A split has n examples; an answer is the last tokens of each.
TokenTable: TypeAlias = Int[np.ndarray, "n context"]
AnswerTable: TypeAlias = Int[np.ndarray, "n answer"]
AnswerMask: TypeAlias = Bool[np.ndarray, "n answer"]
AnswerNumbers: TypeAlias = Float[np.ndarray, "n answer"]

Split: TypeAlias = Literal["train", "validation", "test"]


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


class Task:
    """One kind of sequence, at any context of at least `shortest_context`."""

    name: ClassVar[str]
    # It goes up where the task gives other examples, or an option another default.
    version: ClassVar[int] = 1
    # What may be asked of it, and what it is made with.
    options_type: ClassVar[type[Spec]]
    options: Spec
    vocabulary: tuple[str, ...]
    shortest_context: int

    def words(self, tokens: "list[int] | TokenTable") -> str:
        """Token ids as readable text, one word a token."""
        return " ".join(self.vocabulary[int(token)] for token in tokens)

"""The contract of a sampled task: any number of examples, each a function of its name alone.

Example i of a task, its options, a split, a context and a seed is always the same one,
whatever was drawn before and however many are asked for at once:

    >>> task = Recite(ReciteOptions.parse(rules=8))
    >>> sample = task.sample("train", 256, 64, seed=1, start=64 * step)
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeAlias, get_args

import numpy as np
from pydantic import Field, model_validator

from rulekeep.seeds import split_name
from rulekeep.specs import Spec, UsageError
from rulekeep.tasks.base import (
    AnswerMask,
    AnswerNumbers,
    AnswerTable,
    Role,
    Split,
    Task,
    TokenTable,
)
from rulekeep.tasks.drawing import FEWEST_ITEMS, Rows, Streams, Text, Words, body, places

Placement: TypeAlias = Literal["early", "marked"]

# No instruction stands in this many tokens before the answer: the widest local reader sees 32.
CLEAR_TOKENS = 33
LONGEST_CONTEXT = 2**24
MOST_RULES = 64
MOST_WORDS = 4096
# Of a vocabulary.
Size: TypeAlias = Annotated[int, Field(ge=1, le=MOST_WORDS)]
FEWEST_COMBINATIONS = 100
FEW_COMBINATIONS = 10_000
_BLOCK_TOKENS = 2**16
_BLOCK_ROWS = 256


class TaskOptions(Spec):
    """The difficulty that every sampled task has; the context is given with each sample.

    `rules` is K. `rule_words`, `items` and `fillers` are sizes of vocabularies. `decoy_rate` is the
    fraction of body tokens that are rule or item words without being instructions. Rules stand in
    the head (`early`), or anywhere after a cue (`marked`).
    """

    rules: int = 4
    rule_words: Size = 32
    items: int = 16
    fillers: Size = 32
    decoy_rate: Annotated[float, Field(ge=0, le=1)] = 0.3
    placement: Placement = "early"
    # Options that came after examples had been published: at their defaults nothing is drawn anew.
    later: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        most = self.most_rules()
        if not 1 <= self.rules <= most:
            raise ValueError(
                f"rules {self.rules}: must be from 1 to {most} "
                f"(with rule_words {self.rule_words}, and never more than {MOST_RULES})"
            )
        within("items", self.items, self.fewest_items(), MOST_WORDS)
        self.check()
        return self

    def drawn_by(self) -> str:
        """What examples are drawn by, as JSON."""
        fields = type(self).model_fields
        usual = {key for key in self.later if getattr(self, key) == fields[key].default}
        return self.model_dump_json(exclude=usual)

    def most_rules(self) -> int:
        """The most rules that the rule words can make."""
        return min(MOST_RULES, self.rule_words)

    def fewest_items(self) -> int:
        """The fewest items that let every tuple of rules be in every split."""
        return FEWEST_ITEMS

    def check(self) -> None:
        """Check the task's own options; raises ValueError."""


class RuleWords(NamedTuple):
    """What the rule words of a task demand, `[words]` each; the same in every example.

    `tokens` are the words themselves. `answers` has the token that each word demands. `groups`
    numbers the words that can be mistaken for each other: at the first answer to a rule, the
    candidates are the rules of its group that no earlier first mention has used. Words of one group
    demand different answers.
    """

    tokens: np.ndarray
    answers: np.ndarray
    groups: np.ndarray

    @classmethod
    def recited(cls, words: Words) -> Self:
        """Words of one group, each of which demands itself."""
        tokens = np.arange(words.first, words.first + words.size)
        return cls(tokens, tokens, np.zeros_like(tokens))


class Sample(NamedTuple):
    """Examples, and everything that is known about them.

    Masks and tables over the answer are `[n, answer]`, aligned with `tokens[:, answer_start:]`.
    `supervised` says what is predicted; the rest is given. `prohibition` marks answers to a
    prohibition, among `rule`.

    `chance` is the exact probability that the best guess without the context is right. The guesser
    knows the task, the answer so far, and the kind of answer here: a first use of a rule, a later
    use, an item, or none. It holds over the whole task. For rules it holds in each split too, as
    long as no item is answered before them (docs/tasks.md).

    `source` is the position of the instruction that an answer follows, or -1. `step` numbers the
    steps of the output. `roles` (`[n, context]`) holds a `Role` for each token. `rule_words` is the
    task's; without it a wrong answer cannot be recognised as a decoy.

    `labels` is for a labelled task: a model's answer is never fed back, so it needs to be no next
    token. Column j is the label of the token before `answer_start + j`; where nothing is asked for,
    the token of the text stands in. So teacher-forced and generated answers are the same, and
    nobody is told an answer so far.
    """

    tokens: TokenTable
    answer_start: int
    supervised: AnswerMask
    rule: AnswerMask
    first_mention: AnswerMask
    item: AnswerMask
    prohibition: AnswerMask
    chance: AnswerNumbers
    source: AnswerTable
    step: AnswerTable
    roles: TokenTable
    rule_words: RuleWords | None = None
    labels: AnswerTable | None = None

    @property
    def answers(self) -> AnswerTable:
        """What is right at each place of the answer, `[n, answer]`."""
        return self.tokens[:, self.answer_start :] if self.labels is None else self.labels

    @property
    def tables(self) -> tuple[str, ...]:
        """The fields that have a row for each example."""
        none = {"answer_start", "rule_words", *(("labels",) if self.labels is None else ())}
        return tuple(name for name in self._fields if name not in none)

    @property
    def instructions(self) -> np.ndarray:
        """Where the item, the rules in force and revised rules stand, `[n, context]`."""
        return np.isin(self.roles, (Role.RULE, Role.ITEM))

    @property
    def decoys(self) -> np.ndarray:
        """Where rule and item words stand without being instructions, `[n, context]`."""
        return np.isin(self.roles, (Role.DECOY_RULE, Role.DECOY_ITEM))


class SampledTask(Task, ABC):
    """A task whose examples are drawn; a subclass draws one block of them."""

    options_type: ClassVar[type[TaskOptions]] = TaskOptions
    # What it is made with.
    options: TaskOptions
    # Tokens of the answer, the same in every example: what `_shortest` needs, and nothing else.
    answer_length: int
    # Whether its samples have `labels`.
    labelled: ClassVar[bool] = False
    # Ordered tuples of rules with an item; None where splits differ by seed only.
    combinations: int | None
    # What a record must say beside the task's scores.
    notes: tuple[str, ...]
    # What a wrong answer is held against to see whether it names a decoy.
    rule_words: RuleWords | None = None

    def __init__(self, kinds: Sequence[tuple[str, int]], cues: Sequence[str]) -> None:
        """Numbers the vocabulary: the cues, then each kind of word.

        Raises:
            UsageError: the options are those of another task.
        """
        if not isinstance(self.options, self.options_type):
            raise UsageError(
                f"{type(self.options).__name__}: give {self.name} {self.options_type.__name__}"
            )
        self.vocabulary = (*cues, *(f"{kind}-{i}" for kind, size in kinds for i in range(size)))
        self._starts = {kind: Words(self.vocabulary.index(f"{kind}-0"), n) for kind, n in kinds}
        self._cues = {cue: i for i, cue in enumerate(cues)}
        self.notes = ()

    @abstractmethod
    def _block(self, split: Split, context: int, n: int, streams: Streams) -> Sample: ...

    def sample(
        self, split: Split, context: int, n: int, *, seed: int = 0, start: int = 0
    ) -> Sample:
        """Examples number `start` to `start + n - 1` of a split, a context and a seed.

        Raises:
            UsageError: a value is out of its range.
        """
        if split not in get_args(Split):
            raise UsageError(f"split {split!r}: choose from {', '.join(get_args(Split))}")
        context, n, seed, start = map(operator.index, (context, n, seed, start))
        try:
            within("context", context, self.shortest_context, LONGEST_CONTEXT)
            within("n", n, 1, 2**40)
            within("seed", seed, 0, 2**63 - 1)
            within("start", start, 0, 2**40)
        except ValueError as error:
            raise UsageError(f"{error} for {self.name} with these options") from None
        rows = min(_BLOCK_ROWS, max(1, _BLOCK_TOKENS // context))
        first = start // rows
        name = (self.name, self.options.drawn_by(), split_name(split), context, seed)
        blocks = [
            self._block(split, context, rows, Streams(*name, number))
            for number in range(first, (start + n - 1) // rows + 1)
        ]
        skip = start - first * rows
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(block, name) for block in blocks])[skip : skip + n]
            for name in blocks[0].tables
        }
        return Sample(answer_start=blocks[0].answer_start, rule_words=self.rule_words, **joined)

    def _count(self, combinations: int) -> None:
        self.combinations = combinations
        said = (
            f"{self.name} with {self.options!r} has {combinations:,} combinations of rules and item"
        )
        if combinations < FEWEST_COMBINATIONS:
            raise UsageError(f"{said}: must be {FEWEST_COMBINATIONS} or more")
        if combinations < FEW_COMBINATIONS:
            # So few that a model may memorise them.
            self.notes = (*self.notes, f"{said}: fewer than {FEW_COMBINATIONS:,}")

    def _shortest(self, instructions: int, width: int, tail: int, more: int = 0) -> int:
        room = instructions * (width + 1) + more
        return 1 + room + max(CLEAR_TOKENS, tail) + self.answer_length

    def _open(
        self, streams: Streams, n: int, length: int, instructions: int, *, width: int = 1,
        tail: int = 1, later: int = 0, items: Words | None = None,
    ) -> tuple[Text, Rows, Rows]:  # fmt: skip
        """A body without its instructions, their starts, and where later cues may stand.

        Early instructions stand among fillers in a head of fixed length. Marked ones stand anywhere
        before the tail, each after a cue. The tail holds the request and ends with `<go>`.
        """
        words = self._starts
        prefix = body(
            streams, (n, length), self.options.decoy_rate, words["filler"], words["rule"],
            items or words["item"],
        )  # fmt: skip
        prefix.put(np.zeros((n, 1), dtype=np.int64), self._cues["<bos>"], Role.PLAIN)
        prefix.put(np.full((n, 1), length - 1), self._cues["<go>"], Role.PLAIN)
        end = length - max(CLEAR_TOKENS, tail)
        stream = streams("places")
        if self.options.placement == "early":
            head = 1 + instructions * (width + 1)
            prefix.tokens[:, 1:head] = words["filler"].draw(streams("head"), (n, head - 1))
            prefix.roles[:, 1:head] = Role.PLAIN
            at = places(stream, n, instructions, width, 1, head)
            return prefix, at, places(streams("later places"), n, later, 2, head, end)
        cues = places(stream, n, instructions + later, width + 1, 1, end)
        prefix.put(cues[:, :instructions], self._cues["<rule>"], Role.CUE)
        return prefix, cues[:, :instructions] + 1, cues[:, instructions:]


def asking(
    text: Text, start: int, at: Rows, *, source: Rows, chance: float | np.ndarray,
    there: np.ndarray | None = None, labels: Rows | None = None,
) -> Sample:  # fmt: skip
    """A sample that asks at the places `at` of a text alone, for a rule's first use each.

    The answer begins at `start`. All tables are `[n, k]`. Where `there` is given, only those are
    asked for. Steps number them in the order of the text. A label of the token t is asked for at
    t + 1; what it asks for is in `labels`.
    """
    row, turn = np.nonzero(np.ones(at.shape, dtype=bool) if there is None else there)
    asked_at, answers = (row, at[row, turn] - start), text.tokens[:, start:]
    asked = np.zeros(answers.shape, dtype=bool)
    chances, sources = np.ones(asked.shape), np.full(asked.shape, -1)
    asked[asked_at] = True
    chances[asked_at] = np.broadcast_to(chance, at.shape)[row, turn]
    sources[asked_at] = source[row, turn]
    if labels is not None:
        answers = answers.copy()
        answers[asked_at] = labels[row, turn]
    no = np.zeros_like(asked)
    return Sample(
        text.tokens, start, supervised=asked, rule=asked.copy(), first_mention=asked.copy(),
        item=no, prohibition=no, chance=chances, source=sources,
        step=np.where(asked, asked.cumsum(axis=1) - 1, -1), roles=text.roles,
        labels=None if labels is None else answers,
    )  # fmt: skip


def within(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError, with value and range, unless low <= value <= high."""
    if not (low <= value <= high and math.isfinite(value)):
        raise ValueError(f"{name} {value}: must be from {low} to {high}")

"""What sampled tasks draw: named streams, distinct words, places, bodies and splits.

Everything is vectorised over the rows of a block. The rows of a block, and so every example, depend
on its stream's name alone: no call changes what another one draws.
"""

import hashlib
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int, UInt64

from rulekeep.tasks.base import Role, Split

Rows: TypeAlias = Int[np.ndarray, "n k"]

# A split holds these residues of (hash of the rules + rank of the item) modulo 4.
_RESIDUES: dict[Split, tuple[int, ...]] = {"train": (0, 1), "validation": (2,), "test": (3,)}
FEWEST_ITEMS = 4
_POWER = 0.01


class Streams:
    """A family of random streams, one for each purpose; none depends on another."""

    def __init__(self, *name: object) -> None:
        self._name = name

    def __call__(self, purpose: str) -> np.random.Generator:
        """The stream of a purpose, from its beginning."""
        name = "\x1f".join(str(part) for part in (purpose, *self._name))
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
        return np.random.Generator(np.random.PCG64(seed))


class Words(NamedTuple):
    """A run of the vocabulary: token ids `first` to `first + size - 1`."""

    first: int
    size: int

    def draw(self, stream: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Words drawn with replacement, each equally likely."""
        return self.first + stream.integers(0, self.size, shape)


class Text(NamedTuple):
    """Tokens and the role of each, `[n, time]` both: all of a text, or what is before its answer.

    A `put` writes into them.
    """

    tokens: np.ndarray
    roles: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray, role: Role = Role.PLAIN) -> "Text":
        """Tokens that all have one role."""
        return cls(tokens, np.full(tokens.shape, role, dtype=np.int8))

    def put(self, at: Rows, words: "Rows | int", role: Role) -> None:
        """Put words into their places, `[n, k]` each, or one row or word for all, with one role."""
        np.put_along_axis(self.tokens, at, words, axis=1)
        np.put_along_axis(self.roles, at, role, axis=1)


def distinct(stream: np.random.Generator, n: int, k: int, size: int) -> tuple[Rows, Rows]:
    """K of the numbers below `size`, drawn without replacement, `[n, k]`; and the others.

    The others, `[n, size - k]`, have no reliable order. The draw takes k steps of Fisher and Yates.
    """
    rows = np.arange(n)
    # Narrow numbers: at short contexts most of the time goes into copying the pool.
    pool = np.tile(np.arange(size, dtype=np.int16), (n, 1))
    for i in range(k):
        j = stream.integers(i, size, n)
        pool[rows, j], pool[:, i] = pool[:, i].copy(), pool[rows, j]
    return pool[:, :k].astype(np.int64), pool[:, k:]


def random_words(
    stream: np.random.Generator, tokens: int, keys: Words, others: Rows, values: Words
) -> Text:
    """So many random words a text: any value, or any of the keys `others`, which it does not have.

    `others` are numbers below `keys.size`, `[n, others]`.
    """
    n, count = others.shape
    drawn = stream.integers(0, count + values.size, (n, tokens))
    is_key = drawn < count
    words = values.first + drawn - count
    row, column = np.nonzero(is_key)
    words[row, column] = keys.first + others[row, drawn[row, column]]
    return Text(words, np.where(is_key, Role.DECOY_ITEM, Role.DECOY_RULE).astype(np.int8))


def places(
    stream: np.random.Generator, n: int, count: int, width: int, first: int, end: int
) -> Rows:
    """Starts of `count` pieces of `width` tokens: in order, apart, from first to end - 1."""
    slack = end - first - count * width
    assert slack >= 0, "the shortest context leaves room for every piece"
    gaps = np.sort(stream.integers(0, slack + 1, (n, count)), axis=1)
    return first + gaps + width * np.arange(count)


def last_equal(keys: np.ndarray) -> np.ndarray:
    """The place of the last equal key before each, `[n, k]`; -1 where there is none."""
    k = keys.shape[1]
    same = (keys[:, :, None] == keys[:, None, :]) & np.tri(k, k=-1, dtype=bool)
    found: np.ndarray = np.where(same, np.arange(k), -1).max(axis=2)
    return found


def power_law_gaps(stream: np.random.Generator, n: int, count: int, space: int) -> Rows:
    """`count` of the gaps 0 to `space` - 1, each once; gap g has weight (g + 1)^(0.01 - 1).

    So Zoology places its queries (arXiv 2312.04927): most stand near, and some far.
    """
    # Drawing without replacement by weight: the earliest of exponential clocks.
    clocks = stream.standard_exponential((n, space)) * _slowness(space)
    gap = np.argpartition(clocks, count - 1, axis=1)[:, :count]
    order = np.take_along_axis(clocks, gap, axis=1).argsort(axis=1)
    gaps: Rows = np.take_along_axis(gap, order, axis=1)
    return gaps


@lru_cache(maxsize=8)
def _slowness(space: int) -> np.ndarray:
    """The power law's weights, inverted: mean waiting times of the gaps 1 to `space`."""
    waits: np.ndarray = np.arange(1, space + 1) ** (1 - _POWER)
    return waits


def body(
    streams: Streams, shape: tuple[int, int], decoy_rate: float, fillers: Words,
    rules: Words, items: Words,
) -> Text:  # fmt: skip
    """Fillers and decoys, each token drawn separately; a decoy is a rule word or an item word.

    Both are equally likely, and each is drawn with replacement from all the words of its kind.
    """
    text = Text.of(fillers.draw(streams("fillers"), shape))
    kind = streams("decoys").random(shape, dtype=np.float32)
    at = np.flatnonzero(kind < decoy_rate)
    is_item = streams("decoy kinds").random(len(at)) < 0.5
    words = streams("decoy words")
    drawn = np.where(is_item, items.draw(words, at.shape), rules.draw(words, at.shape))
    text.tokens.ravel()[at] = drawn
    text.roles.ravel()[at] = np.where(is_item, Role.DECOY_ITEM, Role.DECOY_RULE)
    return text


def draw_ranks(
    stream: np.random.Generator, split: Split, rules: Rows, sizes: "int | np.ndarray"
) -> Int[np.ndarray, " n"]:
    """Ranks of items below `sizes`, uniform among those whose combination is in a split.

    A combination is rules in order and an item. The items of each tuple of rules are dealt to the
    splits from a hashed start. With four items or more, every tuple and every rule word is in every
    split. The rules are drawn alike in each split, so chance on them is the same. No combination is
    in two splits.
    """
    start = (_hash(rules) % np.uint64(4)).astype(np.int64)
    residues = (np.array(_RESIDUES[split]) - start[:, None]) % 4
    # Ranks of one residue below a size; the ranks of all residues count as one row of choices.
    held = (np.broadcast_to(sizes, start.shape)[:, None] - residues + 3) // 4
    choice = stream.integers(0, held.sum(axis=1))
    second = choice >= held[:, 0]
    residue = np.where(second, residues[:, -1], residues[:, 0])
    ranks: np.ndarray = residue + 4 * (choice - second * held[:, 0])
    return ranks


def _hash(columns: Rows) -> UInt64[np.ndarray, " n"]:
    """A 64-bit hash of each row, order included: the splitmix64 finisher, column by column."""
    state = np.full(len(columns), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in columns.astype(np.uint64).T:
        state = (state ^ column) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    # The low bits are the best mixed but for the last shift; the high ones serve as well.
    return state >> np.uint64(32)

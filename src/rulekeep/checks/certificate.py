"""Certificates: readers without memory must stay at chance on first uses of rules.

A local reader sees the last k tokens before the answer, and the answer so far. In a task whose
answers stand apart (`recall` in the published layout) it sees the last k tokens before each answer,
and the values so far. Answers whose pair stands in that window are left out.

The readers are scikit-learn's, trained on the train split and scored on the test split. There are
three kinds, to find a leak in a place, in a bag of words, or in a conjunction: naive Bayes on
columns and on word counts, and a tree. The widest window also has a look-up of the nearest training
example by word counts. A reader gives the commonest answer instead if that is better on a quarter
of train held out. Three more readers are k = 0 (the answer so far only), a look-up of the same
answer so far, and the prior of the answer.

Two readers see the whole context, as a bag of words and as a look-up of the nearest bag. They are
no shortcut. They are shown beside chance, on as many examples as fit, and need not pass.

Let d_i be the right answers of example i less their chance, and c_i their number. The excess is Σd
/ Σc. Its simultaneous one-sided upper bound over m readers (Bonferroni) is

    excess + z(1 - 0.05 / m) · √n · sd(d_i - excess · c_i) / Σc

Examples are the units, because answers of one example are not independent. A task passes at a
context if the bound of every local reader is at most 0.02; m counts these only. A note says if no
reader of the answer so far comes within 0.02 of chance: a chance stated too high hides a leak.

    >>> certify(Recite(), 256).passed
    True
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy import sparse, stats

from rulekeep.checks.readers import (
    Cell,
    by_bag,
    by_columns,
    by_look_up,
    by_nearest,
    by_prior,
    by_tree,
    commonest,
    join_cells,
    of_rows,
)
from rulekeep.specs import UsageError
from rulekeep.tasks import Role, Sample, SampledTask, Split

WINDOWS = (1, 4, 16, 32)
LEVEL = 0.95
MOST_EXCESS = 0.02
ENOUGH = 8000
# Who see the answer so far alone: what they know is what chance is stated of.
SO_FAR = ("prior of the answer", "answer so far, tree", "answer so far, look-up")
# What readers of the whole context see of a split: 8,192 examples of 4,096 tokens, 512 of 65,536.
WHOLE_TOKENS = 2**25
_CHUNK_TOKENS = 2**22


class Seen(NamedTuple):
    """Everything that readers may see of a split: cells by place in the answer, or in turn.

    `cells` is for local readers, `whole_cells` for those of the whole context.
    """

    examples: int
    words: int
    cells: dict[int, Cell]
    whole_cells: dict[int, Cell]
    data_hash: str


class Reading(NamedTuple):
    """The score of one reader; `bound` is the upper bound of its excess over chance."""

    reader: str
    local: bool
    retention: float
    chance: float
    excess: float
    bound: float

    @property
    def passed(self) -> bool | None:
        """Whether the bound is small enough; None for a reader of the whole context."""
        return self.bound <= MOST_EXCESS if self.local else None


class Certificate(NamedTuple):
    """The readings at one context; `passed` if every local reader's bound is small enough."""

    readings: tuple[Reading, ...]
    examples: int
    data_hash: str

    @property
    def passed(self) -> bool:
        """Whether no local reader may be above chance by more than the limit."""
        return all(reading.passed is not False for reading in self.readings)

    @property
    def so_far(self) -> Reading:
        """The most accurate reader of the answer so far."""
        return max((r for r in self.readings if r.reader in SO_FAR), key=lambda r: r.excess)

    @property
    def is_chance_out_of_reach(self) -> bool:
        """Whether no reader of the answer so far comes near the stated chance.

        The chance may be too high, or need what these readers do not learn: which words are used
        up.
        """
        return self.so_far.bound < -MOST_EXCESS

    @property
    def too_few(self) -> bool:
        """Whether an honest task may fail because the bound is wider than the limit."""
        worst = max((r for r in self.readings if r.local), key=lambda r: r.bound)
        return worst.bound - worst.excess > MOST_EXCESS


Predict = Callable[[Cell, Cell], np.ndarray]
# The last tokens that it sees (all of the context if None), and how it answers.
_Reader: TypeAlias = tuple[int | None, Predict]


def certify(
    task: SampledTask, context: int, *, examples: int = ENOUGH, seed: int = 0,
    windows: Sequence[int] = WINDOWS,
) -> Certificate:  # fmt: skip
    """Train every local reader on `examples` of train, and score it on as many of test.

    Raises:
        UsageError: at this context the source of every answer stands in a local reader's window.
    """
    widest = max(windows)
    train, test = (
        look(draw(task, split, context, examples, seed), len(task.vocabulary), widest)
        for split in ("train", "test")
    )
    if not test.cells:
        raise UsageError(
            f"context {context}: nothing is asked of {task.name} that stands outside the last "
            f"{widest} tokens; give a longer one"
        )
    return judge(train, test, windows)


def judge(train: Seen, test: Seen, windows: Sequence[int] = WINDOWS) -> Certificate:
    """The readings of every reader: the local ones, then the two others."""
    columns, bag, nearest = (
        partial(reader, train.words) for reader in (by_columns, by_bag, by_nearest)
    )
    readers: dict[str, _Reader] = {
        name: (0, predict)
        for name, predict in zip(SO_FAR, (by_prior, by_tree, by_look_up), strict=True)
    }
    for k in windows:
        readers[f"last {k}, columns"] = (k, columns)
        readers[f"last {k}, bag"] = (k, bag)
        readers[f"last {k}, tree"] = (k, by_tree)
    readers[f"last {max(windows)}, nearest example"] = (max(windows), nearest)
    level = 1 - (1 - LEVEL) / len(readers)
    readers["whole context, bag"] = (None, bag)
    readers["whole context, nearest example"] = (None, nearest)
    readings = tuple(_read(name, train, test, reader, level) for name, reader in readers.items())
    return Certificate(readings, test.examples, test.data_hash)


def draw(task: SampledTask, split: Split, context: int, n: int, seed: int) -> Iterator[Sample]:
    """Examples in pieces that fit in memory at any context."""
    # Two at least: one alone does not tell where the answers of the others stand.
    step = max(2, _CHUNK_TOKENS // context)
    for start in range(0, n, step):
        yield task.sample(split, context, min(step, n - start), seed=seed, start=start)


def look(samples: Iterator[Sample], words: int, widest: int) -> Seen:
    """What stands before each first use of a rule: in the window, in the context, in the answer."""
    parts: defaultdict[int, list[Cell]] = defaultdict(list)
    whole_parts: defaultdict[int, list[Cell]] = defaultdict(list)
    digest, first_row = hashlib.sha256(), 0
    cells_of = None
    for sample in samples:
        if cells_of is None:
            one = in_one_piece(sample)
            cells_of = _cells_of_one_answer if one else _cells_of_scattered_answers
        digest.update(np.ascontiguousarray(sample.tokens).tobytes())
        n, context = sample.tokens.shape
        fit = min(n, max(0, max(1, WHOLE_TOKENS // context) - first_row))
        counted: tuple[np.ndarray, sparse.csr_array] | None = None
        for place, cell, end in cells_of(sample, widest):
            parts[place].append(cell._replace(rows=cell.rows + first_row))
            seen = of_rows(cell, cell.rows < fit)
            if len(seen.rows):
                # One end, one count: all places of an answer that stands in one piece share it.
                if counted is None or counted[0] is not end:
                    counted = end, _counts(sample.tokens[:fit], end[:fit], words)
                whole_parts[place].append(
                    seen._replace(
                        rows=seen.rows + first_row,
                        window=seen.window[:, :0],
                        whole=counted[1][seen.rows],
                    )
                )
        first_row += n
    joined, whole = (
        {place: join_cells(some) for place, some in of.items()} for of in (parts, whole_parts)
    )
    return Seen(first_row, words, joined, whole, digest.hexdigest())


def in_one_piece(sample: Sample) -> bool:
    """Whether answers stand together, and not among other words at places that vary by row.

    Given tokens of an answer, and an early end, do not count as gaps. Between labels they do.
    """
    asked = sample.supervised
    if sample.labels is None and (asked == asked[0]).all():
        return True
    after_first = np.logical_or.accumulate(asked, axis=1)
    before_last = np.logical_or.accumulate(asked[:, ::-1], axis=1)[:, ::-1]
    is_answer = sample.roles[:, sample.answer_start :] == Role.ANSWER
    others = ~(is_answer if sample.labels is None else asked)
    return not bool((after_first & before_last & others).any())


def _cells_of_one_answer(sample: Sample, widest: int) -> Iterator[tuple[int, Cell, np.ndarray]]:
    """Each place, what is seen there, and how many tokens stand before it in each example."""
    before = sample.tokens[:, max(0, sample.answer_start - widest) : sample.answer_start]
    end = np.full(len(before), sample.answer_start)
    for place in range(sample.answers.shape[1]):
        rows = np.flatnonzero(sample.first_mention[:, place])
        if len(rows):
            so_far = sample.tokens[rows, sample.answer_start : sample.answer_start + place]
            cell = Cell(
                rows, before[rows], so_far, _nothing(len(rows)),
                sample.answers[rows, place], sample.chance[rows, place],
            )  # fmt: skip
            yield place, cell, end


def _cells_of_scattered_answers(
    sample: Sample, widest: int
) -> Iterator[tuple[int, Cell, np.ndarray]]:
    row, place = np.nonzero(sample.first_mention)
    n = len(sample.tokens)
    count = sample.first_mention.sum(axis=1)
    # The first use of each row, then the second: a row may have fewer than another.
    at = np.full((n, int(count.max(initial=0))), sample.answer_start)
    at[row, np.arange(len(row)) - (np.cumsum(count) - count)[row]] = place + sample.answer_start
    values = np.take_along_axis(sample.answers, at - sample.answer_start, axis=1)
    # Labels are told to nobody.
    told = values if sample.labels is None else values[:, :0]
    padded = np.pad(sample.tokens, ((0, 0), (widest, 0)))
    for turn in range(at.shape[1]):
        end = at[:, turn]
        source = sample.source[np.arange(n), end - sample.answer_start]
        rows = np.flatnonzero((turn < count) & (source < end - widest))
        if len(rows):
            window = np.take_along_axis(padded[rows], end[rows, None] + np.arange(widest), axis=1)
            chance = sample.chance[rows, end[rows] - sample.answer_start]
            so_far, nothing = told[rows, :turn], _nothing(len(rows))
            yield turn, Cell(rows, window, so_far, nothing, values[rows, turn], chance), end


def _nothing(rows: int) -> sparse.csr_array:
    return sparse.csr_array((rows, 0))


def _counts(tokens: np.ndarray, ends: np.ndarray, words: int) -> sparse.csr_array:
    """How often each word stands before an end, `[rows, words]`."""
    parts = []
    # A few rows at a time: with many words a dense table of all would be large.
    for start in range(0, len(tokens), 512):
        some = slice(start, start + 512)
        rows = [
            np.bincount(row[:end], minlength=words)
            for row, end in zip(tokens[some], ends[some], strict=True)
        ]
        parts.append(sparse.csr_array(np.array(rows, dtype=np.float64)))
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def _read(name: str, train: Seen, test: Seen, reader: _Reader, level: float) -> Reading:
    k, predict = reader
    local = k is not None
    learnt, asked = (seen.cells if local else seen.whole_cells for seen in (train, test))
    right, chance, count = (np.zeros(test.examples) for _ in range(3))
    for place, cell in asked.items():
        if place not in learnt:
            continue
        learn, answer = (_narrowed(part, k or 0) for part in (learnt[place], cell))
        right[cell.rows] += _predict(predict, learn, answer) == cell.right
        chance[cell.rows] += cell.chance
        count[cell.rows] += 1
    # Examples that no reader of this kind was asked about are not units of its bound.
    right, chance, count = (column[count > 0] for column in (right, chance, count))
    total = count.sum()
    excess = (right - chance).sum() / total
    spread = np.std(right - chance - excess * count, ddof=1)
    bound = excess + stats.norm.ppf(level) * np.sqrt(len(count)) * spread / total
    return Reading(
        name, local, float(right.sum() / total), float(chance.sum() / total), float(excess),
        float(bound),
    )  # fmt: skip


def _predict(predict: Predict, train: Cell, test: Cell) -> np.ndarray:
    """The answers of a reader, or the commonest answer if that is better on held-out train.

    Without this, an overfitting reader falls below chance, and could hide a leak of that size.
    """
    # By chance, not by number: what is tied to a row's number must be on both sides.
    held_out = np.random.default_rng(0).random(len(train.rows)) < 0.25
    learn, check = (of_rows(train, where) for where in (~held_out, held_out))
    if not len(learn.rows):
        return np.full(len(test.rows), -1)
    asked = join_cells([check, test])
    answers = predict(learn, asked)
    common = commonest(learn.right)
    right = np.count_nonzero(answers[: len(check.rows)] == check.right)
    if right > np.count_nonzero(check.right == common):
        return answers[len(check.rows) :]
    return np.full(len(test.rows), common)


def _narrowed(cell: Cell, k: int) -> Cell:
    return cell._replace(window=cell.window[:, cell.window.shape[1] - k :])

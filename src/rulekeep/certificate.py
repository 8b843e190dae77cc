"""Certificates: readers that remember nothing must stay at chance on first uses of rules.

A local reader sees the last k tokens before the answer and the answer so far (in a task whose
answers stand apart, as in `recall` as published: the last k tokens before each, and the values
so far; answers whose pair stands in that window are left out). It is scikit-learn's, trained
on train and scored on test, in three forms, so that a leak in a place, in a bag of words and
in a conjunction is seen: naive Bayes on columns, naive Bayes on word counts, a decision tree. Each
gives the commonest answer instead where that does better on a quarter of train held out.
Beside them stand k = 0 (the answer so far only) and a look-up of the same answer so far in train.

With d_i the right answers of example i less their chance, and c_i their number, the excess is
Σd / Σc, and its simultaneous one-sided upper bound over m readers (Bonferroni) is

    excess + z(1 - 0.05 / m) · √n · sd(d_i - excess · c_i) / Σc

The examples are the units, since answers of one example are not independent. A task passes at
a context when every bound is at most 0.02.

    >>> certify(Recite(), 256).passed
    True
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse, stats
from sklearn.naive_bayes import CategoricalNB, MultinomialNB
from sklearn.tree import DecisionTreeClassifier

from rulekeep.tasks import Sample, SampledTask, Split

WINDOWS = (1, 4, 16, 32)
LEVEL = 0.95
MOST_EXCESS = 0.02
ENOUGH = 8000
_CHUNK_TOKENS = 2**22


class Cell(NamedTuple):
    """One place of the answer in many examples: what is seen there, and what is right.

    `window` is `[rows, k]`, `so_far` `[rows, any]`; `rows` numbers the examples.
    """

    rows: np.ndarray
    window: np.ndarray
    so_far: np.ndarray
    right: np.ndarray
    chance: np.ndarray


class Seen(NamedTuple):
    """All that local readers may see of a split: cells by place, in the answer or in turn."""

    examples: int
    words: int
    cells: dict[int, Cell]
    data_hash: str


class Reading(NamedTuple):
    """What one reader scored; `bound` is the upper bound of its excess over chance."""

    reader: str
    retention: float
    chance: float
    excess: float
    bound: float


class Certificate(NamedTuple):
    """The readings at one context; `passed` when every bound is small enough."""

    readings: tuple[Reading, ...]
    examples: int
    data_hash: str

    @property
    def passed(self) -> bool:
        """Whether no reader is surely above chance by more than the most allowed."""
        return all(reading.bound <= MOST_EXCESS for reading in self.readings)


Predict = Callable[[Cell, Cell], np.ndarray]


def certify(
    task: SampledTask, context: int, *, examples: int = ENOUGH, seed: int = 0,
    windows: Sequence[int] = WINDOWS,
) -> Certificate:  # fmt: skip
    """Trains every local reader on `examples` of train and scores it on as many of test."""
    widest = max(windows)
    train, test = (
        look(draw(task, split, context, examples, seed), len(task.vocabulary), widest)
        for split in ("train", "test")
    )
    return judge(train, test, windows)


def judge(train: Seen, test: Seen, windows: Sequence[int] = WINDOWS) -> Certificate:
    """The readings of every local reader on what was seen."""
    readers: dict[str, tuple[int, Predict]] = {
        "answer so far, tree": (0, _by_tree),
        "answer so far, look-up": (0, _by_look_up),
    }
    for k in windows:
        readers[f"last {k}, columns"] = (k, _by_columns(train.words))
        readers[f"last {k}, bag"] = (k, _by_bag(train.words))
        readers[f"last {k}, tree"] = (k, _by_tree)
    level = 1 - (1 - LEVEL) / len(readers)
    readings = tuple(
        _read(name, train, test, k, predict, level) for name, (k, predict) in readers.items()
    )
    return Certificate(readings, test.examples, test.data_hash)


def draw(task: SampledTask, split: Split, context: int, n: int, seed: int) -> Iterator[Sample]:
    """Examples in pieces that fit in memory at any context."""
    step = max(1, _CHUNK_TOKENS // context)
    for start in range(0, n, step):
        yield task.sample(split, context, min(step, n - start), seed=seed, start=start)


def look(samples: Iterator[Sample], words: int, widest: int) -> Seen:
    """What stands in the window before each first use of a rule, and in the answer so far."""
    parts: defaultdict[int, list[Cell]] = defaultdict(list)
    digest, first_row = hashlib.sha256(), 0
    for sample in samples:
        digest.update(np.ascontiguousarray(sample.tokens).tobytes())
        for place, cell in _cells(sample, widest):
            parts[place].append(cell._replace(rows=cell.rows + first_row))
        first_row += len(sample.tokens)
    cells = {
        place: Cell(*(np.concatenate(column) for column in zip(*some, strict=True)))
        for place, some in parts.items()
    }
    return Seen(first_row, words, cells, digest.hexdigest())


def _cells(sample: Sample, widest: int) -> Iterator[tuple[int, Cell]]:
    if sample.supervised.all() or (sample.supervised == sample.supervised[0]).all():
        yield from _cells_of_one_answer(sample, widest)
    else:
        yield from _cells_of_scattered_answers(sample, widest)


def _cells_of_one_answer(sample: Sample, widest: int) -> Iterator[tuple[int, Cell]]:
    before = sample.tokens[:, max(0, sample.answer_start - widest) : sample.answer_start]
    for place in range(sample.answers.shape[1]):
        rows = np.flatnonzero(sample.first_mention[:, place])
        if len(rows):
            yield place, Cell(
                rows, before[rows], sample.answers[rows, :place],
                sample.answers[rows, place], sample.chance[rows, place],
            )  # fmt: skip


def _cells_of_scattered_answers(sample: Sample, widest: int) -> Iterator[tuple[int, Cell]]:
    row, place = np.nonzero(sample.first_mention)
    n = len(sample.tokens)
    at = (place + sample.answer_start).reshape(n, -1)
    values = np.take_along_axis(sample.tokens, at, axis=1)
    assert np.array_equal(row.reshape(at.shape)[:, 0], np.arange(n)), "as many answers in each"
    padded = np.pad(sample.tokens, ((0, 0), (widest, 0)))
    for turn in range(at.shape[1]):
        end = at[:, turn]
        source = sample.source[np.arange(n), end - sample.answer_start]
        rows = np.flatnonzero(source < end - widest)
        if len(rows):
            window = np.take_along_axis(padded[rows], end[rows, None] + np.arange(widest), axis=1)
            chance = sample.chance[rows, end[rows] - sample.answer_start]
            yield turn, Cell(rows, window, values[rows, :turn], values[rows, turn], chance)


def _read(name: str, train: Seen, test: Seen, k: int, predict: Predict, level: float) -> Reading:
    right, chance, count = (np.zeros(test.examples) for _ in range(3))
    for place, cell in test.cells.items():
        if place not in train.cells:
            continue
        learn, answer = (_narrowed(part, k) for part in (train.cells[place], cell))
        right[cell.rows] += _predict(predict, learn, answer) == cell.right
        chance[cell.rows] += cell.chance
        count[cell.rows] += 1
    total = count.sum()
    excess = (right - chance).sum() / total
    spread = np.std(right - chance - excess * count, ddof=1)
    bound = excess + stats.norm.ppf(level) * np.sqrt(test.examples) * spread / total
    return Reading(
        name, float(right.sum() / total), float(chance.sum() / total), float(excess), float(bound)
    )


def _predict(predict: Predict, train: Cell, test: Cell) -> np.ndarray:
    """What a reader answers, or the commonest answer if that does better on held-out train.

    Without it a reader that overfits falls below chance, and a leak of that size would hide.
    """
    # By chance, not by number: what is tied to a row's number must be on both sides.
    held_out = np.random.default_rng(0).random(len(train.rows)) < 0.25
    learn, check = (_of_rows(train, where) for where in (~held_out, held_out))
    if not len(learn.rows):
        return np.full(len(test.rows), -1)
    asked = Cell(*(np.concatenate(pair) for pair in zip(check, test, strict=True)))
    answers = predict(learn, asked)
    common = _commonest(learn.right)
    right = np.count_nonzero(answers[: len(check.rows)] == check.right)
    if right > np.count_nonzero(check.right == common):
        return answers[len(check.rows) :]
    return np.full(len(test.rows), common)


def _of_rows(cell: Cell, where: np.ndarray) -> Cell:
    return Cell(*(column[where] for column in cell))


def _commonest(answers: np.ndarray) -> int:
    return int(Counter(answers.tolist()).most_common(1)[0][0])


def _narrowed(cell: Cell, k: int) -> Cell:
    return cell._replace(window=cell.window[:, cell.window.shape[1] - k :])


def _columns(cell: Cell) -> np.ndarray:
    return np.concatenate([cell.window, cell.so_far], axis=1)


def _by_columns(words: int) -> Predict:
    def predict(train: Cell, test: Cell) -> np.ndarray:
        model = CategoricalNB(min_categories=words).fit(_columns(train), train.right)
        predicted: np.ndarray = model.predict(_columns(test))
        return predicted

    return predict


def _by_bag(words: int) -> Predict:
    def bag(cell: Cell) -> sparse.csr_array:
        # Words of the window and of the answer so far are counted apart.
        told = np.concatenate([cell.window, cell.so_far + words], axis=1)
        row = np.repeat(np.arange(len(told)), told.shape[1])
        ones = np.ones(told.size)
        return sparse.csr_array((ones, (row, told.ravel())), shape=(len(told), 2 * words))

    def predict(train: Cell, test: Cell) -> np.ndarray:
        predicted: np.ndarray = MultinomialNB().fit(bag(train), train.right).predict(bag(test))
        return predicted

    return predict


def _by_tree(train: Cell, test: Cell) -> np.ndarray:
    learn, answer = _columns(train), _columns(test)
    if not learn.shape[1]:
        return np.full(len(answer), _commonest(train.right))
    tree = DecisionTreeClassifier(min_samples_leaf=25, max_depth=16, random_state=0)
    predicted: np.ndarray = tree.fit(learn, train.right).predict(answer)
    return predicted


def _by_look_up(train: Cell, test: Cell) -> np.ndarray:
    """The most frequent answer in train after the same answer so far; else of all."""
    found: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
    for so_far, right in zip(np.ascontiguousarray(train.so_far), train.right, strict=True):
        found[so_far.tobytes()][int(right)] += 1
    best = {key: counts.most_common(1)[0][0] for key, counts in found.items()}
    prior = _commonest(train.right)
    return np.array([best.get(row.tobytes(), prior) for row in np.ascontiguousarray(test.so_far)])

"""The readers of a certificate: what each answers on test by what it has seen of train.

They are scikit-learn's, or as plain: naive Bayes on columns and on word counts, a tree, the nearest
training example, a look-up of the same answer so far, the commonest answer.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.naive_bayes import CategoricalNB, MultinomialNB
from sklearn.neighbors import NearestNeighbors
from sklearn.tree import DecisionTreeClassifier

_DENSE_COLUMNS = 1024


class Cell(NamedTuple):
    """One place of the answer in many examples: what is seen there, and the right answers.

    `window` is `[rows, k]`, `so_far` `[rows, any]`; `rows` numbers the examples. `whole` counts the
    words of everything before, `[rows, words]`; for a local reader it has no columns.
    """

    rows: np.ndarray
    window: np.ndarray
    so_far: np.ndarray
    whole: sparse.csr_array
    right: np.ndarray
    chance: np.ndarray


def of_rows(cell: Cell, where: np.ndarray) -> Cell:
    columns: Any = (column[where] for column in cell)
    return Cell(*columns)


def join_cells(cells: Sequence[Cell]) -> Cell:
    columns: Any = (
        sparse.vstack(column, format="csr")
        if sparse.issparse(column[0])
        else np.concatenate(column)
        for column in zip(*cells, strict=True)
    )
    return Cell(*columns)


def commonest(answers: np.ndarray) -> int:
    return int(Counter(answers.tolist()).most_common(1)[0][0])


def _columns(cell: Cell) -> np.ndarray:
    return np.concatenate([cell.window, cell.so_far], axis=1)


def by_columns(words: int, train: Cell, test: Cell) -> np.ndarray:
    model = CategoricalNB(min_categories=words).fit(_columns(train), train.right)
    predicted: np.ndarray = model.predict(_columns(test))
    return predicted


def _bag(cell: Cell, words: int) -> sparse.csr_array:
    """Word counts of the window, of the answer so far, and of the whole context, separately."""
    told = np.concatenate([cell.window, cell.so_far + words], axis=1)
    row = np.repeat(np.arange(len(told)), told.shape[1])
    ones = np.ones(told.size)
    local = sparse.csr_array((ones, (row, told.ravel())), shape=(len(told), 2 * words))
    return sparse.csr_array(sparse.hstack([local, cell.whole], format="csr"))


def by_bag(words: int, train: Cell, test: Cell) -> np.ndarray:
    model = MultinomialNB().fit(_bag(train, words), train.right)
    predicted: np.ndarray = model.predict(_bag(test, words))
    return predicted


def by_nearest(words: int, train: Cell, test: Cell) -> np.ndarray:
    """The answer of the training example with the nearest bag, in Euclidean distance."""
    learn: Any = _bag(train, words)
    asked: Any = _bag(test, words)
    # Words that train lacks are as far from every example. Dense is several times faster.
    used = np.flatnonzero(learn.sum(axis=0))
    learn, asked = (part[:, used].astype(np.float32) for part in (learn, asked))
    if len(used) <= _DENSE_COLUMNS:
        learn, asked = learn.toarray(), asked.toarray()
    model = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(learn)
    nearest = model.kneighbors(asked, return_distance=False)[:, 0]
    found: np.ndarray = train.right[nearest]
    return found


def by_prior(train: Cell, test: Cell) -> np.ndarray:
    return np.full(len(test.rows), commonest(train.right))


def by_tree(train: Cell, test: Cell) -> np.ndarray:
    learn, answer = _columns(train), _columns(test)
    if not learn.shape[1]:
        return np.full(len(answer), commonest(train.right))
    tree = DecisionTreeClassifier(min_samples_leaf=25, max_depth=16, random_state=0)
    predicted: np.ndarray = tree.fit(learn, train.right).predict(answer)
    return predicted


def by_look_up(train: Cell, test: Cell) -> np.ndarray:
    """The most frequent training answer after the same answer so far; otherwise of all."""
    found: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
    for so_far, right in zip(np.ascontiguousarray(train.so_far), train.right, strict=True):
        found[so_far.tobytes()][int(right)] += 1
    best = {key: counts.most_common(1)[0][0] for key, counts in found.items()}
    prior = commonest(train.right)
    return np.array([best.get(row.tobytes(), prior) for row in np.ascontiguousarray(test.so_far)])

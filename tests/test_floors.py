"""Certificates by hand: what readers without memory see of made-up examples, and what they score.

tests/test_certificate.py plants leaks in tasks, which takes minutes.
"""

import hashlib
from statistics import NormalDist, stdev
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from rulekeep.checks.certificate import (
    SO_FAR,
    Cell,
    Certificate,
    Reading,
    Seen,
    certify,
    in_one_piece,
    judge,
    look,
)
from rulekeep.tasks import Recite, Role, Sample

WORDS = 8


def sample(tokens: list[list[int]], start: int, **changes: Any) -> Sample:
    """Examples whose answers, from `start` on, are first uses of rules, of chance 0.25."""
    table = np.array(tokens)
    answers = np.ones((len(table), table.shape[1] - start), dtype=bool)
    roles = np.full(table.shape, Role.PLAIN)
    roles[:, start:] = Role.ANSWER
    made = Sample(
        tokens=table, answer_start=start, supervised=answers, rule=answers,
        first_mention=answers.copy(), item=~answers, prohibition=~answers,
        chance=np.full(answers.shape, 0.25), source=np.zeros(answers.shape, dtype=int),
        step=np.zeros(answers.shape, dtype=int), roles=roles,
    )  # fmt: skip
    return made._replace(**changes)


THREE = [[1, 2, 3, 4, 5, 6], [2, 3, 3, 3, 6, 5], [7, 7, 1, 0, 5, 5]]


def shown(cell: Cell) -> list[list[Any]]:
    """A cell as lists: rows, window, answer so far, what is right."""
    return [part.tolist() for part in (cell.rows, cell.window, cell.so_far, cell.right)]


def test_a_reader_of_an_answer_sees_the_last_tokens_before_it_and_the_answer_so_far() -> None:
    made = sample(THREE, 4)
    # The second answer of the second example is no first use.
    made.first_mention[1, 1] = False
    made.chance[2, 1] = 0.5
    seen = look(iter([made]), WORDS, widest=3)
    assert shown(seen.cells[0]) == [
        [0, 1, 2], [[2, 3, 4], [3, 3, 3], [7, 1, 0]], [[], [], []], [5, 6, 5]
    ]  # fmt: skip
    assert shown(seen.cells[1]) == [[0, 2], [[2, 3, 4], [7, 1, 0]], [[5], [5]], [6, 5]]
    assert seen.cells[1].chance.tolist() == [0.25, 0.5]
    # Who sees the whole context counts its words up to the answer, and has no window.
    whole = seen.whole_cells[1]
    assert shown(whole) == [[0, 2], [[], []], [[5], [5]], [6, 5]]
    assert whole.whole.toarray().tolist() == [
        [0, 1, 1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 2]
    ]  # fmt: skip
    assert (seen.examples, seen.words) == (3, WORDS)
    assert seen.data_hash == hashlib.sha256(made.tokens.tobytes()).hexdigest()
    # In pieces the rows are counted on.
    pieces = look(iter([sample(THREE[:1], 4), sample(THREE[1:], 4)]), WORDS, widest=3)
    assert shown(pieces.cells[0]) == shown(seen.cells[0])
    assert pieces.data_hash == seen.data_hash


def test_a_reader_of_answers_apart_sees_what_stands_before_each_and_no_source_in_sight() -> None:
    # Answers at places 4 and 6 of the first, 5 and 7 of the second; the words between are given.
    tokens = [[1, 2, 3, 4, 5, 6, 7, 0], [2, 3, 4, 5, 6, 7, 1, 3]]
    asked = np.array([[1, 0, 1, 0], [0, 1, 0, 1]], dtype=bool)
    roles = np.full((2, 8), Role.PLAIN)
    source = np.array([[0, -1, 1, -1], [-1, 3, -1, 1]])
    made = sample(
        tokens, 4, supervised=asked, first_mention=asked.copy(), roles=roles, source=source
    )
    assert not in_one_piece(made)
    assert in_one_piece(sample(tokens, 4))
    seen = look(iter([made]), WORDS, widest=2)
    # The first of the second example has its rule at 3, within two tokens: it is left out.
    assert shown(seen.cells[0]) == [[0], [[3, 4]], [[]], [5]]
    assert shown(seen.cells[1]) == [[0, 1], [[5, 6], [7, 1]], [[5], [7]], [7, 3]]
    assert seen.whole_cells[1].whole.toarray().tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1, 1, 1]
    ]  # fmt: skip


def examples(*pairs: tuple[int, int | None]) -> Seen:
    """Examples of two answers or one, of chance 0.5, after one token that tells nothing."""
    cells = {}
    for place in (0, 1):
        rows = np.array([row for row, pair in enumerate(pairs) if pair[place] is not None])
        n = len(rows)
        answers = np.array([pairs[row][: place + 1] for row in rows])
        cells[place] = Cell(
            rows, np.full((n, 1), 3), answers[:, :place], sparse.csr_array((n, 0)),
            answers[:, place], np.full(n, 0.5),
        )  # fmt: skip
    whole = {
        place: cell._replace(
            window=cell.window[:, :0], whole=sparse.csr_array(np.ones((len(cell.rows), WORDS)))
        )
        for place, cell in cells.items()
    }
    return Seen(len(pairs), WORDS, cells, whole, "hash")


def test_readers_score_what_they_can_know_with_the_stated_bound() -> None:
    # The first answer is 1 in three of five examples; the second is always the other one.
    train = examples(*[(1, 2), (2, 1), (1, 2), (2, 1), (1, 2)] * 60)
    test = examples(*[(1, 2), (2, 1)] * 5, (1, None), (1, None))
    certificate = judge(train, test, windows=(1,))
    assert (certificate.examples, certificate.data_hash) == (12, "hash")
    by_name = {reading.reader: reading for reading in certificate.readings}
    local = [reading for reading in certificate.readings if reading.local]
    assert len(local) == 3 + 3 + 1
    z = NormalDist().inv_cdf(1 - 0.05 / 7)

    def check(name: str, excess: float, *more_than_chance: float) -> None:
        """Of an example of either kind, and of those of one answer: right less chance."""
        reading = by_name[name]
        assert (reading.chance, reading.retention) == (0.5, pytest.approx(0.5 + excess)), name
        assert reading.excess == pytest.approx(excess), name
        left = [more_than_chance[0] - 2 * excess, more_than_chance[1] - 2 * excess] * 5
        left += [more_than_chance[2] - excess] * 2
        wanted = excess + z * 12**0.5 * stdev(left) / 22
        assert reading.bound == pytest.approx(wanted), name

    # The prior says 1, then 2: 12 of 22 are right.
    check("prior of the answer", 1 / 22, 1.0, -1.0, 0.5)
    # Who sees the answer so far knows the second: 17 of 22.
    for name in (*SO_FAR[1:], "last 1, columns", "last 1, tree", "last 1, nearest example"):
        check(name, 6 / 22, 1.0, 0.0, 0.5)
    assert not certificate.passed
    assert by_name["whole context, nearest example"].passed is None
    assert by_name["whole context, bag"].retention == by_name["last 1, bag"].retention


def reading(excess: float, bound: float, name: str = "last 4, bag", local: bool = True) -> Reading:
    return Reading(name, local, 0.5 + excess, 0.5, excess, bound)


@pytest.mark.parametrize(
    ("readings", "passed", "too_few"),
    [
        ([reading(0.0, 0.02)], True, False), ([reading(0.0, 0.0201)], False, True),
        ([reading(0.01, 0.03)], False, False), ([reading(0.5, 0.51)], False, False),
        ([reading(-0.1, -0.01), reading(0.0, 0.02)], True, False),
        # A reader of the whole context need not pass.
        ([reading(0.0, 0.01), reading(0.4, 0.5, local=False)], True, False),
    ],
)  # fmt: skip
def test_a_task_passes_where_no_local_bound_is_above_two_hundredths(
    readings: list[Reading], passed: bool, too_few: bool
) -> None:
    certificate = Certificate(tuple(readings), 8000, "")
    assert (certificate.passed, certificate.too_few) == (passed, too_few)


def test_a_chance_is_out_of_reach_where_no_reader_of_the_answer_so_far_comes_near() -> None:
    def of(*so_far: tuple[float, float]) -> Certificate:
        readings = [reading(*pair, name) for pair, name in zip(so_far, SO_FAR, strict=True)]
        return Certificate((*readings, reading(0.0, 0.01)), 8000, "")

    near = of((-0.1, -0.09), (-0.025, -0.019), (-0.03, -0.028))
    assert (near.so_far.reader, near.is_chance_out_of_reach) == (SO_FAR[1], False)
    far = of((-0.1, -0.09), (-0.04, -0.03), (-0.05, -0.04))
    assert (far.so_far.reader, far.is_chance_out_of_reach) == (SO_FAR[1], True)


def test_readers_learn_on_the_train_split_and_are_scored_on_the_test_split() -> None:
    class Tied(Recite):
        """In the split `train` the first answer is always one word, and elsewhere another."""

        def sample(self, split: Any, *given: Any, **more: Any) -> Sample:
            made = super().sample(split, *given, **more)
            made.tokens[:, made.answer_start] = 5 if split == "train" else 6
            return made

    made = certify(Tied(), 49, examples=200, windows=(1,))
    (prior, *_) = made.readings
    test = Tied().sample("test", 49, 200, seed=0)
    assert made.data_hash == hashlib.sha256(test.tokens.tobytes()).hexdigest()
    assert prior.chance == pytest.approx(float(test.chance[test.first_mention].mean()))
    # No reader knows the first of four answers; it would be right had it learnt on test.
    assert all(reading.retention < 0.25 for reading in made.readings)
    assert made.examples == 200

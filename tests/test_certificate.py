"""The certifier itself: honest tasks pass, and every planted leak is caught."""

from collections.abc import Callable

import numpy as np
import pytest
from reading import make
from scipy import sparse

from rulekeep.checks import certificate as certificates
from rulekeep.checks.certificate import (
    MOST_EXCESS,
    WINDOWS,
    Cell,
    Certificate,
    certify,
    draw,
    judge,
    look,
)
from rulekeep.tasks import Apply, Override, Recall, Recite, Sample, SampledTask, Split

pytestmark = pytest.mark.slow

Change = Callable[[Sample, Split], Sample]


# Of the windows the ones that tests speak of.
FEW = (4, 32)


def planted(change: Change, task: SampledTask, context: int = 96) -> Certificate:
    train, test = (
        look(
            (change(sample, split) for sample in draw(task, split, context, 4000, 0)),
            len(task.vocabulary),
            max(WINDOWS),
        )
        for split in ("train", "test")
    )
    return judge(train, test, windows=FEW)


def worst(certificate: Certificate) -> str:
    local = [reading for reading in certificate.readings if reading.local]
    return max(local, key=lambda reading: reading.excess).reader


# Of the other tasks test_testing.py asks it.
@pytest.mark.parametrize("task", [Apply, Override])
def test_the_tasks_pass(task: type[SampledTask]) -> None:
    # With early rules, with every window and at longer contexts stand the certificates in results.
    certificate = certify(make(task, placement="marked"), 96, windows=FEW)
    assert certificate.passed, certificate
    # Every reader has been there: prior knowledge alone gets within reach of chance.
    assert max(reading.excess for reading in certificate.readings) > -0.01
    # None falls below it by overfitting, as low as -0.2. In apply the answer so far tells of the
    # rest, and who does not see it stands below.
    lowest = min(reading.excess for reading in certificate.readings if reading.local)
    assert lowest > (-0.08 if task is Apply else -0.01)


def test_a_decoy_tied_to_a_rule_is_caught() -> None:
    task = Recite()
    first = task.vocabulary.index("rule-0")

    def change(sample: Sample, split: Split) -> Sample:
        tied = first + (sample.answers[:, 1] - first + 5) % 32
        # Nowhere in particular, and only half of the time.
        rows = np.arange(0, len(tied), 2)
        place = sample.answer_start - 3 - rows % 25
        sample.tokens[rows, place] = tied[rows]
        return sample

    certificate = planted(change, task)
    assert not certificate.passed
    assert worst(certificate) == "last 32, bag"


def test_a_decoy_tied_to_two_things_at_once_is_caught() -> None:
    task = make(Recite, rules=2, rule_words=12, items=16)
    first, filler = task.vocabulary.index("rule-0"), task.vocabulary.index("filler-0")

    def change(sample: Sample, split: Split) -> Sample:
        key = np.arange(len(sample.tokens)) % 3
        sample.tokens[:, sample.answer_start - 2] = filler + key
        tied = first + (sample.answers[:, 0] - first + 4 * key) % 12
        sample.tokens[:, sample.answer_start - 3] = tied
        return sample

    certificate = planted(change, task)
    assert not certificate.passed
    # The tied word alone leaves 3 of 12: which one it is takes both, as a tree alone takes them.
    excess = {reading.reader: reading.excess for reading in certificate.readings}
    assert excess["last 4, tree"] > 0.4 > 0.3 > excess["last 4, columns"]
    assert excess["last 4, bag"] < 0.3


def test_a_length_tied_to_a_rule_is_caught() -> None:
    task = Apply()
    filler, rule = task.vocabulary.index("filler-0"), task.vocabulary.index("rule-0")

    def change(sample: Sample, split: Split) -> Sample:
        # The run of fillers before the request is as long as the first use says.
        end = sample.answer_start - 6
        sample.tokens[:, end - 20 : end] = filler
        first_use = sample.answers[np.arange(len(sample.tokens)), 1]
        run = (first_use - task.vocabulary.index("shows-0")) // 4
        sample.tokens[np.arange(len(run)), end - 1 - run] = rule
        return sample

    assert not planted(change, task).passed


def test_an_order_tied_to_the_rules_is_caught() -> None:
    def change(sample: Sample, split: Split) -> Sample:
        sample.answers[:, :4].sort(axis=1)
        return sample

    certificate = planted(change, Recite())
    assert not certificate.passed
    assert "answer so far, tree" in {
        reading.reader for reading in certificate.readings if reading.bound > 0.02
    }


def test_a_combination_shared_by_train_and_test_is_caught() -> None:
    def change(sample: Sample, split: Split) -> Sample:
        # A quarter of the examples of both splits come from the same 100 combinations.
        n = len(sample.tokens) // 4
        shared = Recite().sample("validation", 96, 100, seed=9).answers
        sample.answers[:n] = shared[np.arange(n) % 100]
        return sample

    certificate = planted(change, Recite())
    assert not certificate.passed
    bounds = {reading.reader: reading.bound for reading in certificate.readings}
    assert bounds["answer so far, look-up"] > MOST_EXCESS


def test_a_word_tied_to_a_value_is_caught_where_answers_are_scattered() -> None:
    task = make(Recall, layout="zoology")
    key = task.vocabulary.index("key-0")

    def change(sample: Sample, split: Split) -> Sample:
        row, place = np.nonzero(sample.first_mention)
        at = place + sample.answer_start
        free = (sample.roles[row, at - 2] == 4) | (sample.roles[row, at - 2] == 5)
        row, at = row[free], at[free]
        sample.tokens[row, at - 2] = key + (sample.tokens[row, at] + 3) % 32
        return sample

    assert not planted(change, task, 256).passed


def test_a_certificate_is_the_same_again_and_names_its_data() -> None:
    one, two, other = (certify(Recite(), 64, examples=500, seed=seed) for seed in (0, 0, 1))
    assert one == two
    assert one.data_hash != other.data_hash
    assert sum(reading.local for reading in one.readings) == 4 + 3 * len(WINDOWS)


def test_a_reader_that_is_always_wrong_scores_the_commonest_answer() -> None:
    """Were it below chance, a leak of that size would hide behind it."""

    def cell(right: list[int]) -> Cell:
        none = np.zeros((len(right), 0), dtype=int)
        whole = sparse.csr_array((len(right), 0))
        return Cell(
            np.arange(len(right)), none, none, whole, np.array(right), np.full(len(right), 0.5)
        )

    def wrong(train: Cell, test: Cell) -> np.ndarray:
        return test.right + 1

    def told(train: Cell, test: Cell) -> np.ndarray:
        return test.right

    train, test = cell([3] * 60 + [4] * 40), cell([3, 4, 4])
    assert certificates._predict(wrong, train, test).tolist() == [3, 3, 3]
    assert certificates._predict(told, train, test).tolist() == [3, 4, 4]

"""What the deal of combinations to splits gives away to a reader who remembers nothing.

Where the item comes before the rules, as in `apply` and `override`, a split that holds a part of
the combinations ties the two. Exactly, by enumerating every combination: what readers score on
test who know the answer so far and train, or test, perfectly. docs/tasks.md states the figures.
"""

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rulekeep.checks.certificate import MOST_EXCESS
from rulekeep.tasks import Split, drawing

WORDS, KINDS = 32, 2
DOCUMENT = (Path(__file__).parent.parent / "docs" / "tasks.md").read_text()


def weights(
    task: str, rules: int, split: Split, rank: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """For each choice of attributes: these, and the weight of every tuple of their values.

    A tuple's weight counts the orders of its rules that the split holds with an item of this rank.
    """
    attributes = rules if task == "apply" else rules + math.ceil(rules / 2)
    sizes = [len(range(a, WORDS, attributes)) for a in range(attributes)]
    for chosen in itertools.combinations(range(attributes), rules):
        shape = [sizes[a] for a in chosen]
        values = np.array(list(np.ndindex(*shape)))
        weight = np.zeros(len(values))
        for order in itertools.permutations(range(rules)):
            words = np.array(chosen)[list(order)] + attributes * values[:, list(order)]
            dealt = (drawing._hash(words) + np.uint64(rank)) % np.uint64(4)
            weight += np.isin(dealt, drawing._RESIDUES[split])
        if task == "override":
            # A prohibition, value 0, half of the time.
            for place, size in enumerate(shape):
                weight *= np.where(values[:, place] == 0, 0.5, 0.5 / (size - 1))
        yield list(chosen), weight.reshape(shape)


def excess(task: str, rules: int) -> dict[str, float]:
    """How far above chance each reader's retention is on test.

    `likeliest` says what train has most often, `contrary` what train lacks most, `dealer` what
    test has most often.
    """
    right = dict.fromkeys(("likeliest", "contrary", "dealer"), 0.0)
    chance = total = 0.0
    for rank in range(4):
        splits = (weights(task, rules, split, rank) for split in ("train", "validation", "test"))
        for (chosen, train), (_, dev), (_, test) in zip(*splits, strict=True):
            for kind in range(KINDS):
                # The attributes of the first item's kind are shown first.
                turn = sorted(range(rules), key=lambda i: (chosen[i] % KINDS != kind, i))
                for told in range(rules):
                    later = tuple(range(told + 1, rules))
                    seen, lacking, asked, every = (
                        weight.transpose(turn).sum(axis=later)
                        for weight in (train, dev + test, test, train + dev + test)
                    )
                    right["likeliest"] += hits(seen, asked)
                    right["contrary"] += hits(lacking, asked)
                    right["dealer"] += hits(asked, asked)
                    # Over all splits nothing is tied: the best guess is the same whatever is told.
                    prior = every.reshape(-1, every.shape[-1]).sum(axis=0)
                    chance += prior.max() / prior.sum() * asked.sum()
                    total += asked.sum()
    return {reader: (score - chance) / total for reader, score in right.items()}


def hits(seen: np.ndarray, asked: np.ndarray) -> float:
    """The weight on what is seen most often; ties are shared."""
    best = np.isclose(seen, seen.max(axis=-1, keepdims=True), rtol=0, atol=1e-12)
    return float((asked * best / best.sum(axis=-1, keepdims=True)).sum())


@pytest.mark.parametrize(
    ("task", "rules"), list(itertools.product(("apply", "override"), (1, 2, 3, 4)))
)
def test_the_deal_of_combinations_gives_away_what_the_document_says(task: str, rules: int) -> None:
    table = DOCUMENT.split("| rules | reader |")[1].split("\n\n")[0]
    stated = {
        (cells[0], cells[1]): dict(zip(("apply", "override"), map(float, cells[2:]), strict=True))
        for cells in (re.findall(r"[-+\w.]+", line) for line in table.splitlines()[2:])
    }
    for reader, found in excess(task, rules).items():
        assert stated[str(rules), reader][task] == pytest.approx(found, abs=0.00051), reader


def test_with_four_rules_no_reader_of_train_gains_what_a_certificate_allows() -> None:
    for task in ("apply", "override"):
        found = excess(task, 4)
        assert found["likeliest"] < 0.0001
        assert found["contrary"] < MOST_EXCESS

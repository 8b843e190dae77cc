"""One cell: what its record says, what chance is, and what its code is made of."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from rulekeep.article import cell as cells
from rulekeep.article.scores import article_scores
from rulekeep.records.store import RunFolder
from rulekeep.running.building import resolve_cell
from rulekeep.specs import ArticleCell
from rulekeep.tasks.article import Article
from rulekeep.tasks.sampled import Sample

CELL = ArticleCell(context=16, model="compressed", steps=3)


def made(tmp_path: Path) -> dict:
    return cells.run(
        resolve_cell(CELL), RunFolder(tmp_path / "run"), lambda _: None, lambda *_: None
    )


@pytest.mark.parametrize("context", [16, 64])
@pytest.mark.parametrize("split", ["train", "test"])
def test_chance_is_the_best_guess_without_the_context(split: str, context: int) -> None:
    examples = Article().examples(split, context)
    n, length = examples.answers.shape
    chance = np.empty((n, length))
    for place in range(length):
        seen: defaultdict[tuple, Counter[int]] = defaultdict(Counter)
        keys = []
        for row in range(n):
            kinds = (mask[row, place] for mask in (examples.rule, examples.item))
            first = examples.first_mention[row, place]
            keys.append((*kinds, first, *examples.answers[row, :place]))
            seen[keys[-1]][examples.answers[row, place]] += 1
        best = {key: max(found.values()) / found.total() for key, found in seen.items()}
        chance[:, place] = [best[key] for key in keys]
    second = examples.rule & ~examples.first_mention
    assert pytest.approx(article_scores(examples.answers, examples)["chance"]) == {
        "token_accuracy": chance.mean(),
        "rule_accuracy": chance[examples.rule].mean(),
        "item_accuracy": chance[examples.item].mean(),
        "retention": chance[examples.first_mention].mean(),
        "second_mention_accuracy": chance[second].mean(),
        "exact": chance.prod(axis=1).mean(),
    }


@pytest.fixture
def one() -> Sample:
    """`A B I A B I <eos>` with A = 3, B = 4, I = 12."""
    return Article().examples("test", 16, rows=[0])


def test_a_model_that_only_copies_has_no_retention(one: Sample) -> None:
    found = article_scores(np.array([[0, 0, 0, 3, 4, 12, 2]]), one)
    assert found["rule_accuracy"] == 0.5
    assert found["retention"] == 0.0
    assert found["second_mention_accuracy"] == 1.0
    assert found["item_accuracy"] == 0.5
    assert found["token_accuracy"] == pytest.approx(4 / 7)
    assert found["exact"] == 0.0


def test_scores_are_pooled_over_examples(one: Sample) -> None:
    two = Article().examples("test", 16, rows=[0, 1])  # I A B I A B <eos>
    predictions = two.answers.copy()
    predictions[0, 0] = 0
    predictions[1, 0] = 0
    found = article_scores(predictions, two)
    assert found["rule_accuracy"] == pytest.approx(7 / 8)
    assert found["retention"] == pytest.approx(3 / 4)
    assert found["item_accuracy"] == pytest.approx(3 / 4)
    assert found["exact"] == 0.0
    predictions[1] = two.answers[1]
    assert article_scores(predictions, two)["exact"] == 0.5


def test_a_record_is_whole_and_the_last_look_is_the_test(tmp_path: Path) -> None:
    record = made(tmp_path)
    (found,), last = record["evaluations"], record["history"][-1]
    assert last["step"] == 3
    for name in ("val_loss", "retention", "exact", "rule_accuracy"):
        assert found[name] == last[name]
    assert record["spec"] == CELL.as_recorded
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("after", [0, 2])
def test_a_cell_that_diverges_keeps_what_it_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    spoilt = cells.answer_loss
    calls = 0

    def loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        # An evaluation has the same loss, without a gradient. The first call is the warm-up.
        calls += torch.is_grad_enabled()
        return spoilt(logits, tokens) * (float("inf") if calls > 1 + after else 1)

    monkeypatch.setattr(cells, "answer_loss", loss)
    record = made(tmp_path)
    assert record["status"] == "diverged"
    assert record["reason"].startswith(f"loss not finite at step {after + 1}; ")
    assert record["evaluations"] == []
    assert [row["step"] for row in record["history"]] == ([1] if after else [])
    assert record["costs"]["steps"] == after

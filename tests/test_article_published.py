from typing import Any

import pytest

from rulekeep.article.published import comparison, published_figures
from rulekeep.records import Record
from rulekeep.specs import ArticleCell

PUBLISHED = {
    (64, "attention"): (0.244, 0.938, 0.906),
    (64, "compressed"): (0.937, 0.699, 0.492),
    (256, "attention"): (0.709, 0.757, 0.581),
    (256, "compressed"): (1.095, 0.633, 0.358),
    (1028, "attention"): (0.990, 0.701, 0.492),
    (1028, "compressed"): (1.163, 0.577, 0.263),
}
CELL = ArticleCell(context=64, model="attention")


def row(val_loss: float, token: float, rule: float) -> Record:
    """A record's figures, each another: what is read for another is seen."""
    found = {"val_loss": val_loss, "token_accuracy": token, "rule_accuracy": rule}
    test = {"split": "test", "context": 64, **found, "retention": 0.125, "exact": 0.0625}
    return made({"status": "done", "reason": None, "evaluations": [test]})


def made(values: dict[str, Any]) -> Record:
    spec = {"context": 64, "seed": 7, "model": "attention", "task": "article", "mixer": ""}
    head = {"id": "0" * 16, "kind": "article", "asked": spec, "versions": {"protocol": 1}}
    return Record.read({**head, "spec": spec, **values})


@pytest.mark.parametrize(("context", "model"), list(PUBLISHED))
def test_published_figures_are_the_articles(context: int, model: str) -> None:
    figures = published_figures(ArticleCell(context=context, model=model))
    assert figures is not None
    assert figures[:3] == PUBLISHED[context, model]


@pytest.mark.parametrize(
    ("figures", "fails"),
    [
        ((0.244, 0.938, 0.906), False),
        ((0.263, 0.947, 0.897), False),
        ((0.265, 0.938, 0.906), True),
        ((0.244, 0.949, 0.906), True),
        ((0.244, 0.938, 0.895), True),
        ((float("nan"), 0.938, 0.906), True),
    ],
)
def test_a_cell_fails_outside_its_tolerance_only(figures: tuple, fails: bool) -> None:
    table, verdict, failures = comparison({CELL: row(*figures)})
    assert bool(failures) == fails == verdict.startswith("NO, 1 of 1")
    loss, token, rule = (f"{value:.3f}" for value in figures)
    shown = f"{loss} (0.244) | {token} (0.938) | {rule} (0.906) |     0.125 | 0.062 |"
    assert shown in table
    assert ("out of tolerance" in table) == fails
    assert all(failure.startswith(CELL.label) for failure in failures)


@pytest.mark.parametrize(
    "change", [{"context": 128}, {"seed": 1}, {"steps": 79}, {"decoys": "independent"}]
)
def test_a_cell_without_a_published_figure_has_no_verdict(change: dict) -> None:
    cell = CELL.model_copy(update=change)
    table, _, failures = comparison({cell: row(9.0, 0.0, 0.0)})
    assert failures == []
    assert table.splitlines()[-1].rstrip(" |").endswith("–")


def test_a_cell_that_diverged_is_a_row_and_a_failure() -> None:
    diverged = made({"status": "diverged", "reason": "loss not finite", "evaluations": []})
    table, verdict, failures = comparison({CELL: diverged})
    assert "| diverged |" in table
    assert failures == ["ctx64-attention-seed7-steps80: diverged: loss not finite"]
    assert verdict == "NO, 1 of 1 cells are out of tolerance"

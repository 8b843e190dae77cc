"""What the article published (wop, "An experiment with attention", May 2026; MIT licence).

The figures after step 80 at seed 7. A cell of ours is in tolerance when its token and rule
accuracy are within 0.01 and its validation loss is within 0.02 of them.
"""

from dataclasses import dataclass

from rulekeep.specs import PUBLISHED_SEED, PUBLISHED_STEPS, ArticleCell

TOLERANCES = {"val_loss": 0.02, "token_accuracy": 0.01, "rule_accuracy": 0.01}


@dataclass(frozen=True, kw_only=True)
class PublishedFigures:
    """One row of the article's table, and the seconds it took on the author's GPU."""

    val_loss: float
    token_accuracy: float
    rule_accuracy: float
    elapsed_seconds: float


_FIGURES = {
    (64, "attention"): PublishedFigures(
        val_loss=0.244, token_accuracy=0.938, rule_accuracy=0.906, elapsed_seconds=2.6
    ),
    (64, "compressed"): PublishedFigures(
        val_loss=0.937, token_accuracy=0.699, rule_accuracy=0.492, elapsed_seconds=13.7
    ),
    (256, "attention"): PublishedFigures(
        val_loss=0.709, token_accuracy=0.757, rule_accuracy=0.581, elapsed_seconds=1.5
    ),
    (256, "compressed"): PublishedFigures(
        val_loss=1.095, token_accuracy=0.633, rule_accuracy=0.358, elapsed_seconds=55.0
    ),
    (1028, "attention"): PublishedFigures(
        val_loss=0.990, token_accuracy=0.701, rule_accuracy=0.492, elapsed_seconds=9.9
    ),
    (1028, "compressed"): PublishedFigures(
        val_loss=1.163, token_accuracy=0.577, rule_accuracy=0.263, elapsed_seconds=229.4
    ),
}


def published_figures(cell: ArticleCell) -> PublishedFigures | None:
    """The published row of a cell, or None where the article has none."""
    asked = (cell.seed, cell.steps, cell.decoys)
    if asked != (PUBLISHED_SEED, PUBLISHED_STEPS, "published"):
        return None
    return _FIGURES.get((cell.context, cell.model))

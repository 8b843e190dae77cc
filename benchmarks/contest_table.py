"""The tables of docs/article.md on our memory in the article's contest, out of its records.

    python benchmarks/contest_table.py     # of results/article-contest and -independent

Rule accuracy and retention (first mentions) on the published data, then retention with decoys drawn
independently of the rules: mean over the seeds with its 95 % interval (Student t), the difference
from attention paired by seed, and the reader of the last 6 tokens, which has no memory at all. On
the published data, the median of the training seconds over attention's stands last.
"""

import statistics
import sys
from pathlib import Path

from rulekeep.analysis.summary import paired_difference, summarise_scores
from rulekeep.article.leak import leak_scores
from rulekeep.article.records import cell_of
from rulekeep.article.report import Rows, by_seed, markdown_table
from rulekeep.records.store import read_runs
from rulekeep.specs import ArticleDecoys

ROOT = Path(__file__).parent.parent / "results"
FOLDERS: dict[ArticleDecoys, Path] = {
    "published": ROOT / "article-contest",
    "independent": ROOT / "article-contest-independent",
}
FIGURES: tuple[tuple[ArticleDecoys, str], ...] = (
    ("published", "rule_accuracy"),
    ("published", "retention"),
    # Alone there can it be claimed: nothing at the end of a sequence tells of its rules.
    ("independent", "retention"),
)
MODELS = ("attention", "compressed", "sparse_delta[heads=2,gate_taps=2,toll=0]")


def page() -> str:
    """A table for each figure, as Markdown."""
    rows = {decoys: read(folder) for decoys, folder in FOLDERS.items()}
    return "\n".join(_table(rows[decoys], decoys, figure) for decoys, figure in FIGURES)


def read(folder: Path) -> Rows:
    """The records of a folder by cell."""
    kept = read_runs(folder)
    assert not kept.notes, kept.notes
    assert all(record.is_result for record in kept.records)
    return {cell_of(record): record for record in kept.records}


def _table(rows: Rows, decoys: ArticleDecoys, figure: str) -> str:
    found = by_seed(rows, figure)
    # In the other folder our cells are of another day than attention's.
    timed = decoys == "published"
    body = []
    for context in sorted({context for context, _ in found}):
        attention, _, ours = (found[context, model] for model in MODELS)
        means = [summarise_scores(list(found[context, model].values())).text() for model in MODELS]
        difference = paired_difference(ours, attention)
        reader = getattr(leak_scores(context, decoys=decoys), figure)
        row = [f"{context}", *means, difference.summary.text(), f"{reader:.3f}"]
        if timed:
            time = _seconds(rows, context, MODELS[-1]) / _seconds(rows, context, "attention")
            row.append(f"{time:.2f}")
        body.append(row)
    what = f"{figure.replace('_', ' ')}, decoys {decoys}"
    names = [model.split("[")[0] for model in MODELS]
    header = [what, *names, "sparse_delta − attention", "last 6 tokens"]
    header += ["time / attention's"] * timed
    return markdown_table(header, body) + "\n"


def _seconds(rows: Rows, context: int, model: str) -> float:
    return statistics.median(
        record.costs["train_seconds"]
        for cell, record in rows.items()
        if (cell.context, cell.model) == (context, model)
    )


if __name__ == "__main__":
    sys.stdout.write(page())

"""The table of README on our memory in the article's contest, out of its records.

    python benchmarks/contest_table.py                    # of results/article-contest

Rule accuracy on the published data: mean over the seeds with its 95 % interval (Student t), the
difference from attention paired by seed, and the reader of the last 6 tokens, which has no memory
at all; then the median of the training seconds over attention's.
"""

import json
import statistics
import sys
from pathlib import Path

from rulekeep.article.leak import leak_scores
from rulekeep.article.records import cell_of, scores
from rulekeep.article.report import markdown_table
from rulekeep.specs import ArticleDecoys
from rulekeep.store import RESULTS, Record
from rulekeep.summary import paired_difference, summarise_scores

ROOT = Path(__file__).parent.parent / "results"
FOLDERS: dict[ArticleDecoys, tuple[Path, str]] = {
    "published": (ROOT / "article-contest", "rule_accuracy"),
}
MODELS = ("attention", "compressed", "sparse_delta")


def page() -> str:
    """A table for each kind of decoys that has been run, as Markdown."""
    return "\n".join(_table(decoys, *found) for decoys, found in FOLDERS.items())


def read(folder: Path) -> dict[tuple[int, str], dict[int, Record]]:
    """The records of a folder by context and model, then by seed."""
    found: dict[tuple[int, str], dict[int, Record]] = {}
    for line in (folder / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["status"] in RESULTS
        cell = cell_of(record)
        model = next(name for name in MODELS if cell.model.startswith(name))
        found.setdefault((cell.context, model), {})[cell.seed] = record
    return found


def _table(decoys: ArticleDecoys, folder: Path, figure: str) -> str:
    rows = read(folder)
    body = []
    for context in sorted({context for context, _ in rows}):
        by_model = {model: _figures(rows[context, model], figure) for model in MODELS}
        means = [summarise_scores(list(values.values())).text() for values in by_model.values()]
        difference = paired_difference(by_model["sparse_delta"], by_model["attention"])
        seconds = [
            statistics.median(r["costs"]["train_seconds"] for r in rows[context, model].values())
            for model in ("sparse_delta", "attention")
        ]
        reader = getattr(leak_scores(context, decoys=decoys), figure)
        body.append(
            [
                f"{context}", *means, difference.summary.text(), f"{reader:.3f}",
                f"{seconds[0] / seconds[1]:.2f}",
            ]
        )  # fmt: skip
    what = f"{figure.replace('_', ' ')}, decoys {decoys}"
    header = [what, *MODELS, "sparse_delta − attention", "last 6 tokens", "time / attention's"]
    return markdown_table(header, body) + "\n"


def _figures(by_seed: dict[int, Record], figure: str) -> dict[int, float]:
    found = {seed: scores(record) for seed, record in by_seed.items()}
    return {seed: float("nan") if row is None else row[figure] for seed, row in found.items()}


if __name__ == "__main__":
    sys.stdout.write(page())

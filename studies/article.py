"""The article's experiment: who keeps rules in it, and what does its data give away?

    rulekeep study article run|build|check

Attention, the article's memory and ours train on the published data for 80 steps, five seeds. Then
they do so with decoys that are drawn independently of the rules. Beside them stands a reader of the
last 6 tokens, which remembers nothing. Fills docs/article.md and README.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from rulekeep.analysis.rows import Rows
from rulekeep.analysis.summary import Summary, paired_difference, summarise_scores
from rulekeep.article.leak import leak_scores
from rulekeep.article.published import published_figures
from rulekeep.printable import markdown_table
from rulekeep.records import Record
from rulekeep.specs import AnySpec, ArticleCell, ArticleDecoys, article_cells
from rulekeep.study import Claim, Family, Study, Sweep

SPEED = Path(__file__).parent.parent / "results" / "timings" / "article.json"
CONTEXTS = SHORT, MIDDLE, LONG = (64, 256, 1028)
SEEDS = (1, 2, 3, 4, 5)
ATTENTION, SLOTS, OURS = (
    "attention",
    "compressed",
    "sparse_delta[heads=2,gate_kernel=2,gate_penalty=0,short_convolution=false]",
)
NEAR_ENOUGH = 0.05


def contest(*, decoys: ArticleDecoys = "published") -> Sequence[AnySpec]:
    """The published experiment with our memory in it, at five seeds."""
    models = (ATTENTION, SLOTS, OURS)
    return article_cells(models=models, seeds=SEEDS, decoys=decoys)


def independent() -> Sequence[AnySpec]:
    """The same where nothing at the end of a sequence tells of its rules."""
    return contest(decoys="independent")


# --- what stands in the records ------------------------------------------------------------------


def cells(rows: Rows, decoys: ArticleDecoys) -> dict[ArticleCell, Record]:
    """The records by cell."""
    found = {ArticleCell.model_validate(record.spec.parsed()): record for record in rows.records}
    return {cell: record for cell, record in found.items() if cell.decoys == decoys}


def seeds(
    rows: Rows, decoys: ArticleDecoys, figure: str, context: int
) -> dict[str, dict[int, float]]:
    """A figure by model and seed, in the order of the table."""
    found: dict[str, dict[int, float]] = {ATTENTION: {}, SLOTS: {}}
    for cell, record in cells(rows, decoys).items():
        if cell.context == context:
            (test,) = record.evaluations
            found.setdefault(cell.model.partition("[")[0], {})[cell.seed] = test.figures[figure]
    return found


def more(
    one: str, other: str, decoys: ArticleDecoys, figure: str, context: int
) -> Callable[[Rows], Summary]:
    """What one model has more than another, paired by seed."""

    def found(rows: Rows) -> Summary:
        each = seeds(rows, decoys, figure, context)
        return paired_difference(each[one], each[other])

    return found


def summary(
    model: str, decoys: ArticleDecoys, figure: str, context: int
) -> Callable[[Rows], Summary]:
    """The mean of one model with its interval."""
    return lambda rows: summarise_scores([*seeds(rows, decoys, figure, context)[model].values()])


def cost(rows: Rows, name: str, context: int) -> dict[str, float]:
    """The median of a cost on the published data, by model."""
    found: dict[str, list[float]] = {}
    for cell, record in cells(rows, "published").items():
        if cell.context == context:
            found.setdefault(cell.model.partition("[")[0], []).append(record.costs[name])
    return {model: statistics.median(each) for model, each in found.items()}


def table(figure: str, decoys: ArticleDecoys) -> Callable[[Rows], str]:
    """A context a line: the three models, the difference, and the reader without memory."""

    def made(rows: Rows) -> str:
        # In the other folder our cells are of another day than attention's.
        timed = decoys == "published"
        body = []
        for context in CONTEXTS:
            each = seeds(rows, decoys, figure, context)
            row = [f"{context}"]
            row += [summarise_scores([*values.values()]).text() for values in each.values()]
            row.append(more("sparse_delta", ATTENTION, decoys, figure, context)(rows).text())
            row.append(f"{leak_scores(context, decoys=decoys)[figure]:.3f}")
            if timed:
                seconds = cost(rows, "train_seconds", context)
                row.append(f"{seconds['sparse_delta'] / seconds[ATTENTION]:.2f}")
            body.append(row)
        head = [f"{figure.replace('_', ' ')}, decoys {decoys}", ATTENTION, SLOTS, "sparse_delta"]
        head += ["sparse_delta − attention", "last 6 tokens"]
        return markdown_table(head + ["time / attention's"] * timed, body)

    return made


# --- claims --------------------------------------------------------------------------------------


def reader(figure: str, decoys: ArticleDecoys = "published") -> Callable[[Rows], float]:
    """What the reader of the last 6 tokens scores, at every context."""
    return lambda _: leak_scores(LONG, decoys=decoys)[figure]


def published(context: int) -> Callable[[Rows], float]:
    """Attention's rule accuracy as the article has it."""
    return lambda _: published_figures(ArticleCell(context=context, model=ATTENTION)).rule_accuracy


def times(slow: str, fast: str) -> Callable[[Rows], float]:
    """How many times as long a step of one takes as of another, at 1,028 tokens."""

    def ratio(_: Rows) -> float:
        (row,) = (row for row in json.loads(SPEED.read_text())["rows"] if row["context"] == LONG)
        return statistics.median(row["seconds"][slow]) / statistics.median(row["seconds"][fast])

    return ratio


def is_fair(rows: Rows) -> bool:
    """Whether our memory has as many parameters as attention."""
    found = (cost(rows, "parameters", context) for context in CONTEXTS)
    return all(abs(one["sparse_delta"] / one[ATTENTION] - 1) <= NEAR_ENOUGH for one in found)


MEASURES: tuple[tuple[ArticleDecoys, str], ...] = (
    ("published", "rule_accuracy"), ("published", "retention"), ("independent", "retention"),
)  # fmt: skip
# Attention more than the article's memory, and ours more than attention, at the longest context.
AT_LONG = Family(
    lambda rows: {
        f"{one.partition('[')[0]} − {other}: {figure}, decoys {decoys}": more(
            one.partition("[")[0], other, decoys, figure, LONG
        )(rows)
        for one, other in ((ATTENTION, SLOTS), (OURS, ATTENTION))
        for decoys, figure in MEASURES
    }
)
STUDY = Study(
    question="Who keeps rules in the article's experiment, and what does its data give away?",
    variants={},
    settings=[],
    context=LONG,
    seeds=SEEDS,
    sweeps={
        "article-contest": Sweep("contest"),
        "article-contest-independent": Sweep("independent"),
    },
    families={f"{LONG:,} tokens": AT_LONG},
    tables={
        "rule-accuracy": table("rule_accuracy", "published"),
        "retention": table("retention", "published"),
        "independent": table("retention", "independent"),
    },
    claims={
        "reader": Claim(reader("rule_accuracy")),
        "reader_first": Claim(reader("retention")),
        "attention_256": Claim(published(MIDDLE), maximum=0.78),
        "attention_1028": Claim(published(LONG), maximum=0.78),
        "lead_64": Claim(more(ATTENTION, SLOTS, "published", "rule_accuracy", SHORT), minimum=0),
        "lead_1028": AT_LONG.not_shown(f"{ATTENTION} − {SLOTS}: rule_accuracy, decoys published"),
        "ours_256": Claim(
            more("sparse_delta", ATTENTION, "independent", "retention", MIDDLE),
            minimum=0,
            holds=is_fair,
        ),
        "ours_1028": Claim(
            lambda rows: summary("sparse_delta", "independent", "retention", LONG)(rows).mean or 0.0
        ),
        "chance": Claim(reader("retention", "independent")),
        "attention_kept_1028": Claim(summary(ATTENTION, "independent", "retention", LONG)),
        "ours_less_1028": AT_LONG.not_shown(
            f"sparse_delta − {ATTENTION}: retention, decoys independent"
        ),
        "attention_slower": Claim(times("attention", "parallel"), 1),
        "loop_slower": Claim(times("serial", "attention"), 0),
    },
)

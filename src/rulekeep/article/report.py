"""The report of an article run: the comparison with the published figures, as tables and files."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rulekeep.analysis import panels
from rulekeep.analysis.baselines import BASELINES, baseline, baselines
from rulekeep.analysis.summary import paired_difference, summarise_scores
from rulekeep.analysis.variants import is_of_task
from rulekeep.article.leak import WINDOW, leak_scores
from rulekeep.article.overview import overview
from rulekeep.article.published import TOLERANCES, published_figures
from rulekeep.printable import markdown_table
from rulekeep.records.store import Record, write_bytes, write_text
from rulekeep.specs import ArticleCell, ArticleDecoys, UsageError

Rows = dict[ArticleCell, Record]

# A task without the leak, and the lengths trained and tested at in the runs that ship.
_CLEAN_TASK, _CLEAN_TRAINED, _CLEAN_CONTEXT = "recite", 256, 1028
_SHORT = {"val_loss": "loss", "token_accuracy": "token", "rule_accuracy": "rule"}


def conclusion(rows: Rows, folder: Path) -> list[str]:
    """Five lines: as published or not, what the data leaks, what holds elsewhere, what is next."""
    last = next(reversed(rows))
    reader = leak_scores(last.context, decoys=last.decoys)["retention"]
    kept = [
        f"{name} {statistics.fmean(found):.3f}"
        for name in BASELINES
        if (found := _without_leak(name))
    ]
    return [
        f"As published: {comparison(rows).verdict}.",
        f"Without memory: a reader of the last {WINDOW} tokens has {reader:.3f} of first rules "
        f"right at {last.context:,} tokens.",
        f"Where nothing leaks ({_CLEAN_TASK}, {_CLEAN_CONTEXT:,} tokens, committed runs): "
        f"retention {'; '.join(kept)}.",
        f"Picture: {folder / 'overview.png'}; every figure: {folder / 'report.md'}",
        "Next: rulekeep demo (two minutes), or rulekeep check FILE.py:Class for your own layer.",
    ]


def _without_leak(name: str) -> list[float]:
    """Retention of the committed runs of a baseline, a seed each."""
    return [
        row.figures["retention"]
        for one in baselines()
        if baseline(one) == name
        and one.spec.context == _CLEAN_TRAINED
        and is_of_task(one, _CLEAN_TASK, placement="early")
        for row in one.tests()
        if row.context == _CLEAN_CONTEXT
    ]


def cell_of(record: Record) -> ArticleCell:
    """The cell of a record.

    Raises:
        UsageError: it is of none.
    """
    found = record.spec.parsed()
    if not isinstance(found, ArticleCell):
        raise UsageError(f"run {record.id}: is no cell of rulekeep article")
    return found


def scores(record: Record) -> Mapping[str, float] | None:
    """Loss and scores on the published validation examples; None for a cell that diverged."""
    return _or_nan(record.evaluations[0].figures) if record.evaluations else None


def _or_nan(figures: Mapping[str, float]) -> Mapping[str, float]:
    """The number; NaN if a record lacks it, so that it is out of every tolerance."""
    return defaultdict(lambda: math.nan, figures)


def _said_of(record: Record) -> Mapping[str, str]:
    return defaultdict(lambda: "unknown", record.environment)


def device_label(records: Iterable[Record]) -> str:
    """What the records were made on, in a few words."""
    labels = set()
    for record in records:
        made = _said_of(record)
        processor = made["cpu"].replace("(R)", "").replace("(TM)", "")
        labels.add(f"{made['device'].upper()}: {processor}, {made['threads']} thread a cell")
    return "; ".join(sorted(labels))


class Comparison(NamedTuple):
    """The table of ours beside published, what it comes to, and the cells out of tolerance."""

    table: str
    verdict: str
    failures: list[str]


def comparison(rows: Rows) -> Comparison:
    """Ours with the published figures in brackets, a line a cell; a verdict where there are any."""
    body, failures = [], []
    for cell, record in rows.items():
        published, found, out = published_figures(cell), scores(record), []
        line = [str(cell.context), _name(cell), str(cell.seed)]
        if found is None:
            failures.append(f"{cell.label}: {record.status}: {record.reason}")
            body.append([*line, *["–"] * len(_SHORT), record.status])
            continue
        for name, short in _SHORT.items():
            ours = found[name]
            if published is None:
                line.append(f"{ours:.3f}")
                continue
            theirs = getattr(published, name)
            line.append(f"{ours:.3f} ({theirs:.3f})")
            difference = ours - theirs
            # Figures are published to three decimals: half of the last one is no deviation.
            if not abs(difference) <= TOLERANCES[name] + 0.0005:
                out.append(f"{short} {difference:+.3f} (at most {TOLERANCES[name]})")
        if out:
            failures.append(f"{cell.label}: {', '.join(out)}")
        body.append([*line, "–" if published is None else "out of tolerance" if out else "ok"])
    compared = sum(published_figures(cell) is not None for cell in rows)
    verdict = "no cell here has a published figure"
    if failures:
        verdict = f"NO, {len(failures)} of {len(rows)} cells are out of tolerance"
    elif compared:
        verdict = f"yes, all {compared} published cells come out within tolerance"
    header = ["context", "model", "seed", *_SHORT.values(), "verdict"]
    return Comparison(markdown_table(header, body), verdict, failures)


def details(rows: Rows) -> str:
    """What the article does not show: first mentions, whole answers, and the cost of a cell."""
    header = [
        "context", "model", "seed", "retention", "second mentions", "item", "exact",
        "train s", "tokens/s", "state bytes", "peak MiB", "parameters",
    ]  # fmt: skip
    body = []
    for cell, record in rows.items():
        found, costs = scores(record), _or_nan(record.costs)
        names = ("retention", "second_mention_accuracy", "item_accuracy", "exact")
        rate = record.costs.get("tokens_per_second")
        body.append(
            [
                str(cell.context),
                _name(cell),
                str(cell.seed),
                *("–" if found is None else f"{found[name]:.3f}" for name in names),
                f"{costs['train_seconds']:.1f}",
                "–" if rate is None else f"{rate:,.0f}",
                f"{record.state_bytes.get(cell.context, math.nan):,.0f}",
                f"{costs['peak_memory_bytes'] / 2**20:,.0f}",
                f"{costs['parameters']:,.0f}",
            ]
        )
    return markdown_table(header, body)


def over_seeds(rows: Rows) -> str:
    """Mean, 95 % interval and every seed of the rule figures, a line a context and model."""
    seeds = list(dict.fromkeys(cell.seed for cell in rows))
    header = ["context", "model", "figure", "mean (95 % interval)", *(f"seed {s}" for s in seeds)]
    body = []
    names = ("rule_accuracy", "retention", "token_accuracy")
    by_name = {name: by_seed(rows, name) for name in names}
    for context, model in by_name[names[0]]:
        for name in names:
            values = by_name[name][context, model]
            summary = summarise_scores(list(values.values()))
            each = [f"{values[s]:.3f}" if s in values else "–" for s in seeds]
            each = [text.replace("nan", "diverged") for text in each]
            body.append([str(context), model, name, summary.text(), *each])
    decoys = next(iter(rows)).decoys
    for context in dict.fromkeys(cell.context for cell in rows):
        reader = leak_scores(context, decoys=decoys)
        for name in names:
            exactly = f"{reader[name]:.3f}"
            body.append([str(context), f"last {WINDOW} tokens", name, exactly, *["–"] * len(seeds)])
    return markdown_table(header, body)


def against_attention(rows: Rows) -> str:
    """The other models' rule figures less attention's, paired by seed, a line each."""
    body = []
    for name in ("rule_accuracy", "retention"):
        found = by_seed(rows, name)
        for (context, model), values in found.items():
            baseline = found.get((context, "attention"), {})
            if model != "attention" and values.keys() & baseline.keys():
                difference = paired_difference(values, baseline)
                body.append([str(context), model, name, difference.text()])
    header = ["context", "model", "figure", "less attention's (95 % interval)"]
    return markdown_table(header, body) if body else ""


def by_seed(rows: Rows, figure: str) -> dict[tuple[int, str], dict[int, float]]:
    """A figure of each seed, NaN where it diverged, by context and model."""
    found: dict[tuple[int, str], dict[int, float]] = {}
    for cell, record in rows.items():
        row = scores(record)
        value = math.nan if row is None else row[figure]
        found.setdefault((cell.context, _name(cell)), {})[cell.seed] = value
    return found


def leak_table(contexts: Sequence[int], decoys: ArticleDecoys = "published") -> str:
    """Scores of the reader of the last prefix tokens, a line per context."""
    header = ["context", "token", "rule", "item", "first-mention rule", "exact"]
    names = ("token_accuracy", "rule_accuracy", "item_accuracy", "retention", "exact")
    body = []
    for context in contexts:
        scores = leak_scores(context, decoys=decoys)
        body.append([str(context), *(f"{scores[name]:.3f}" for name in names)])
    return markdown_table(header, body)


def leak_meaning(decoys: ArticleDecoys) -> str:
    """What the leak's table is of."""
    data = "the published data gives" if decoys == "published" else "the data gives"
    shown = " The decoys, which tell it nothing here, are not shown to it."
    return (
        f"A reader of only the last {WINDOW} tokens of the prefix and the target so far, by exact "
        f"enumeration of all 1944 validation examples: what {data} away to a model that remembers "
        f"nothing.{'' if decoys == 'published' else shown}"
    )


def write_outputs(folder: Path, rows: Rows, command: str, made: str) -> None:
    """Writes plot and report; the records stand in the folder of runs.

    `command` is what was asked for, and `made` says in words what was run for it.
    """
    device = device_label(rows.values())
    cells = {(_name(cell), cell.context, cell.seed): record for cell, record in rows.items()}
    for name, content in panels.draw(overview(cells, device)).files.items():
        write_bytes(folder / name, content)
    write_text(folder / "report.md", _report(rows, device, command, made))


def _report(rows: Rows, device: str, command: str, made: str) -> str:
    several_seeds = len({cell.seed for cell in rows}) > 1
    table, verdict, failures = comparison(rows)
    said = "".join(f" {failure}." for failure in failures)
    seeds = ""
    if several_seeds:
        seeds = (
            "## Over seeds\n\nMean and 95 % interval (Student t, clipped to 0 to 1), "
            f"and every seed.\n\n{over_seeds(rows)}\n\n"
        )
        if paired := against_attention(rows):
            seeds += f"Paired by seed:\n\n{paired}\n\n"
    contexts = list(dict.fromkeys(cell.context for cell in rows))
    decoys = next(iter(rows)).decoys
    return (
        "# The article's experiment, reproduced\n\n"
        f"`{command}`\n\nMade on {device}: {made}. {_environment(rows)}\n\n"
        f"## Ours beside published\n\n{table}\n\n"
        f"As published: {verdict}.{said} Tolerances: {TOLERANCES['token_accuracy']} in accuracies, "
        f"{TOLERANCES['val_loss']} in loss.\n\n"
        "![validation loss, token accuracy and rule accuracy over steps; training seconds]"
        "(overview.png)\n\n"
        f"{seeds}"
        "## First mentions, whole answers, costs\n\n"
        "`retention` counts only a rule's first mention in the target; a second mention can be "
        "copied from three tokens before. Training seconds leave evaluation out. State bytes "
        "are those of one sequence after its whole context.\n\n"
        f"{details(rows)}\n\n"
        f"## The leak\n\n{leak_meaning(decoys)}\n\n{leak_table(contexts, decoys)}\n"
    )


def _environment(rows: Rows) -> str:
    versions = {
        f"rulekeep {made['rulekeep']}, Python {made['python']}, torch {made['torch']} "
        f"({made['cpu_capability']})"
        for made in map(_said_of, rows.values())
    }
    return "; ".join(sorted(versions)) + "."


def _name(cell: ArticleCell) -> str:
    return f"{cell.model} (serial)" if cell.serial else cell.model

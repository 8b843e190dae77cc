"""Examples of the tasks that runs were tested on, drawn again: the first of the test split.

A task of the catalogue only: the report imports nothing that a record names.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from textwrap import fill
from typing import Any, NamedTuple

from rulekeep.analysis.reading import Run
from rulekeep.article.sample import article_sample
from rulekeep.records import Asked
from rulekeep.reporting.certified import filled, options_text
from rulekeep.reporting.marked import MARKS, Kind, Mark, Piece, legend, pieces
from rulekeep.reporting.text import code_block, escaped
from rulekeep.specs import UsageError
from rulekeep.tasks import TASKS, Article, SampledTask

EXAMPLES = 2
# Longer ones would take seconds; of the article's, all 1944 are made at once.
LONGEST, LONGEST_ARTICLE = 2**16, 2**12


class Drawn(NamedTuple):
    """Examples of a task at the shortest context it was tested at."""

    title: str
    options: str
    examples: tuple[tuple[Piece, ...], ...]


def drawn(runs: Sequence[Run]) -> tuple[Drawn, ...]:
    """Examples of each task of the catalogue and each placement of its rules, in order."""
    groups: dict[tuple[str, str], Counter[Asked]] = {}
    of_asked: dict[Asked, list[Run]] = {}
    for run in runs:
        if run.record.spec.asked.task in TASKS:
            asked = filled(run.record.spec.asked)
            of_asked.setdefault(asked, []).append(run)
            options = dict(asked.options)
            kind = f"{options.get('layout', '')} {options.get('placement', '')}"
            groups.setdefault((asked.task, kind), Counter())[asked] += 1
    found = []
    for _, counts in sorted(groups.items()):
        # Where a task was run at several difficulties, the commonest.
        asked = counts.most_common(1)[0][0]
        made = _drawn(asked, of_asked[asked])
        if made is not None:
            found.append(made)
    return tuple(found)


def marks_of(made: Sequence[Drawn]) -> dict[Kind, Mark]:
    """The marks that stand in the examples of any."""
    return legend(example for one in made for example in one.examples)


def markdown(made: Sequence[Drawn]) -> str:
    """The first example of each task, marked by letters: `R[rule-7]`."""
    parts = [
        "## Examples of the tasks",
        "\n".join(f"- {mark.letter}: {escaped(mark.meaning)}" for mark in marks_of(made).values()),
    ]
    for one in made:
        words = " ".join(_word(piece) for piece in one.examples[0])
        text = fill(words, 100, break_long_words=False, break_on_hyphens=False)
        options = f"\n\n{escaped(one.options)}" if one.options else ""
        parts.append(f"### {escaped(one.title)}{options}\n\n{code_block(text)}")
    return "\n\n".join(parts)


def _word(piece: Piece) -> str:
    mark = MARKS.get(piece.kind)
    return piece.text if mark is None else f"{mark.letter}[{piece.text}]"


def _drawn(asked: Asked, runs: Sequence[Run]) -> Drawn | None:
    contexts = [e.context for run in runs for e in run.record.evaluations if e.split == "test"]
    context = min(contexts or [run.context for run in runs])
    seed = min(run.seed for run in runs)
    kind = TASKS[asked.task]
    try:
        with warnings.catch_warnings():
            # Few combinations are said where runs are planned.
            warnings.simplefilter("ignore")
            if issubclass(kind, SampledTask) and context <= LONGEST:
                make: Any = kind
                task = make(kind.options_type.parse_json(dict(asked.options)))
                sample = task.sample("test", context, EXAMPLES, seed=seed)
                said = f"{asked.task} at {context:,} tokens, test split, seed {seed}"
            elif issubclass(kind, Article) and context <= LONGEST_ARTICLE:
                task = kind()
                sample = article_sample(task.examples("test", context))
                said = f"{asked.task} at {context:,} tokens, test split"
            else:
                return None
    except (UsageError, ValueError):
        # A record may say what cannot be: its runs stand in the tables all the same.
        return None
    examples = tuple(tuple(pieces(sample, row, task.vocabulary)) for row in range(EXAMPLES))
    return Drawn(said, options_text(asked), examples)

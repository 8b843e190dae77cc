"""The pages: HTML files that ask nothing of the network, under a strict content policy.

One script, allowed by its hash, sorts and filters tables. Names reach a page through Jinja2's
autoescape; figures as SVG, in which matplotlib escapes them.
"""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from rulekeep.reporting.marked import MARKS, Piece, legend
from rulekeep.reporting.tables import Table, template

if TYPE_CHECKING:
    # Only a report draws: a page of examples waits for no plotting.
    from rulekeep.analysis.charts import Chart
    from rulekeep.analysis.panels import Picture


# What a reader of rules in words asks, in this order.
SURVIVE, FIRST = "How many of my rules survive?", "Which die first?"
HELPS, LIMITS = "What helps?", "What this does not show"
QUESTIONS = (SURVIVE, FIRST, HELPS, LIMITS)


class Answer(NamedTuple):
    """A question, what is said of it, and the tables and figures that show it, by their ids."""

    question: str
    said: Sequence[str]
    shown: tuple[str, ...] = ()


class Figure(NamedTuple):
    """A chart, its SVGs, and the values that it shows."""

    chart: "Chart"
    picture: "Picture"
    values: Table


def render(
    *,
    summary: Sequence[str],
    figures: Sequence[Figure],
    tables: Sequence[Table],
    notes: Sequence[str],
    command: str,
    answers: Sequence[Answer] = (),
) -> str:
    """The report as text: answers stand open, the rest is folded.

    Without answers the first table and the first figure stand open.
    """
    script = _file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return template("report.html").render(
        summary=summary,
        figures=[(one, [Markup(svg) for svg in one.picture.panels]) for one in figures],
        tables=tables,
        answers=[(one, [of for of in answers if of.question == one]) for one in QUESTIONS],
        answered={key for answer in answers for key in answer.shown},
        notes=notes,
        command=command,
        digest=digest,
        style=Markup(_file("report.css")),
        script=Markup(script),
    )


def render_examples(
    title: str, options: str, examples: Sequence[Sequence[Piece]], command: str
) -> str:
    """Examples of a task as text, with a legend of the marks that stand in them; no script."""
    return template("examples.html").render(
        title=title,
        options=options,
        examples=examples,
        marks=MARKS,
        legend=legend(examples),
        command=command,
        style=Markup(_file("marks.css")),
    )


def _file(name: str) -> str:
    """A file of ours beside the templates."""
    return files("rulekeep.reporting").joinpath("templates", name).read_text(encoding="utf-8")

"""The page: one HTML file that asks nothing of the network, under a strict content policy.

Scripts run by a nonce drawn for each page; data is JSON in a script that the browser does not
run. Names reach the page through Jinja2's autoescape or as JSON, nowhere else.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from rulekeep.reporting import interactive
from rulekeep.reporting.charts import Chart
from rulekeep.reporting.drawn import Drawn, marks_of
from rulekeep.reporting.marked import MARKS
from rulekeep.reporting.tables import Table
from rulekeep.reporting.templating import environment, style_of, template_file

# Tables of many rows, which are opened by a click.
FOLDED = ("readings", "writes", "runs")


def render(
    *,
    summary: Sequence[str],
    charts: Sequence[Chart],
    tables: Mapping[str, Table],
    examples: Sequence[Drawn],
    notes: Sequence[str],
    command: str,
) -> str:
    """The whole page as text."""
    figures = {chart.key: interactive.figures(chart) for chart in charts}
    return (
        environment()
        .get_template("report.html")
        .render(
            summary=summary,
            charts=charts,
            heights={key: [f["height"] for f in made] for key, made in figures.items()},
            tables=tables,
            folded_keys=FOLDED,
            examples=examples,
            marks=MARKS,
            legend=marks_of(examples),
            notes=notes,
            command=command,
            nonce=secrets.token_urlsafe(18),
            data=script_json(figures),
            style=style_of("report.css", "marks.css"),
            script=Markup(template_file("report.js")),
            plotly=Markup(_plotly()),
        )
    )


def script_json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _plotly() -> str:
    source = str(get_plotlyjs())
    assert "</script" not in source.lower()
    return source

"""Examples as one offline page: every token marked with what it is, and a legend.

    html = page("recite at 128 tokens", "--rules 4", [pieces(sample, 0, task.vocabulary)], command)

Words reach the page through Jinja2's autoescape. The page has no script and asks for nothing.
"""

from collections.abc import Sequence

from rulekeep.reporting.marked import MARKS, Piece, legend
from rulekeep.reporting.templating import environment, style_of


def page(title: str, options: str, examples: Sequence[Sequence[Piece]], command: str) -> str:
    """The whole page as text; the legend explains the marks that stand in the examples."""
    return (
        environment()
        .get_template("examples.html")
        .render(
            title=title,
            options=options,
            examples=examples,
            marks=MARKS,
            legend=legend(examples),
            command=command,
            style=style_of("marks.css"),
        )
    )

"""The words of tables and figures: a title, and what it means, out of templates/words.txt.

Table.of("costs", *words("costs"), rows)
"""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def words(key: str, **values: object) -> tuple[str, str]:
    """The title of a table or a figure, and its meaning or caption, with these values."""
    title, _, meaning = str(getattr(_texts(), key)(**values)).strip().partition("\n")
    return title, " ".join(meaning.split())


@cache
def _texts() -> Any:
    made = Environment(loader=PackageLoader("rulekeep.reporting"), undefined=StrictUndefined)
    return made.get_template("words.txt").module

"""The result of a check: one row per property."""

from collections.abc import Sequence
from typing import NamedTuple

# What is wrong already fails the rest in other words.
SEE_ABOVE = "skipped: see the last row that failed"

_HOLDS = {True: "pass", False: "FAIL", None: "skip"}


class Row(NamedTuple):
    """One property, whether it holds (None: not compared), and what was compared."""

    property: str
    passed: bool | None
    compared: str


def lines(rows: Sequence[Row]) -> list[str]:
    """The rows of a finished check, a line per property."""
    width = max((len(row.property) for row in rows), default=0)
    return [line(row, width) for row in rows if row.compared != SEE_ABOVE]


def line(row: Row, width: int) -> str:
    """A property, whether it holds, and what was compared."""
    return f"{_HOLDS[row.passed]}  {row.property:{width}}  {row.compared}"

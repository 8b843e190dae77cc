"""The result of a check: one row per property."""

from typing import NamedTuple

# What is wrong already fails the rest in other words.
SEE_ABOVE = "skipped: see the last row that failed"


class Row(NamedTuple):
    """One property, whether it holds (None: not compared), and what was compared."""

    property: str
    passed: bool | None
    compared: str

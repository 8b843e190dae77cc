"""The result of a check: one row per property."""

from typing import NamedTuple

# What has not the form of a mixer fails the rest in other words.
SEE_FIRST = "skipped: see the first row"


class Row(NamedTuple):
    """One property, whether it holds (None: not compared), and what was compared."""

    property: str
    passed: bool | None
    compared: str

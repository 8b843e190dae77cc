"""What a check says: a row a property."""

from typing import NamedTuple


class Row(NamedTuple):
    """One property, whether it holds (None: not compared), and what was compared."""

    property: str
    passed: bool | None
    compared: str

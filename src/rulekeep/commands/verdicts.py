"""The rows of a check on a terminal, and their exit code."""

from collections.abc import Iterable, Sequence

from rulekeep.checks.rows import SEE_FIRST, Row
from rulekeep.commands.console import EXIT_FAILED, tell

_MARKS = {True: "pass", False: "FAIL", None: "skip"}


def lines(rows: Sequence[Row]) -> list[str]:
    """The rows of a finished check, a line per property."""
    width = max((len(row.property) for row in rows), default=0)
    return [line(row, width) for row in rows if row.compared != SEE_FIRST]


def line(row: Row, width: int) -> str:
    """A property, whether it holds, and what was compared."""
    return f"{_MARKS[row.passed]}  {row.property:{width}}  {row.compared}"


def print_rows(name: str, rows: Iterable[Row], properties: Iterable[str]) -> int:
    """Print each property as it comes, and a verdict for all."""
    width, found = max(map(len, properties)), list[bool | None]()
    for row in rows:
        found.append(row.passed)
        # One line says it for all of them.
        if row.compared != SEE_FIRST:
            tell(line(row, width), flush=True)
    failed, skipped = found.count(False), found.count(None)
    said = f"{failed} of {len(found) - skipped} properties fail" if failed else "all hold"
    tell(f"\n{name}: {said}{f', {skipped} skipped' if skipped else ''}")
    return EXIT_FAILED if failed else 0

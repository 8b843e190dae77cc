"""The rows of a check on a terminal, and the exit code that they come to."""

from collections.abc import Sequence

from rulekeep.commands.console import EXIT_FAILED
from rulekeep.testing.rows import SEE_FIRST, Row

_MARKS = {True: "pass", False: "FAIL", None: "skip"}


def print_rows(name: str, rows: Sequence[Row]) -> int:
    """A line a property, and one for all of them."""
    width = max(len(row.property) for row in rows if row.compared != SEE_FIRST)
    for row in rows:
        # One line says it for all of them.
        if row.compared == SEE_FIRST:
            continue
        print(f"{_MARKS[row.passed]}  {row.property:{width}}  {row.compared}")
    failed = sum(row.passed is False for row in rows)
    skipped = sum(row.passed is None for row in rows)
    said = f"{failed} of {len(rows) - skipped} properties fail" if failed else "all hold"
    print(f"\n{name}: {said}{f', {skipped} skipped' if skipped else ''}")
    return EXIT_FAILED if failed else 0

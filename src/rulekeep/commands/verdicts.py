"""The rows of a check on a terminal, and the exit code that they come to."""

from collections.abc import Iterable

from rulekeep.checks.rows import SEE_FIRST, Row
from rulekeep.commands.console import EXIT_FAILED, tell

_MARKS = {True: "pass", False: "FAIL", None: "skip"}


def print_rows(name: str, rows: Iterable[Row], properties: Iterable[str]) -> int:
    """A line a property as it comes, and one for all of them."""
    width, found = max(map(len, properties)), list[bool | None]()
    for row in rows:
        found.append(row.passed)
        # One line says it for all of them.
        if row.compared != SEE_FIRST:
            tell(f"{_MARKS[row.passed]}  {row.property:{width}}  {row.compared}", flush=True)
    failed, skipped = found.count(False), found.count(None)
    said = f"{failed} of {len(found) - skipped} properties fail" if failed else "all hold"
    tell(f"\n{name}: {said}{f', {skipped} skipped' if skipped else ''}")
    return EXIT_FAILED if failed else 0

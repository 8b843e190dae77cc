"""A report's tables on a terminal."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from rulekeep.commands.console import rich_console
from rulekeep.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    # Only what shows loads the report.
    from rulekeep.reporting.tables import Table

# Of a table that no terminal shows.
_WIDE = 160


def print_tables(tables: "Iterable[Table]") -> None:
    """Each with its title and meaning, on standard output."""
    console = rich_console()
    if not console.is_terminal:
        console.width = _WIDE
    for table in tables:
        _print(console, table)


def _print(console: "Console", table: "Table") -> None:
    shown = RichTable(
        title=printable(table.title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1)
    )
    for title, right in zip(table.header, table.numbers(), strict=True):
        # A long name goes on in the next line: two that begin alike are told apart.
        shown.add_column(
            Text(printable(title)), justify="right" if right else "left", overflow="fold"
        )
    first = None
    for row in table.rows:
        if first is not None and first != row[0].text and table.header[0] == "context":
            shown.add_section()
        first = row[0].text
        # As text: a name in brackets is no markup.
        shown.add_row(*(Text(printable(cell.text)) for cell in row))
    console.print(shown)
    console.print(f"{printable(table.meaning)}\n", soft_wrap=True)

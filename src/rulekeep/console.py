"""What is printed: output (`tell`, `print_table`), lines beside it (`say`), how far something is.

All take text from anywhere, records and plug-ins included: characters that would steer a terminal
are written out (`printable`).
"""

import shlex
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from rulekeep.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141
# Of a table that no terminal shows: none of its rows is cut.
_WIDE = 100_000


def tell(text: str = "", *, flush: bool = False) -> None:
    """Lines of the command's output."""
    print("\n".join(map(printable, text.split("\n"))), flush=flush)


def say(line: str) -> None:
    """Print a line for the user beside the output; it is always one line."""
    print(plain_line(line), file=sys.stderr, flush=True)


def plain_line(text: str) -> str:
    """A text as one printable line."""
    return printable(" ".join(text.split()))


def rich_console(*, errors: bool = False) -> "Console":
    """A console for tables, colours and progress; its input must be `printable` already."""
    from rich.console import Console

    return Console(stderr=errors, markup=False, highlight=False, emoji=False)


def print_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    numbers: Sequence[bool] = (),
) -> None:
    """A table on standard output: `numbers` says which columns stand to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    console = rich_console()
    if not console.is_terminal:
        console.width = _WIDE
    box, named = (SIMPLE_HEAD, printable(title)) if title else (None, None)
    table = Table(title=named, title_justify="left", box=box, padding=(0, 1), pad_edge=bool(title))
    for name, right in zip(header, numbers or [False] * len(header), strict=True):
        side: Literal["right", "left"] = "right" if right else "left"
        # A long name goes on in the next line: two that begin alike are told apart.
        table.add_column(Text(printable(name)), justify=side, overflow="fold")
    for row in rows:
        # As text: a name in brackets is no markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)


def progress_bars(
    console: "Console", *, shown: bool = True, ends: bool = True, per_second: float = 10
) -> "Progress":
    """Bars with a name and a count on a terminal, gone when all is done; `ends` adds when."""
    from rich import progress

    columns = [
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        *([progress.TimeRemainingColumn()] if ends else []),
    ]
    return progress.Progress(
        *columns, console=console, transient=True, refresh_per_second=per_second,
        disable=not (shown and console.is_terminal),
    )  # fmt: skip


@contextmanager
def saying(line: Callable[[], str], seconds: float = 30.0) -> Iterator[None]:
    """Print a line again and again from its own thread: there may be no event for as long."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            say(line())

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def command_line() -> str:
    """The command that was given, as a shell takes it."""
    return shlex.join(["rulekeep", *sys.argv[1:]])


def score_text(score: float | None) -> str:
    """A score as tables show it; a dash if nothing counts."""
    return "–" if score is None else f"{score:.3f}"

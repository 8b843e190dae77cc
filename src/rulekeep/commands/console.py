"""The output of every command, and its end.

`tell` prints output of the command, and `say` a line beside it. Both take text from anywhere,
records and plug-ins included: characters that would steer a terminal are replaced (`printable`).
"""

import os
import shlex
import sys
from collections.abc import Iterable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from rulekeep.printable import printable, printable_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from rulekeep.records import Record

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141

_LONGEST_LINE = 900
# The command's own output, once a plug-in's goes elsewhere.
_own_output: TextIO | None = None
# Folders that it has made before it knows whether it will write into them.
_own_folders: list[Path] = []


def goes_if_empty(folder: Path) -> None:
    """Have a folder removed as the command ends, if nothing is in it then."""
    _own_folders.append(folder)


def remove_empty() -> None:
    """Remove those of them that are empty."""
    while _own_folders:
        with suppress(OSError):
            _own_folders.pop().rmdir()


def open_streams() -> None:
    """Closed streams become /dev/null; characters that a terminal lacks are replaced."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Kept open until the process ends.
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="replace")


def keep_output() -> None:
    """Keep standard output for the command alone.

    Anything else that prints, such as a plug-in here or in a worker, prints to standard error. So
    whoever reads the output through a pipe gets only the output of the command.
    """
    global _own_output
    open_streams()
    own, errors = cast(TextIOWrapper, sys.stdout), sys.stderr
    at_once = own.line_buffering or own.write_through
    _own_output = open(  # noqa: PTH123, SIM115 - kept open until the process ends
        os.dup(own.fileno()),
        "w",
        buffering=1 if at_once else -1,
        encoding=own.encoding,
        errors="replace",
    )
    os.dup2(errors.fileno(), own.fileno())
    # Workers get this descriptor as their standard output.
    with suppress(OSError):
        os.dup2(errors.fileno(), 1)
    sys.stdout = errors


def output() -> TextIO:
    """The stream for the output of the command."""
    return sys.stdout if _own_output is None else _own_output


def end_output() -> None:
    """Write what is left of the output; what cannot be written is not tried again at exit."""
    try:
        output().flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output().fileno())


def tell(text: str = "", *, flush: bool = False) -> None:
    """Lines of the command's output."""
    print(printable_lines(text), file=output(), flush=flush)


def say(line: str) -> None:
    """Print a line for the user beside the output; it is always one line."""
    print(plain_line(line), file=sys.stderr, flush=True)


def plain_line(text: str) -> str:
    """A text as one printable line; the middle of a long one is left out."""
    line = " ".join(text.split())
    if len(line) > _LONGEST_LINE:
        # What is wrong opens a line, and the fix ends it.
        line = f"{line[: _LONGEST_LINE // 2]} … {line[-_LONGEST_LINE // 2 :]}"
    return printable(line)


def rich_console(*, errors: bool = False) -> "Console":
    """A console for tables, colours and progress; its input must be `printable` already."""
    from rich.console import Console

    if errors:
        return Console(stderr=True, markup=False, highlight=False, emoji=False)
    return Console(file=output(), markup=False, highlight=False, emoji=False)


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


def command_line() -> str:
    """The command that was given, as a shell takes it."""
    return shlex.join(["rulekeep", *sys.argv[1:]])


def score_text(score: float | None) -> str:
    """A score as tables show it; a dash if nothing counts."""
    return "–" if score is None else f"{score:.3f}"


def scores_table(records: "Iterable[Record]") -> str:
    """The test scores of runs, a line per length."""
    lines = []
    for record in records:
        if record.is_result and record.status != "done":
            lines.append(f"{record.status}: {record.reason}")
        if record.tests():
            lines.append("test context  retention  chance  exact  token accuracy  val loss")
        for row in record.tests():
            found = row.figures
            loss = f"{found['val_loss']:.4f}" if "val_loss" in found else "–"
            lines.append(
                f"{row.context:>12}  {score_text(found.get('retention')):>9}  "
                f"{score_text(row.chance.get('retention')):>6}  "
                f"{score_text(found.get('exact')):>5}  "
                f"{score_text(found.get('token_accuracy')):>14}  {loss:>8}"
            )
    return "\n".join(lines)

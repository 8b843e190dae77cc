"""What a process gets to test a run later, and what it returns. No torch."""

from pathlib import Path
from typing import NamedTuple

from rulekeep.printable import pasted


class Job(NamedTuple):
    """The folder of a run, as an absolute path, and the lengths to test it at.

    `examples` are the number at each length; None takes the number in the spec of the run.
    """

    folder: str
    contexts: tuple[int, ...]
    examples: int | None
    command: str


class Outcome(NamedTuple):
    """The tested lengths, and lines to print."""

    tested: tuple[int, ...]
    notes: list[str]


def no_weights(folder: Path) -> str:
    """The message for a run without weights, and its fix."""
    return f"{folder}: no weights were kept; {trained_anew(folder)}"


def trained_anew(folder: Path) -> str:
    """How a run gets weights."""
    return (
        f"let rulekeep explain {pasted(folder)} train it again; where that says that "
        "they could not be kept, delete the folder and make the run again"
    )

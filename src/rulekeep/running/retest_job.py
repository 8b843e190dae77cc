"""What a process is handed to test a run later, and what it hands back. No torch."""

from pathlib import Path
from typing import NamedTuple


class Job(NamedTuple):
    """A run's folder, as an absolute path, and the lengths to test it at.

    `examples` are those of each length; None for as many as the run's spec says.
    """

    folder: str
    contexts: tuple[int, ...]
    examples: int | None
    command: str


class Outcome(NamedTuple):
    """Why nothing was tested, if so; the lengths that were; and lines to say."""

    refused: str | None
    tested: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def no_weights(folder: Path) -> str:
    """That a run has no weights, and what to do."""
    return f"{folder}: no weights were kept; {trained_anew(folder)}"


def trained_anew(folder: Path) -> str:
    """How a run gets weights."""
    return (
        f"let rulekeep explain {folder} train it again and keep them, or delete the folder and "
        "make the run again"
    )

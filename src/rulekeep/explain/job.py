"""What a process is handed to explain a run, and what it hands back. No torch."""

from typing import NamedTuple


class Job(NamedTuple):
    """A run's folder, as an absolute path, and how it is to be explained.

    `examples` train the probes; a quarter as many are scored.
    """

    folder: str
    contexts: tuple[int, ...]
    examples: int
    seed: int
    command: str


class Outcome(NamedTuple):
    """Why nothing could be explained, if so; else `explain.json` is written. And lines to say."""

    refused: str | None
    notes: tuple[str, ...]

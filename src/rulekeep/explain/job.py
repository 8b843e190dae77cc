"""What a process gets to explain a run, and what it returns. No torch."""

from typing import NamedTuple


class Job(NamedTuple):
    """The folder of a run, as an absolute path, and how to explain it.

    `examples` train the probes; a quarter as many are scored.
    """

    folder: str
    contexts: tuple[int, ...]
    examples: int
    seed: int
    command: str


class Outcome(NamedTuple):
    """Why nothing could be explained, if so (else `explain.json` is written); lines to print."""

    refused: str | None
    notes: tuple[str, ...]

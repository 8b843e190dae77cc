"""What a process is handed to explain a run, and what it hands back: no torch until it begins."""

from collections.abc import Callable
from typing import NamedTuple

from rulekeep.specs import UsageError


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


def explain(job: Job, progress: Callable[[int], None]) -> Outcome:
    """Explains a run; `progress` hears of every training step, then of every further stage."""
    from rulekeep.explain.explaining import write_explanation

    try:
        return Outcome(None, tuple(write_explanation(job, progress)))
    except UsageError as error:
        return Outcome(str(error), ())

"""Tries the code of a user in a process of its own, before the command runs it in its own process.

Code that hangs, exits or crashes when imported or constructed would end the command. Here it ends
only the trial, and the command reports it in one line.
"""

import os
import pickle
import sys
from typing import final

from rulekeep.executors.base import Finished, Progress
from rulekeep.executors.local import LocalExecutor
from rulekeep.plugins import Attempt
from rulekeep.specs import UsageError

LIMIT_SECONDS = 60.0
# A command that makes no runs has no fork server yet: this one is up sooner.
_LIGHT = [
    "rulekeep.executors.fork_server",
    "rulekeep.records.provenance",
    "rulekeep.executors.trial",
]
_HANGS = {
    "import": "did not load within {limit:g} s; take out what waits or computes at its import",
    "constructor": (
        "was not made within {limit:g} s; take out what waits or computes in its constructor"
    ),
}


@final
class Trial:
    """Tries each attempt once, for `limit` seconds at most."""

    def __init__(self) -> None:
        self.limit = LIMIT_SECONDS
        self._passed: set[bytes] = set()

    def prepare(self, *, torch: bool) -> None:
        """Start what the first attempt needs, while the command does something else."""
        _executor(torch=torch).prepare()

    def __call__(self, attempt: Attempt) -> bool:
        """Whether it was tried and succeeded; false if it cannot be sent to a process.

        Raises:
            UsageError: it fails, hangs, or ends its process.
        """
        try:
            content = pickle.dumps(attempt)
        except Exception:
            return False
        if content not in self._passed:
            executor = _executor(torch="torch" in sys.modules)
            *_, ended = executor.run(_try, [attempt], self.limit)
            assert isinstance(ended, Finished), ended
            if said := ended.result or _said(attempt, ended, self.limit):
                raise UsageError(said)
            self._passed.add(content)
        return True


def _executor(*, torch: bool) -> LocalExecutor:
    return LocalExecutor(1, [*_LIGHT, *(["torch", "rulekeep.running.resolving"] if torch else ())])


def _said(attempt: Attempt, ended: Finished, limit: float) -> str:
    failure = ended.failure
    if failure is None:
        return ""
    if failure.status == "timeout":
        return f"{attempt.named}: {_HANGS[attempt.part].format(limit=limit)}"
    if failure.status == "failed":
        return f"{attempt.named}: {' '.join(failure.reason.split())}"
    cause = failure.reason.removeprefix("its process ended by ")
    fix = "; raise an exception instead" if cause.startswith("exit code") else ""
    return f"{attempt.named}: its {attempt.part} ended the process ({cause}){fix}"


def _try(attempt: Attempt, _: Progress) -> str:
    """In the process: what is wrong, or nothing."""
    # The command does all of this again, and is heard then. There is nothing to read.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    try:
        attempt.function(attempt.argument)
    except UsageError as error:
        return str(error)
    return ""

"""What makes a run of each kind. It loads torch: only the process that makes runs needs it.

record = runner_of(resolved)(resolved, folder, progress, log)
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from rulekeep.article import cell
from rulekeep.records.store import RunFolder, Values
from rulekeep.running import predicting, run
from rulekeep.running.resolving import AnyResolved, Resolved, ResolvedCell, ResolvedPredictor

_Resolved = TypeVar("_Resolved", contravariant=True)


class Runner(Protocol[_Resolved]):
    """Makes a run: trains, tests, and returns its record without id, attempt and checksum.

    `folder` is where it may keep a checkpoint and weights; `progress` hears of every step, `log`
    of the figures of every look at the validation split.
    """

    def __call__(
        self,
        resolved: _Resolved,
        folder: RunFolder,
        progress: Callable[[int], None],
        log: Callable[[int, Mapping[str, float]], None],
        /,
    ) -> Values:
        """The record of what came of it."""
        ...


# Each by its own name, so that what it takes is checked by type.
_TRAINED: Runner[Resolved] = run.run
_SCORED: Runner[ResolvedPredictor] = predicting.run
_PUBLISHED: Runner[ResolvedCell] = cell.run_cell

RUNNERS: Mapping[type[AnyResolved], Runner[Any]] = {
    Resolved: _TRAINED,
    ResolvedPredictor: _SCORED,
    ResolvedCell: _PUBLISHED,
}


def runner_of(resolved: AnyResolved) -> Runner[Any]:
    """What makes this run."""
    return RUNNERS[type(resolved)]

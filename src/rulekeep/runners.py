"""What makes a run of each kind of spec. It loads torch: only the process that makes runs needs it.

record = runner_of(spec)(spec, folder, progress, log)
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from rulekeep import predicting, run
from rulekeep.article import cell
from rulekeep.specs import AnySpec, ArticleCell, PredictorSpec, RunSpec
from rulekeep.store import RunFolder, Values

_Spec = TypeVar("_Spec", contravariant=True)


class Runner(Protocol[_Spec]):
    """Makes a run: trains, tests, and returns its record without id, attempt and checksum.

    `folder` is where it may keep a checkpoint and weights; `progress` hears of every step, `log`
    of the figures of every look at the validation split.
    """

    def __call__(
        self,
        spec: _Spec,
        folder: RunFolder,
        progress: Callable[[int], None],
        log: Callable[[int, Mapping[str, float]], None],
        /,
    ) -> Values:
        """The record of what came of it."""
        ...


# Each by its own name, so that its spec is checked by type.
_TRAINED: Runner[RunSpec] = run.run
_SCORED: Runner[PredictorSpec] = predicting.run
_PUBLISHED: Runner[ArticleCell] = cell.run_cell

RUNNERS: Mapping[type[AnySpec], Runner[Any]] = {
    RunSpec: _TRAINED,
    PredictorSpec: _SCORED,
    ArticleCell: _PUBLISHED,
}


def runner_of(spec: AnySpec) -> Runner[Any]:
    """What makes a run of this spec."""
    return RUNNERS[type(spec)]

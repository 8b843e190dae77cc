"""How a spec of each kind is resolved, and what makes its run.

    resolved = resolve_any(spec)
    values = runner_of(resolved)(resolved, folder, progress, log)

Only what makes a run loads torch.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

from rulekeep.language.resolving import ResolvedLanguage, resolve_language
from rulekeep.records.store import RunFolder, Values
from rulekeep.running.resolving import (
    Resolved,
    ResolvedCell,
    ResolvedPredictor,
    resolve,
    resolve_cell,
    resolve_predictor,
)
from rulekeep.specs import AnySpec, ArticleCell, PredictorSpec, RunSpec

AnyResolved: TypeAlias = Resolved | ResolvedPredictor | ResolvedCell | ResolvedLanguage
_Resolved = TypeVar("_Resolved", contravariant=True)


def resolve_any(spec: AnySpec) -> AnyResolved:
    """Resolve a spec of any kind.

    Raises:
        UsageError: a name is unknown, or a value is impossible.
    """
    if isinstance(spec, RunSpec):
        return resolve(spec)
    if isinstance(spec, PredictorSpec):
        return resolve_predictor(spec)
    return resolve_cell(spec) if isinstance(spec, ArticleCell) else resolve_language(spec)


class Runner(Protocol[_Resolved]):
    """Makes a run: trains, tests, and returns its record without id, attempt and checksum.

    `folder` may hold a checkpoint and weights. `progress` is called with every step, `log` with the
    figures of every evaluation on the validation split.
    """

    def __call__(
        self,
        resolved: _Resolved,
        folder: RunFolder,
        progress: Callable[[int], None],
        log: Callable[[int, Mapping[str, float]], None],
        /,
    ) -> Values:
        """The record of the run."""
        ...


def runner_of(resolved: AnyResolved) -> Runner[Any]:
    """What makes this run."""
    from rulekeep.article import cell
    from rulekeep.language import run as language
    from rulekeep.running import predicting, run

    # Each by its own name, so that what it takes is checked by type.
    trained: Runner[Resolved] = run.run
    scored: Runner[ResolvedPredictor] = predicting.run
    published: Runner[ResolvedCell] = cell.run_cell
    in_words: Runner[ResolvedLanguage] = language.run
    runners: Mapping[type[AnyResolved], Runner[Any]] = {
        Resolved: trained,
        ResolvedPredictor: scored,
        ResolvedCell: published,
        ResolvedLanguage: in_words,
    }
    return runners[type(resolved)]

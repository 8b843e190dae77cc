"""How a spec of each kind is resolved, and what makes its run.

    resolved = resolve_any(spec)
    values = runner_of(resolved)(resolved, folder, progress, log)

Only what makes a run loads torch.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

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
from rulekeep.specs import AnySpec, ArticleCell, LanguageSpec, PredictorSpec, RunSpec

AnyResolved: TypeAlias = Resolved | ResolvedPredictor | ResolvedCell | ResolvedLanguage
# Makes a run of the folder, which may hold a checkpoint and weights. It calls the first function
# with every step, and the second with the figures of every evaluation on the validation split. What
# it returns is the record without id, attempt and checksum.
Runner: TypeAlias = Callable[
    [Any, RunFolder, Callable[[int], None], Callable[[int, Mapping[str, float]], None]], Values
]
# By kind, since a sweep may return a subclass of a spec.
_RESOLVERS: Mapping[str, Callable[[Any], AnyResolved]] = {
    RunSpec.kind: resolve,
    PredictorSpec.kind: resolve_predictor,
    ArticleCell.kind: resolve_cell,
    LanguageSpec.kind: resolve_language,
}


def resolve_any(spec: AnySpec) -> AnyResolved:
    """Resolve a spec of any kind.

    Raises:
        UsageError: a name is unknown, or a value is impossible.
    """
    return _RESOLVERS[spec.kind](spec)


def runner_of(resolved: AnyResolved) -> Runner:
    """What makes this run."""
    from rulekeep.article.cell import run_cell
    from rulekeep.language.run import run as in_words
    from rulekeep.running.predicting import run as scored
    from rulekeep.running.run import run as trained

    runners: Mapping[str, Runner] = {
        RunSpec.kind: trained,
        PredictorSpec.kind: scored,
        ArticleCell.kind: run_cell,
        LanguageSpec.kind: in_words,
    }
    return runners[resolved.spec.kind]

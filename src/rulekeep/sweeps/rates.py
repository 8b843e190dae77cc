"""The learning rate of each mixer in a preset, chosen by one rule.

The rule is `rulekeep.analysis.summary.RATE_RULE`, at training lengths. The grid has three rates,
and is extended once if the best one is at its edge. A rate counts once all tuning seeds are run. A
model that another preset trained and tested at other lengths counts too: it is not trained again.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rulekeep.analysis.cells import scores_of
from rulekeep.analysis.summary import RateChoice, ValidationScores, choose_learning_rate
from rulekeep.records import Record
from rulekeep.records.record import TESTED
from rulekeep.running.resolving import Resolved, resolve
from rulekeep.specs import MixerSpec, RunSpec, UsageError

RATES = (1e-3, 3e-3, 1e-2)


class Tuned(NamedTuple):
    """Grids of learning rates, and what is run at the rates that they choose."""

    grids: list[RunSpec]
    runs: list[RunSpec]


def tuned(
    mixers: Iterable[MixerSpec],
    records: Sequence[Record],
    base: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
    seeds: Sequence[int] = (),
) -> Tuned:
    """The grid of each mixer; and each of the runs, of every mixer whose grid has chosen a rate.

    `base` and `seeds` are of the grids, as in `rate_runs`; `runs` are values of a `RunSpec`.

    Raises:
        UsageError: a mixer is given a learning rate.
    """
    grids, rates = list[RunSpec](), list[tuple[MixerSpec, float]]()
    for one in mixers:
        grids += rate_runs(one, records, base, seeds)
        rate = chosen_rate(one, records, base, seeds)
        if rate is not None:
            rates.append((one, rate))
    return Tuned(
        grids, [one.spec(**values, learning_rate=rate) for values in runs for one, rate in rates]
    )


def rate_runs(
    one: MixerSpec, records: Iterable[Record], base: Mapping[str, Any], seeds: Sequence[int] = ()
) -> list[RunSpec]:
    """The runs of a mixer's grid of learning rates; with its extension once the grid is finished.

    `seeds` tune; by default the one of `base`. Runs that stand in the records with other tests are
    left out.

    Raises:
        UsageError: the mixer is given a learning rate.
    """
    if "learning_rate" in one.settings:
        raise UsageError(
            f"mixer {one.mixer}: the preset chooses learning_rate from a grid; leave it out"
        )
    seeds = seeds or (base["seed"],)
    found = _validated(one, records, base, seeds)
    return [
        one.spec(**{**base, "seed": seed}, learning_rate=rate)
        for rate in _rates(found, seeds)
        for seed in seeds
        if (rate, seed) not in found or found[rate, seed].is_own
    ]


def chosen_rate(
    one: MixerSpec, records: Sequence[Record], base: Mapping[str, Any], seeds: Sequence[int] = ()
) -> float | None:
    """The rate that the finished grid chooses; None if it is not finished, or if all diverged."""
    seeds = seeds or (base["seed"],)
    found = _validated(one, records, base, seeds)
    # Rates outside the grid do not count.
    choice = _choice(found, _rates(found, seeds), seeds, extended=True)
    return None if choice is None else choice.rate


class _Validated(NamedTuple):
    """What validation says of a run, and whether it was tested as is asked."""

    loss: float
    scores: ValidationScores | None
    is_own: bool


_Found = Mapping[tuple[float, int], _Validated]


def _rates(found: _Found, seeds: Sequence[int]) -> list[float]:
    """The grid, and its extension as soon as the grid is known."""
    choice = _choice(found, RATES, seeds, extended=False)
    if choice is None or choice.extension is None:
        return [*RATES]
    return [*RATES, choice.extension]


def _choice(
    found: _Found, rates: Sequence[float], seeds: Sequence[int], *, extended: bool
) -> RateChoice | None:
    if any((rate, seed) not in found for rate in rates for seed in seeds):
        return None
    # The loss and the scores of each.
    by_rate = {rate: [found[rate, seed][:2] for seed in seeds] for rate in rates}
    return choose_learning_rate(by_rate, extended=extended)


def _validated(
    one: MixerSpec, records: Iterable[Record], base: Mapping[str, Any], seeds: Sequence[int]
) -> _Found:
    # A record counts if it is of the same training: nothing else about it may differ,
    # an option that was left to its default or a version included.
    resolved = resolve(one.spec(**base))
    spec, versions = resolved.spec, dict(resolved.versions)
    wanted = (_trained(spec), _validated_at(spec))
    options = {name: _at_default(resolved, name) for name in ("task_options", "mixer_options")}
    found: dict[tuple[float, int], _Validated] = {}
    for record in records:
        # First, because it is cheap and excludes records of other kinds.
        if record.versions != versions:
            continue
        asked = record.spec.parsed()
        if not isinstance(asked, RunSpec) or asked.seed not in seeds:
            continue
        own = asked.model_copy(
            update={
                "learning_rate": spec.learning_rate,
                "seed": spec.seed,
                # A record says nothing of an option that came later: it had the default.
                **{name: {**left, **getattr(asked, name)} for name, left in options.items()},
            }
        )
        if (_trained(own), _validated_at(own)) == wanted:
            looks = [row for row in record.evaluations if row.split == "dev"]
            known = [row.figures["val_loss"] for row in looks if "val_loss" in row.figures]
            loss = sum(known) / len(known) if known else math.nan
            at = (asked.learning_rate, asked.seed)
            if at not in found or own == spec:
                found[at] = _Validated(loss, scores_of(looks), is_own=own == spec)
    return found


def _at_default(resolved: Resolved, name: str) -> dict[str, Any]:
    """The options of task or mixers that a run leaves at their defaults."""
    given = resolved.asked.get(name, {})
    return {key: value for key, value in getattr(resolved.spec, name).items() if key not in given}


def _trained(spec: RunSpec) -> dict[str, Any]:
    return spec.model_dump(exclude=set(TESTED))


def _validated_at(spec: RunSpec) -> set[int]:
    """The lengths of the final validation."""
    return {spec.context, *(tested for tested in spec.tested if tested <= spec.context)}

"""The learning rate of each mixer in a preset, chosen by one rule.

The rule is `rulekeep.analysis.summary.RATE_RULE`, at training lengths. The grid has three rates,
and is extended once if the best one is at its edge. A rate counts once all tuning seeds are run. A
model that another preset trained and tested at other lengths counts too: it is not trained again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rulekeep.analysis.groups import validation
from rulekeep.analysis.summary import RateChoice, ValidationScores, choose_learning_rate
from rulekeep.records import Record
from rulekeep.records.record import TESTED
from rulekeep.running.building import resolve
from rulekeep.specs import MixerSpec, RunSpec, UsageError

RATES = (1e-3, 3e-3, 1e-2)


class Tuned(NamedTuple):
    """A grid of learning rates, and the rate that it chooses."""

    grid: list[RunSpec]
    rate: float | None


def tuned(
    one: MixerSpec,
    records: Iterable[Record],
    base: Mapping[str, Any],
    seeds: Sequence[int] = (),
    rates: Sequence[float] | None = None,
) -> Tuned:
    """The runs of a mixer's grid, with its extension once the grid is finished, and its choice.

    `seeds` tune; by default the one of `base`. Given `rates` are the whole grid. Runs that stand in
    the records with other tests are left out. The rate is None if the grid is not finished, or if
    all diverged.
    """
    if "learning_rate" in one.settings:
        raise UsageError(
            f"mixer {one.mixer}: the preset chooses learning_rate from a grid; leave it out"
        )
    seeds = seeds or (base["seed"],)
    found = _validated(one, records, base, seeds)

    def choice(rates: Sequence[float], *, extended: bool) -> RateChoice | None:
        if any((rate, seed) not in found for rate in rates for seed in seeds):
            return None
        # The loss and the scores of each.
        by_rate = {rate: [found[rate, seed][:2] for seed in seeds] for rate in rates}
        return choose_learning_rate(by_rate, extended=extended)

    if not rates:
        # The grid, and its extension as soon as the grid is known.
        first = choice(RATES, extended=False)
        rates = [*RATES, *([first.extension] if first and first.extension is not None else [])]
    grid = [
        one.spec(**{**base, "seed": seed}, learning_rate=rate)
        for rate in rates
        for seed in seeds
        if (rate, seed) not in found or found[rate, seed].is_own
    ]
    # Rates outside the grid do not count.
    chosen = choice(rates, extended=True)
    return Tuned(grid, chosen.rate if chosen else None)


class _Validated(NamedTuple):
    """What validation says of a run, and whether it was tested as is asked."""

    loss: float
    scores: ValidationScores | None
    is_own: bool


def _validated(
    one: MixerSpec, records: Iterable[Record], base: Mapping[str, Any], seeds: Sequence[int]
) -> Mapping[tuple[float, int], _Validated]:
    # A record counts if it is of the same training: nothing else about it may differ,
    # an option that was left to its default or a version included.
    resolved = resolve(one.spec(**base))
    spec, versions = resolved.spec, dict(resolved.versions)
    trained, lengths = spec.model_dump(exclude=set(TESTED)), _validated_at(spec)
    # What the run leaves at its default.
    options = {
        name: {
            key: value
            for key, value in getattr(spec, name).items()
            if key not in resolved.asked.get(name, {})
        }
        for name in ("task_options", "mixer_options")
    }
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
        if (own.model_dump(exclude=set(TESTED)), _validated_at(own)) == (trained, lengths):
            # `rulekeep test` adds others to a run, which the rest of the grid may lack.
            looks = [
                row
                for row in record.evaluations
                if row.split == "validation" and row.context in lengths
            ]
            at = (asked.learning_rate, asked.seed)
            if at not in found or own == spec:
                found[at] = _Validated(*validation(looks), is_own=own == spec)
    return found


def _validated_at(spec: RunSpec) -> set[int]:
    """The lengths of the final validation."""
    return {spec.context, *(tested for tested in spec.tested if tested <= spec.context)}

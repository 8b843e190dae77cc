"""The learning rate of each mixer in a preset, chosen by one rule.

The rule takes the rate with the lowest mean validation loss at training lengths. The grid has three
rates, and is extended once if the best one is at its edge. A model that another preset trained and
tested at other lengths counts too: it is not trained again for the grid.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rulekeep.analysis.summary import choose_learning_rate
from rulekeep.records import Record
from rulekeep.records.record import TESTED
from rulekeep.running.resolving import Resolved, resolve
from rulekeep.specs import MixerSpec, RunSpec, UsageError

RATES = (1e-3, 3e-3, 1e-2)


def rate_runs(one: MixerSpec, records: Iterable[Record], base: Mapping[str, Any]) -> list[RunSpec]:
    """The runs of a mixer's grid of learning rates; with its extension once the grid is finished.

    Rates whose runs stand in the records with other tests are left out.

    Raises:
        UsageError: the mixer is given a learning rate.
    """
    if "learning_rate" in one.settings:
        raise UsageError(
            f"mixer {one.mixer}: the preset chooses learning_rate from a grid; leave it out"
        )
    losses, elsewhere = _validation_losses(one, records, base)
    asked = [rate for rate in _rates(losses) if rate not in elsewhere]
    return [one.spec(**base, learning_rate=rate) for rate in asked]


def chosen_rate(one: MixerSpec, records: Sequence[Record], base: Mapping[str, Any]) -> float | None:
    """The rate that the finished grid chooses; None if it is not finished, or if all diverged."""
    losses = _validation_losses(one, records, base).losses
    grid = _rates(losses)
    if not set(grid) <= losses.keys():
        return None
    # Rates outside the grid do not count.
    return choose_learning_rate({rate: losses[rate] for rate in grid}, extended=True).rate


def _rates(losses: Mapping[float, Sequence[float]]) -> list[float]:
    """The grid, and its extension as soon as the grid is known."""
    if not set(RATES) <= losses.keys():
        return [*RATES]
    choice = choose_learning_rate({rate: losses[rate] for rate in RATES}, extended=False)
    return [*RATES] if choice.extension is None else [*RATES, choice.extension]


class _Losses(NamedTuple):
    """The validation loss of each rate, and the rates whose runs had other tests."""

    losses: dict[float, list[float]]
    elsewhere: set[float]


def _validation_losses(
    one: MixerSpec, records: Iterable[Record], base: Mapping[str, Any]
) -> _Losses:
    # A record counts if it is of the same training: nothing else about it may differ,
    # an option that was left to its default or a version included.
    resolved = resolve(one.spec(**base))
    spec, versions = resolved.spec, dict(resolved.versions)
    wanted = (_trained(spec), _validated_at(spec))
    options = {name: _at_default(resolved, name) for name in ("task_options", "mixer_options")}
    found: dict[float, list[float]] = {}
    elsewhere: dict[float, list[float]] = {}
    for record in records:
        # First, because it is cheap and excludes records of other kinds.
        if record.versions != versions:
            continue
        asked = record.spec.parsed()
        if not isinstance(asked, RunSpec):
            continue
        own = asked.model_copy(
            update={
                "learning_rate": spec.learning_rate,
                # A record says nothing of an option that came later: it had the default.
                **{name: {**left, **getattr(asked, name)} for name, left in options.items()},
            }
        )
        if (_trained(own), _validated_at(own)) == wanted:
            rows = [row.figures.get("val_loss") for row in record.evaluations if row.split == "dev"]
            known = [loss for loss in rows if loss is not None]
            loss = sum(known) / len(known) if known else math.nan
            (found if own == spec else elsewhere)[asked.learning_rate] = [loss]
    return _Losses({**elsewhere, **found}, set(elsewhere) - set(found))


def _at_default(resolved: Resolved, name: str) -> dict[str, Any]:
    """The options of task or mixers that a run leaves at their defaults."""
    given = resolved.asked.get(name, {})
    return {key: value for key, value in getattr(resolved.spec, name).items() if key not in given}


def _trained(spec: RunSpec) -> dict[str, Any]:
    return spec.model_dump(exclude=set(TESTED))


def _validated_at(spec: RunSpec) -> set[int]:
    """The lengths of the final validation."""
    return {spec.context, *(tested for tested in spec.tested if tested <= spec.context)}

"""What competes in a preset: a mixer with its options, and its learning rate by one rule.

    attention[positions=rotary], delta[heads=8], my_file.py:MyMixer

The learning rate of each is the one with the lowest mean dev loss at training lengths in a grid
of three, extended once where the best stands at its edge. A model that another preset trained to
test it at other lengths has been looked at on dev already, and is not trained again for the grid.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rulekeep.analysis.summary import choose_learning_rate
from rulekeep.records import Record
from rulekeep.records.record import TESTED
from rulekeep.running.resolving import Resolved, resolve
from rulekeep.specs import Contestant, RunSpec, UsageError

RATES = (1e-3, 3e-3, 1e-2)


def rate_runs(one: Contestant, records: Iterable[Record], base: Mapping[str, Any]) -> list[RunSpec]:
    """The grid's runs of a contestant, its extension included as soon as the grid is known.

    Those that only stand in the records with other tests are left out.

    Raises:
        UsageError: the contestant has a learning rate of its own.
    """
    if "learning_rate" in one.settings:
        raise UsageError(
            f"mixer {one.mixer}: learning_rate is chosen on dev here, from a grid; leave it out"
        )
    losses, elsewhere = _dev_losses(one, records, base)
    asked = [rate for rate in _rates(losses) if rate not in elsewhere]
    return [one.spec(**base, learning_rate=rate) for rate in asked]


def chosen_rate(
    one: Contestant, records: Sequence[Record], base: Mapping[str, Any]
) -> float | None:
    """The rate that the finished grid chooses; None while it is not finished, or all diverged."""
    losses = _dev_losses(one, records, base).losses
    grid = _rates(losses)
    if not set(grid) <= losses.keys():
        return None
    # What else was run at a rate of its own competes with nothing.
    return choose_learning_rate({rate: losses[rate] for rate in grid}, extended=True).rate


def _rates(losses: Mapping[float, Sequence[float]]) -> list[float]:
    """The grid, and its extension as soon as the grid is known."""
    if not set(RATES) <= losses.keys():
        return [*RATES]
    choice = choose_learning_rate({rate: losses[rate] for rate in RATES}, extended=False)
    return [*RATES] if choice.extension is None else [*RATES, choice.extension]


class _Looks(NamedTuple):
    """The dev loss of each rate, and the rates whose runs were tested otherwise than is asked."""

    losses: dict[float, list[float]]
    elsewhere: set[float]


def _dev_losses(one: Contestant, records: Iterable[Record], base: Mapping[str, Any]) -> _Looks:
    # A record is this contestant's if it is the very training: nothing else about it may differ,
    # an option that was left to its default or a version included.
    resolved = resolve(one.spec(**base))
    spec, versions = resolved.spec, dict(resolved.versions)
    wanted = (_trained(spec), _looked_at(spec))
    options = {name: _at_default(resolved, name) for name in ("task_options", "mixer_options")}
    found: dict[float, list[float]] = {}
    elsewhere: dict[float, list[float]] = {}
    for record in records:
        # First, since it is cheap, and what is of another kind has none of what follows.
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
        if (_trained(own), _looked_at(own)) == wanted:
            rows = [row.figures.get("val_loss") for row in record.evaluations if row.split == "dev"]
            known = [loss for loss in rows if loss is not None]
            loss = sum(known) / len(known) if known else math.nan
            (found if own == spec else elsewhere)[asked.learning_rate] = [loss]
    return _Looks({**elsewhere, **found}, set(elsewhere) - set(found))


def _at_default(resolved: Resolved, name: str) -> dict[str, Any]:
    """The options of its task or its mixers that a run leaves at their defaults."""
    given = resolved.asked.get(name, {})
    return {key: value for key, value in getattr(resolved.spec, name).items() if key not in given}


def _trained(spec: RunSpec) -> dict[str, Any]:
    return spec.model_dump(exclude=set(TESTED))


def _looked_at(spec: RunSpec) -> set[int]:
    """The lengths at which dev is looked at in the end."""
    return {spec.context, *(tested for tested in spec.tested if tested <= spec.context)}

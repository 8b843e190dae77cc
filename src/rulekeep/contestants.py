"""What competes in a preset: a mixer with its options, and its learning rate by one rule.

    attention[positions=rotary], delta[heads=8], my_file.py:MyMixer

The learning rate of each is the one with the lowest mean dev loss at training lengths in a grid
of three, extended once where the best stands at its edge.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rulekeep.resolving import described
from rulekeep.specs import Contestant, RunSpec
from rulekeep.store import Record
from rulekeep.summary import choose_learning_rate

RATES = (1e-3, 3e-3, 1e-2)


def rate_runs(one: Contestant, records: Iterable[Record], base: Mapping[str, Any]) -> list[RunSpec]:
    """The grid's runs of a contestant, its extension included as soon as the grid is known."""
    specs = [one.spec(**base, learning_rate=rate) for rate in RATES]
    losses = _dev_losses(one, records, base)
    if set(RATES) <= losses.keys():
        choice = choose_learning_rate({rate: losses[rate] for rate in RATES}, extended=False)
        if choice.extension is not None:
            specs.append(one.spec(**base, learning_rate=choice.extension))
    return specs


def chosen_rate(
    one: Contestant, records: Sequence[Record], base: Mapping[str, Any]
) -> float | None:
    """The rate that the finished grid chooses; None while it is not finished, or all diverged."""
    losses = _dev_losses(one, records, base)
    if any(spec.learning_rate not in losses for spec in rate_runs(one, records, base)):
        return None
    return choose_learning_rate(losses, extended=True).rate


def _dev_losses(
    one: Contestant, records: Iterable[Record], base: Mapping[str, Any]
) -> dict[float, list[float]]:
    # A record is this contestant's if it is the very run: nothing else about it may differ,
    # an option that was left to its default or the code included.
    spec, source = described(one.spec(**base))
    wanted = spec.model_dump(mode="json", exclude={"learning_rate"})
    found = {}
    for record in records:
        own = {key: value for key, value in record["spec"].items() if key != "learning_rate"}
        if own == wanted and record["source"] == source:
            rows = [row["val_loss"] for row in record["evaluations"] if row["split"] == "dev"]
            loss = sum(rows) / len(rows) if rows else math.nan
            found[record["spec"]["learning_rate"]] = [loss]
    return found

"""What competes in a preset: a mixer with its options, and its learning rate by one rule.

    attention[positions=rotary], delta[heads=8], my_file.py:MyMixer

An option that is a field of a run's spec (as `added_positions` or `width`) goes there, any
other to the mixer. The learning rate of each is the one with the lowest mean dev loss at
training lengths in a grid of three, extended once where the best stands at its edge.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rulekeep.resolving import described
from rulekeep.specs import Option, RunSpec, UsageError
from rulekeep.store import Record
from rulekeep.summary import choose_learning_rate

RATES = (1e-3, 3e-3, 1e-2)
_ONE = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")
_BETWEEN = re.compile(r",(?![^\[]*\])")


class Contestant(NamedTuple):
    """A mixer, its own options, and what else its runs are given."""

    mixer: str
    options: Mapping[str, Option]
    settings: Mapping[str, Option]

    def spec(self, **values: Any) -> RunSpec:
        """A run of it."""
        return RunSpec.parse_json(
            {**values, "mixer": self.mixer, "mixer_options": self.options, **self.settings}
        )


def contestants(text: str) -> tuple[Contestant, ...]:
    """The contestants that a text names.

    Raises:
        UsageError: it is written in another way.
    """
    found: list[Contestant] = []
    for part in _BETWEEN.split(text):
        match = _ONE.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"mixer {part.strip()!r}: write name or name[option=value,…]")
        options: dict[str, Option] = {}
        for pair in filter(None, (match[2] or "").split(",")):
            key, equals, value = pair.partition("=")
            if not equals:
                raise UsageError(f"mixer {part.strip()!r}: {pair!r} must be option=value")
            options[key.strip().replace("-", "_")] = scalar(value.strip())
        settings = {key: options.pop(key) for key in list(options) if key in RunSpec.model_fields}
        one = Contestant(match[1].strip(), options, settings)
        if one in found:
            raise UsageError(f"mixer {part.strip()!r}: given twice; name each once")
        found.append(one)
    return tuple(found)


def scalar(text: str) -> Option:
    """An option's value: a number, true, false, None or null, or the text itself."""
    if text in ("None", "null"):
        return None
    try:
        value = json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except ValueError:
        return text
    if isinstance(value, float) and not math.isfinite(value):
        return text
    return value if isinstance(value, (bool, int, float)) else text


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

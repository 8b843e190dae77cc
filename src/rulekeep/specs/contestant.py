"""What competes, as a user writes it: a mixer with its options.

    attention[positions=rotary], delta[heads=8], my_file.py:MyMixer

An option that is a field of a run's spec (as `added_positions` or `width`) goes there, any
other to the mixer.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from rulekeep.specs.base import UsageError
from rulekeep.specs.renamed import tell_field, tell_option
from rulekeep.specs.run import Option, RunSpec

_ONE = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")
_BETWEEN = re.compile(r",(?![^\[]*\])")
# What a sweep varies: with one value for all its runs, several would be one.
_OF_THE_SWEEP = ("task", "task_options", "mixer", "mixer_options", "seed")


class Contestant(NamedTuple):
    """A mixer, its own options, and what else its runs are given."""

    mixer: str
    options: Mapping[str, Option]
    settings: Mapping[str, Option]

    def spec(self, **values: Any) -> RunSpec:
        """A run of it.

        Raises:
            UsageError: its settings cannot be a run's, or say what the sweep varies.
        """
        for name in _OF_THE_SWEEP:
            if name in self.settings:
                raise UsageError(
                    f"mixer {self.mixer}: {name} is for the sweep to say; leave it out"
                )
        return RunSpec.parse_json(
            {**values, "mixer": self.mixer, "mixer_options": self.options, **self.settings}
        )


def contestants(text: str) -> tuple[Contestant, ...]:
    """The contestants that a text names.

    Raises:
        UsageError: it is written in another way.
    """
    found: list[Contestant] = []
    for part in split_names(text):
        match = _ONE.fullmatch(part)
        if match is None:
            raise UsageError(f"mixer {part!r}: write name or name[option=value,…]")
        options: dict[str, Option] = {}
        for pair in filter(None, (match[2] or "").split(",")):
            key, equals, value = pair.partition("=")
            if not equals:
                raise UsageError(f"mixer {part!r}: {pair!r} must be option=value")
            name = option_name(key.strip())
            name = tell_field(tell_option(match[1].strip(), name))
            if name in options:
                raise UsageError(f"mixer {part!r}: {name} is given twice; give it once")
            options[name] = scalar(value.strip())
        settings = {key: options.pop(key) for key in list(options) if key in RunSpec.model_fields}
        one = Contestant(match[1].strip(), options, settings)
        if one in found:
            raise UsageError(f"mixer {part!r}: given twice; name each once")
        found.append(one)
    return tuple(found)


def option_name(text: str) -> str:
    """An option that is typed as `half-life`, by its name; a file's name keeps its hyphens."""
    of, dot, name = text.rpartition(".")
    of = of if ":" in of else of.replace("-", "_")
    return of + dot + name.replace("-", "_")


def written(mixer: str, options: Mapping[str, Option]) -> str:
    """A mixer with its options as `contestants` reads them; no text has a comma or a bracket."""
    pairs = [f"{key}={_typed(value)}" for key, value in options.items()]
    return f"{mixer}[{','.join(pairs)}]" if pairs else mixer


def _typed(value: Option) -> str:
    if isinstance(value, str):
        # Text that would be read as another value goes in quotes.
        return value if scalar(value.strip()) == value else json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def scalar(text: str) -> Option:
    """An option's value: a number, true, false, None or null, text in double quotes, or itself."""
    if text in ("None", "null"):
        return None
    try:
        value = json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except ValueError:
        return text
    if isinstance(value, float) and not math.isfinite(value):
        return text
    return value if isinstance(value, (bool, int, float, str)) else text


def split_names(text: str) -> tuple[str, ...]:
    """What stands between the commas of a list of contestants, brackets kept whole."""
    return tuple(part.strip() for part in _BETWEEN.split(text))

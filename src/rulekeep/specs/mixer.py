"""A mixer with its options, as a user writes it.

    attention[positions=rotary], delta[heads=8], my_file.py:MyMixer

An option that is a field of a run's spec, such as `width`, goes to the run. Any other goes to the
mixer.
"""

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from rulekeep.specs.base import UsageError
from rulekeep.specs.run import Option, RunSpec

_ONE = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")
_BETWEEN = re.compile(r",(?![^\[]*\])")
_QUOTED = re.compile(r'(?<==)"(?:[^"\\]|\\.)*"')
# The settings of a run that make its model beside the mixer.
MODEL = ("width", "layers", "hidden", "added_positions")
# What a sweep varies itself.
_OF_THE_SWEEP = ("task", "task_options", "mixer", "mixer_options", "seed")


class MixerSpec(NamedTuple):
    """A mixer, its own options, and the settings of its runs."""

    mixer: str
    options: Mapping[str, Option]
    settings: Mapping[str, Option]

    @property
    def text(self) -> str:
        """As `mixer_specs` reads it."""
        return written(self.mixer, {**self.options, **self.settings})

    def spec(self, **values: Any) -> RunSpec:
        """The spec of a run with this mixer.

        Raises:
            UsageError: a setting is no valid value of a run, or is one that the sweep varies.
        """
        for name in _OF_THE_SWEEP:
            if name in self.settings:
                raise UsageError(f"mixer {self.mixer}: the sweep sets {name}; leave it out")
        return RunSpec.parse(
            **{**values, "mixer": self.mixer, "mixer_options": self.options, **self.settings}
        )


def mixer_specs(text: str) -> tuple[MixerSpec, ...]:
    """The mixers that a text names.

    Raises:
        UsageError: the text is written in another way.
    """
    found: list[MixerSpec] = []
    for part in split_names(text):
        match = _ONE.fullmatch(_without_quoted(part))
        if match is None:
            raise UsageError(
                f"mixer {part!r}: write name or name[option=value,…]; text with commas or brackets "
                "goes in double quotes, and lists cannot stand there"
            )
        options: dict[str, Option] = {}
        inside = part[slice(*match.span(2))] if match[2] else ""
        for pair in filter(None, split_names(inside)):
            key, equals, value = pair.partition("=")
            if not equals:
                raise UsageError(f"mixer {part!r}: {pair!r} must be option=value")
            name = option_name(key.strip())
            if name in options:
                raise UsageError(f"mixer {part!r}: {name} is given twice; give it once")
            options[name] = scalar(value.strip())
        settings = {key: options.pop(key) for key in list(options) if key in RunSpec.model_fields}
        one = MixerSpec(match[1].strip(), options, settings)
        if one in found:
            raise UsageError(f"mixer {part!r}: given twice; name each once")
        found.append(one)
    return tuple(found)


def option_name(text: str) -> str:
    """The name of an option typed with hyphens (`half-life`); a file's name keeps its hyphens."""
    of, dot, name = text.rpartition(".")
    of = of if ":" in of else of.replace("-", "_")
    return of + dot + name.replace("-", "_")


def written(mixer: str, options: Mapping[str, Option]) -> str:
    """A mixer with its options, as `mixer_specs` reads them."""
    pairs = [f"{key}={_typed(value)}" for key, value in options.items()]
    return f"{mixer}[{','.join(pairs)}]" if pairs else mixer


def _typed(value: Option) -> str:
    if isinstance(value, str):
        # Text that would be read otherwise goes in quotes.
        is_plain = scalar(value.strip()) == value and not {*',[]"'} & {*value}
        return value if is_plain else json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def scalar(text: str) -> Option:
    """An option's value: a number, true, false, None or null, text in double quotes, or itself.

    What no spec takes, as nan and inf, is a number too: the spec refuses it.
    """
    if text in ("None", "null"):
        return None
    if re.fullmatch(r"[+-]?(nan|inf|infinity)", text, re.IGNORECASE):
        return float(text)
    try:
        value = json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except ValueError:
        return text
    return value if isinstance(value, (bool, int, float, str)) else text


def split_names(text: str) -> tuple[str, ...]:
    """The parts of a list between its commas; brackets and values in double quotes stay whole."""
    commas = [found.start() for found in _BETWEEN.finditer(_without_quoted(text))]
    return tuple(
        text[before + 1 : after].strip() for before, after in pairwise([-1, *commas, len(text)])
    )


def _without_quoted(text: str) -> str:
    """A text of the same length, its values in double quotes blanked."""
    return _QUOTED.sub(lambda found: " " * len(found[0]), text)

"""The spec of a run as a user writes it: a TOML file, and flags that override it."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from cyclopts import Parameter
from pydantic import BeforeValidator, ConfigDict, create_model

from rulekeep.commands.options import between_commas
from rulekeep.specs import Option, RunSpec, UsageError, option_name, scalar

_LARGEST_FILE, _LONGEST = 2**20, 2**20
_FINITE = ConfigDict(allow_inf_nan=False)
# The fields that hold options of a task or a mixer, by name.
_OPTIONS = [
    name for name, field in RunSpec.model_fields.items() if get_origin(field.annotation) is dict
]


# The protocol of the committed baselines. A spec's own defaults are another matter: ids are made
# of what differs from them, so they stay.
_DEFAULTS = {"context": 256, "steps": 1000, "length_growth": 0.65, "validation_examples": 128}
_LENGTHS = {256: (256, 1028, 4096)}
_WARMUP: int = RunSpec.model_fields["warmup_steps"].default
_TOLD = {
    "test_contexts": "Lengths to test at, between commas; 1, 4 and 16 times the context if left "
    "out.",
    "warmup_steps": f"Steps of linear warm-up; steps / 10, {_WARMUP} at most, if left out.",
    "device": "cpu, cuda or cuda:N. No GPU has run this yet.",
}


def with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a run; missing ones give 1,000 steps to 256 tokens, tested up to 16 times."""
    # What was given comes first: an error shows the beginning of all values.
    values = values | {name: value for name, value in _DEFAULTS.items() if name not in values}
    context, steps = values["context"], values["steps"]
    if "warmup_steps" not in values and isinstance(steps, int) and 0 < steps < 10 * _WARMUP:
        values["warmup_steps"] = steps // 10
    if "test_contexts" not in values and isinstance(context, int) and context < _LONGEST:
        learned = values.get("added_positions") == "learned"
        longer = (context, 4 * context, 16 * context)
        values["test_contexts"] = (context,) if learned else _LENGTHS.get(context, longer)
    return values


# What a flag takes where it is not what the spec's field holds.
_KINDS: dict[str, Any] = {
    "test_contexts": Annotated[tuple[int, ...], BeforeValidator(between_commas)],
    "precision": Literal["float32", "bfloat16", "bf16"],
}


def _flag(name: str) -> tuple[Any, None]:
    field = RunSpec.model_fields[name]
    kind: Any = dict[str, Any] if name in _OPTIONS else _KINDS.get(name, field.annotation)
    default = _DEFAULTS.get(name, field.default)
    told = _TOLD.get(name) or field.description or ""
    shown = default is not False and default not in ({}, (), None) and "if left out" not in told
    text = f"{told}{f' [default: {default}]' if shown else ''}"
    # What is on without a word can be turned off.
    negative = None if field.default is True else ""
    return Annotated[kind | None, Parameter(help=text, negative=negative)], None


# The fields of a spec as flags; what is left out is None.
_FIELDS: dict[str, Any] = {name: _flag(name) for name in RunSpec.model_fields}
Flags: Any = create_model("Flags", __config__=_FINITE, **_FIELDS)


def spec_values(file: str | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a spec: those of the file, overridden by the flags.

    Raises:
        UsageError: the file cannot be read.
    """
    values = {} if file is None else _from_toml(file)
    for name, given in flags.items():
        value = dict(named_options(given)) if name in _OPTIONS else given
        below = values.get(name)
        if isinstance(value, dict) and isinstance(below, dict):
            value = {**below, **value}
        values[name] = value
    return values


def _from_toml(name: str) -> dict[str, Any]:
    path = Path(name)
    try:
        # Not its size: a pipe has none, and some files have no end.
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise UsageError(f"{name}: is larger than 1 MiB: that is no spec; name a TOML file")
        values = tomllib.loads(content.decode("utf-8-sig"))
        for key in _OPTIONS:
            if isinstance(values.get(key), dict):
                values[key] = _flattened(key, values[key])
        return values
    # A ValueError as those below.
    except UsageError:
        raise
    except UnicodeDecodeError:
        raise UsageError(f"{name}: is not UTF-8 text; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: is not TOML: {error}; write name = value") from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        a_class = ".py:" in name
        fix = f"a class of yours goes to --mixer {name}" if a_class else "name a TOML file"
        raise UsageError(f"{name}: cannot be read ({said}); {fix}") from None
    except RecursionError:
        raise UsageError(f"{name}: is nested too deeply; write name = value") from None


def named_options(options: Mapping[str, Any]) -> Iterator[tuple[str, Option]]:
    """Options typed as text, by name."""
    for name, text in _by_name(options):
        yield option_name(name), scalar(text)


def _flattened(key: str, options: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in _by_name(options):
        if name in found:
            raise UsageError(f"{key}: {name} is given twice; give it once")
        found[name] = value
    return found


def _by_name(options: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Options with their values; a hybrid's `delta.heads` comes from a nested table."""
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _by_name(value, f"{before}{key}.")
        else:
            yield before + key, value

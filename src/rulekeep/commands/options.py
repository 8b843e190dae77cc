"""The options of several commands: cyclopts parses, these restrict values.

A parser raises `ValueError` with the fix alone; `cli` puts the option and its value before it.
"""

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, get_origin

from cyclopts import Parameter, Token
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from rulekeep.specs import LEFT_OUT, USUAL, Option, RunSpec, UsageError, option_name, scalar
from rulekeep.specs.base import between_commas, known_device
from rulekeep.specs.run import in_order

_T = TypeVar("_T")


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError("must be a whole number") from None


def within(least: int, most: float = math.inf) -> Parameter:
    """A whole number in this range."""

    def check(_: Any, value: int | None) -> None:
        if value is not None and not least <= value <= most:
            fix = f"must be {least} or more"
            raise ValueError(fix if most == math.inf else f"must be from {least} to {most}")

    return Parameter(converter=_whole, validator=check)


def _between_commas(read: Callable[[str], _T], kind: str) -> Callable[[Any, Any], tuple[_T, ...]]:
    """Reads values between commas; a repeated option adds to them."""

    def converted(_: Any, tokens: Sequence[Token]) -> tuple[_T, ...]:
        try:
            return tuple(map(read, between_commas([token.value for token in tokens])))
        except ValueError:
            raise ValueError(f"must be {kind}, or several between commas") from None

    return converted


def _lengths(kind: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    return in_order(_integers(kind, tokens))


def _shown(values: Sequence[object] | None) -> str | None:
    return None if values is None else ",".join(map(str, values))


_integers = _between_commas(int, "a whole number")
_rates = _between_commas(float, "a number")
_texts = _between_commas(str, "a text")
_SEVERAL = Parameter(n_tokens=1, negative="", show_default=_shown)
# Not as cyclopts reads one: it would make 64 of 64.5.
Whole: TypeAlias = Annotated[int, Parameter(converter=_whole)]
Integers: TypeAlias = Annotated[tuple[int, ...], _SEVERAL, Parameter(converter=_integers)]
Rates: TypeAlias = Annotated[tuple[float, ...], _SEVERAL, Parameter(converter=_rates)]
Texts: TypeAlias = Annotated[tuple[str, ...], _SEVERAL, Parameter(converter=_texts)]
# From the shortest, none twice.
Lengths: TypeAlias = Annotated[tuple[int, ...], _SEVERAL, Parameter(converter=_lengths)]
Seed: TypeAlias = Annotated[int, within(0, 2**63 - 1)]
Workers: TypeAlias = Annotated[int | None, within(1)]
_DEVICE_HELP = "cpu, cuda or cuda:N. No GPU has run this yet."
Device: TypeAlias = Annotated[
    str, Parameter(validator=lambda _, text: known_device(text), help=_DEVICE_HELP)
]
Flag: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]


# --- the spec of a run: a TOML file, and flags that override it ---


def _flag(name: str, field: FieldInfo) -> tuple[Any, None]:
    """A field of a run as a flag; what is left out is None."""
    # What a dict holds is text, to be read as that of brackets is.
    is_dict = get_origin(field.annotation) is dict
    kind: Any = dict[str, Any] if is_dict else Annotated[field.annotation, Field(), *field.metadata]
    default = USUAL.get(name, field.default)
    text = LEFT_OUT.get(name, f" [default: {default}]" if default not in ({}, None) else "")
    help_text = f"{(field.description or '').rstrip('.')}. {text.strip()}"
    # What is on without a word can be turned off.
    negative = None if field.default is True else ""
    return Annotated[kind | None, Parameter(help=help_text, negative=negative)], None


_FIELDS: dict[str, Any] = {name: _flag(name, field) for name, field in RunSpec.model_fields.items()}
# Not checked yet: a value of the file may be missing.
Flags: type[BaseModel] = create_model(
    "Flags", __config__=ConfigDict(allow_inf_nan=False), **_FIELDS
)


def spec_values(file: str | None, flags: BaseModel | None) -> dict[str, Any]:
    """The values of a spec: those of the file, overridden by the flags.

    Raises:
        UsageError: the file cannot be read.
    """
    values = {} if file is None else _from_toml(file)
    for name, given in flags.model_dump(exclude_none=True).items() if flags else ():
        if isinstance(given, dict):
            values[name] = {**values.get(name, {}), **dict(named_options(given))}
        else:
            values[name] = given
    return values


def _from_toml(name: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(Path(name).read_text("utf-8"))
    except OSError as error:
        fix = f"; a class of yours goes to --mixer {name}" if ".py:" in name else ""
        raise UsageError(f"{name}: {error.strerror}; name a TOML file{fix}") from None
    except ValueError as error:
        raise UsageError(f"{name}: is not TOML: {error}; write name = value") from None
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    return {**values, **{key: dict(_by_name(table)) for key, table in tables.items()}}


def named_options(options: Mapping[str, Any]) -> Iterator[tuple[str, Option]]:
    """Options typed as text, by name."""
    for name, text in _by_name(options):
        yield option_name(name), scalar(text)


def _by_name(options: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Options with their values; a hybrid's `delta.heads` comes from a nested table."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _by_name(value, f"{before}{key}.")
        else:
            yield before + key, value

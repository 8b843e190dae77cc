"""The spec of a run as a user writes it: a TOML file, and flags that override it."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from cyclopts import Parameter
from pydantic import BaseModel, BeforeValidator, ConfigDict, create_model
from pydantic.fields import FieldInfo

from rulekeep.specs import LEFT_OUT, USUAL, Option, RunSpec, UsageError, option_name, scalar


def _parts(texts: Sequence[object]) -> list[str]:
    """The numbers between commas; a repeated option adds to them."""
    return [part for text in texts for part in str(text).split(",")]


# What a flag takes where it is not what the spec's field holds.
_KINDS: dict[str, Any] = {
    "test_contexts": Annotated[tuple[int, ...], BeforeValidator(_parts)],
    "precision": Literal["float32", "bfloat16", "bf16"],
}  # fmt: skip


def _flag(name: str, field: FieldInfo) -> tuple[Any, None]:
    """A field of a run as a flag; what is left out is None."""
    kind: Any = _KINDS.get(name, field.annotation)
    if get_origin(kind) is dict:
        kind = dict[str, Any]
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

"""The base of every spec: validated once, frozen, and unchanged by a JSON round trip.

Unknown keys are errors. A message names the value received and the fix.
"""

import difflib
import json
import operator
import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

_T = TypeVar("_T")


class UsageError(ValueError):
    """A user asked for something impossible; the message names the value and the fix."""


def whole(name: str, value: Any) -> int:
    """A whole number of any library as Python's.

    Raises:
        UsageError: it is none.
    """
    try:
        # True is one to Python.
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise UsageError(f"{name} {value!r}: must be a whole number")


class Spec(BaseModel):
    """The base of every spec: frozen, keyword-only, strict about keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, **values: Any) -> Self:
        """A spec from these values.

        Raises:
            UsageError: a value is wrong.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise UsageError(validation_line(error, cls)) from None

    @classmethod
    def parse_json(cls, values: Mapping[str, Any]) -> Self:
        """A spec from values as JSON or TOML gives them: a list counts as a tuple.

        Raises:
            UsageError: a value is wrong.
        """
        try:
            # TOML has dates, and no spec does: they are refused as the text they are.
            text = json.dumps(values, default=str, ensure_ascii=False)
            return cls.model_validate_json(text.encode())
        except ValidationError as error:
            raise UsageError(validation_line(error, cls)) from None
        except UnicodeEncodeError as error:
            around = error.object[max(0, error.start - 40) : error.end]
            raise UsageError(f"{around!a}: holds bytes that are no text; write UTF-8") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"not a value that a spec can hold: {error}") from None

    @property
    def as_recorded(self) -> dict[str, Any]:
        """The spec as records keep it."""
        return self.model_dump(mode="json")


DEVICES = r"cpu|cuda(:[0-9]{1,3})?"


def known_device(device: str) -> str:
    """The name of a device, unchanged."""
    if not re.fullmatch(DEVICES, device):
        raise ValueError(f"device {device!r}: must be cpu, cuda or cuda:N")
    return device


# Where a command computes.
Device: TypeAlias = Annotated[str, AfterValidator(known_device)]


def each_once(what: str, values: tuple[_T, ...]) -> tuple[_T, ...]:
    """The values, if there is at least one and none is repeated."""
    if not values:
        raise ValueError(f"no {what} given: name at least one")
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{what} {value} given {count} times: name each once")
    return values


def validation_line(error: ValidationError, spec: type[BaseModel]) -> str:
    """The first error in a spec of this type, and its fix."""
    # A name that is not there is often why another is missing.
    found = error.errors(include_url=False)
    telling = {one["type"]: one for one in reversed(found)}
    first = telling.get("extra_forbidden") or telling.get("finite_number") or found[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    # An option may be of several types; of those a number is meant that is none.
    several = first["type"] == "finite_number" and first["loc"][-1] == "float"
    place = ".".join(str(part) for part in first["loc"][: -1 if several else None])
    if first["type"] == "extra_forbidden":
        known = list(spec.model_fields)
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        fix = (
            f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known) or 'none'}"
        )
        return f"{place!r}: there is no such option; {fix}"
    if first["type"] == "missing":
        return f"{place}: must be given, it has no default"
    shown = repr(first["input"])
    shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
    if first["type"] == "json_invalid":
        # What json writes is JSON: it is nested too deep for who reads it.
        return f"not a value that a spec can hold: {message}"
    if first["type"] == "tuple_type":
        # Numbers between commas, as on a command line, are numbers in a list.
        numbers = str(first["input"]).replace(",", " ").split()
        inside = ", ".join(numbers) if all(map(str.isdecimal, numbers)) else shown
        fix = f"; write [{inside}]" if isinstance(first["input"], (str, int, float)) else ""
        return f"{place} {shown}: must be a list{fix}"
    # Text that looks like a number is read as one.
    is_read = first["type"] == "string_type" and not isinstance(first["input"], (list, dict))
    fix = "; put text that looks so in double quotes" if is_read else ""
    return f"{place} {shown}: {message[0].lower()}{message[1:]}{fix}"

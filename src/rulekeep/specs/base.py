"""The base of every spec: validated once, frozen, and unchanged by a JSON round trip.

Unknown keys are errors. A message names the value received and the fix.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import to_json

_T = TypeVar("_T")


class UsageError(ValueError):
    """A user asked for something impossible; the message names the value and the fix."""


class Spec(BaseModel):
    """The base of every spec: frozen, keyword-only, strict about keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, /, **values: Any) -> Self:
        """A spec from values as a call, JSON or TOML gives them: a list counts as a tuple.

        Raises:
            UsageError: a value is wrong.
        """
        try:
            text = to_json(values, fallback=_as_json, inf_nan_mode="constants")
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UsageError(validation_line(error, cls.model_fields)) from None

    @property
    def as_recorded(self) -> dict[str, Any]:
        """The spec as records keep it."""
        return self.model_dump(mode="json")


def _as_json(value: Any) -> Any:
    """Numbers of NumPy and torch, and ranges; what no spec has is refused as the text it is."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, range) else str(value)


DEVICES = r"cpu|cuda(:[0-9]{1,3})?"


def known_device(device: str) -> str:
    """The name of a device, unchanged."""
    if not re.fullmatch(DEVICES, device):
        raise ValueError(f"device {device!r}: must be cpu, cuda or cuda:N")
    return device


DEVICE_HELP = "cpu, cuda or cuda:N. No GPU has run this yet."
# Where a command computes.
Device: TypeAlias = Annotated[str, AfterValidator(known_device), Field(description=DEVICE_HELP)]


def each_once(what: str, values: tuple[_T, ...]) -> tuple[_T, ...]:
    """The values, if there is at least one and none is repeated."""
    if not values:
        raise ValueError(f"no {what} given: name at least one")
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{what} {value} given {count} times: name each once")
    return values


def between_commas(given: Any) -> Any:
    """The parts of texts as a command has them, `1,2`: a repeated option adds to them."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return given
    return [part.strip() for text in texts for part in text.split(",")]


# A list as well, as JSON has it.
SplitTexts: TypeAlias = Annotated[
    tuple[str, ...], Field(strict=False), BeforeValidator(between_commas)
]


def choose(name: str, known: Iterable[str]) -> str:
    """The hint for an unknown name: the most similar one, and all there are."""
    names = list(known)
    listed = f"choose from {', '.join(names) or 'none'}"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}? {listed}" if near else listed


def validation_line(error: ValidationError, known: Iterable[str] = ()) -> str:
    """What pydantic says first, with the option's name and value; `known` are all options."""
    # A name that is not there is often why another is missing. Of an option of several types that
    # is no finite number all types say something, the first that it is no truth value.
    errors = error.errors(include_url=False)
    by_type = {each["type"]: each for each in reversed(errors)}
    first = by_type.get("extra_forbidden") or by_type.get("finite_number") or errors[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    name = ".".join(str(part) for part in first["loc"] if part != "float")
    if first["type"] == "extra_forbidden":
        return f"{name!r}: there is no such option; {choose(name, known)}"
    if first["type"] == "missing":
        return f"{name}: must be given, it has no default"
    return f"{name} {first['input']!r:.80}: {message[0].lower()}{message[1:]}"

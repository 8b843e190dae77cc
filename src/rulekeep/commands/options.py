"""The options of several commands: cyclopts parses, these restrict values.

A parser raises `ValueError` with the fix alone; `cli` puts the option and its value before it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar

from cyclopts import Parameter, Token

from rulekeep.specs.base import DEVICE_HELP, between_commas, known_device
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


_integers = _between_commas(int, "a whole number")
_rates = _between_commas(float, "a number")
_texts = _between_commas(str, "a text")
_SEVERAL = Parameter(n_tokens=1)
# Not as cyclopts reads one: it would make 64 of 64.5.
Whole: TypeAlias = Annotated[int, Parameter(converter=_whole)]
Integers: TypeAlias = Annotated[tuple[int, ...], _SEVERAL, Parameter(converter=_integers)]
Rates: TypeAlias = Annotated[tuple[float, ...], _SEVERAL, Parameter(converter=_rates)]
Texts: TypeAlias = Annotated[tuple[str, ...], _SEVERAL, Parameter(converter=_texts)]
# From the shortest, none twice.
Lengths: TypeAlias = Annotated[tuple[int, ...], _SEVERAL, Parameter(converter=_lengths)]
Seed: TypeAlias = Annotated[int, within(0, 2**63 - 1)]
Workers: TypeAlias = Annotated[int | None, within(1)]
Device: TypeAlias = Annotated[
    str, Parameter(validator=lambda _, text: known_device(text), help=DEVICE_HELP)
]
Flag: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]

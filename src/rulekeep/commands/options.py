"""The types of options that several commands take: cyclopts parses, these restrict values.

A parser raises `ValueError` with the fix alone; `cli` puts the option and its value before it.
"""

import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter, Token

from rulekeep.records.store import make_folder
from rulekeep.specs import DEVICES, UsageError
from rulekeep.specs.run import in_order

_LARGEST_SEED = 2**63 - 1


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError("must be a whole number") from None


# Not as cyclopts reads one: it would make 64 of 64.5.
Whole: TypeAlias = Annotated[int, Parameter(converter=_whole)]


def within(least: int, most: float = math.inf) -> Parameter:
    """A number in this range."""

    def check(_: Any, value: int | None) -> None:
        if value is not None and not least <= value <= most:
            fix = f"must be {least} or more"
            raise ValueError(fix if most == math.inf else f"must be from {least} to {most}")

    return Parameter(converter=_whole, validator=check)


def between_commas(texts: Sequence[object]) -> tuple[int, ...]:
    """Whole numbers between commas; a repeated option adds to them.

    Raises:
        ValueError: one is no whole number.
    """
    try:
        # The parser reads [64] as a list.
        return tuple(int(part) for text in texts for part in str(text).split(","))
    except ValueError:
        raise ValueError("must be a whole number, or several between commas") from None


def _integers(_: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    return between_commas([token.value for token in tokens])


def _rates(_: Any, tokens: Sequence[Token]) -> tuple[float, ...]:
    rates = tuple(float(part) for token in tokens for part in token.value.split(","))
    if not all(0 < rate < math.inf for rate in rates):
        raise ValueError("must be numbers above 0, between commas")
    return rates


def _texts(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(part.strip() for token in tokens for part in token.value.split(","))


def _lengths(_: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    return in_order(between_commas([token.value for token in tokens]))


def _above_zero(_: Any, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ValueError("must be a number of seconds above 0")


def _on_device(_: Any, device: str) -> None:
    if not re.fullmatch(DEVICES, device):
        raise ValueError("must be cpu, cuda or cuda:N")


def _shown(values: Sequence[object] | None) -> str | None:
    return None if values is None else ",".join(map(str, values))


_SEVERAL = Parameter(n_tokens=1, negative="", show_default=_shown)
Integers: TypeAlias = Annotated[tuple[int, ...], _SEVERAL, Parameter(converter=_integers)]
Rates: TypeAlias = Annotated[tuple[float, ...], _SEVERAL, Parameter(converter=_rates)]
Texts: TypeAlias = Annotated[tuple[str, ...], _SEVERAL, Parameter(converter=_texts)]
# From the shortest, none twice.
Lengths: TypeAlias = Annotated[tuple[int, ...], _SEVERAL, Parameter(converter=_lengths)]
Seed: TypeAlias = Annotated[int, within(0, _LARGEST_SEED)]
Workers: TypeAlias = Annotated[int | None, within(1)]
Seconds: TypeAlias = Annotated[float | None, Parameter(validator=_above_zero)]
_DEVICE_HELP = "cpu, cuda or cuda:N. No GPU has run this yet."
Device: TypeAlias = Annotated[str, Parameter(validator=_on_device, help=_DEVICE_HELP)]
Flag: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]


def run_folder(kind: str, out: str | None) -> Path:
    """The folder that `--out` names; by default one named after the kind of run and the time."""
    if out is None:
        named = Path("runs") / time.strftime(f"{kind}-%Y%m%d-%H%M%S")
        names = chain([named], (named.with_name(f"{named.name}-{number}") for number in count(2)))
        return next(name for name in names if not name.exists())
    if not out.strip():
        raise UsageError(f"--out {out!a}: must be the name of a folder")
    return Path(out)


def existing(folder: str) -> Path:
    """A folder that is there.

    Raises:
        UsageError: it is not.
    """
    root = Path(folder)
    if not folder.strip() or "\0" in folder or not root.is_dir():
        raise UsageError(f"{folder!a}: there is no such folder; name one that a sweep has written")
    return root


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Make a folder of records; an interruption leaves no empty folder.

    Raises:
        UsageError: it cannot be made or written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_folder(folder, f"--out {folder}")
        yield
    except BaseException:
        for path in made:
            # One that holds something stays.
            with suppress(OSError):
                path.rmdir()
        raise

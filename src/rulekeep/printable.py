"""Text from elsewhere as it may be shown: nothing in it steers a terminal or reorders a line.

Exceptions, records, file names and plug-ins may hold escape codes (ESC, OSC), a bell, or the
characters that turn the direction of text around. Every such text passes here before it is printed.
"""

import unicodedata
from collections.abc import Callable

_REPLACEMENT = "\ufffd"


def printable(text: str) -> str:
    r"""The text with each control, format and unassigned character written out, as in `\x1b`."""
    return _without_control(text, lambda character: ascii(character)[1:-1])


def printable_lines(text: str) -> str:
    """As `printable`, line by line: line breaks stay."""
    return "\n".join(printable(line) for line in text.split("\n"))


def one_line(value: object, length: int = 300) -> str:
    """A value as one line for tables: no control character, white space is one space, cut."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    text = " ".join(text[: 4 * length].split())
    shown = _without_control(text, lambda _: _REPLACEMENT)
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def _without_control(text: str, shown_as: Callable[[str], str]) -> str:
    # Nearly all text is ASCII without control characters.
    if text.isascii() and text.isprintable():
        return text
    return "".join(shown_as(c) if _is_control(c) else c for c in text)


def _is_control(character: str) -> bool:
    category = unicodedata.category(character)
    # Line and paragraph separators break a line as a control character does.
    return category[0] == "C" or category in ("Zl", "Zp")

"""Text from elsewhere, made safe to show: it cannot steer a terminal or reorder a line.

Exceptions, records, file names and plug-ins may hold escape codes, a bell, or characters that turn
the direction of text around. Such text passes here before it is printed. Markdown tables are made
here too.
"""

import hashlib
import shlex
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

_REPLACEMENT = "\ufffd"
_NAME_LENGTH = 48


def printable(text: str) -> str:
    r"""The text with each control, format and unassigned character written out, as in `\x1b`."""
    return _without_control(text, lambda character: ascii(character)[1:-1])


def one_line(value: object, length: int = 300) -> str:
    """A value as one line for tables: no control characters, white space as one space, cut to
    length.
    """
    text = value if isinstance(value, str) else "" if value is None else str(value)
    text = " ".join(text[: 4 * length].split())
    shown = _without_control(text, lambda _: _REPLACEMENT)
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def name(value: object, missing: str = "(no name)") -> str:
    """A short name; a long one keeps both ends and a hash, so that two names stay distinct."""
    whole = value if isinstance(value, str) else "" if value is None else str(value)
    text = one_line(whole, len(whole) + 1)
    if len(text) > _NAME_LENGTH or _REPLACEMENT in text:
        digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:6]
        # Its end too: of a plug-in that is the class.
        is_short = len(text) <= _NAME_LENGTH - 8
        end = "" if is_short else f"…{text[20 - _NAME_LENGTH :]}"
        text = f"{text if is_short else text[:12]}…{digest}{end}"
    return text or missing


def pasted(path: Path | str) -> str:
    """A path as a shell takes it behind a command: with a dash in front it would be an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def counted(number: int, one: str, several: str = "") -> str:
    """A number with its noun: `1 run`, `2 runs`; `several` is the plural where it takes no s."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table that also lines up as plain text; numbers to the right."""
    lines = [list(header), *(list(row) for row in body)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    numeric = [all(row[i][:1] in "0123456789+-–" for row in body) for i in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        "-" * (width + 1) + (":" if right else "-")
        for width, right in zip(widths, numeric, strict=True)
    )
    return "\n".join([row(header), f"|{rule}|", *(row(cells) for cells in body)])


def _without_control(text: str, shown_as: Callable[[str], str]) -> str:
    # Nearly all text is ASCII without control characters.
    if text.isascii() and text.isprintable():
        return text
    return "".join(shown_as(c) if _is_control(c) else c for c in text)


def _is_control(character: str) -> bool:
    category = unicodedata.category(character)
    # Line and paragraph separators break a line as a control character does.
    return category[0] == "C" or category in ("Zl", "Zp")

"""What reaches a terminal or a pipe: no text steers it, and no plug-in writes into it."""

import re

import pytest

from rulekeep.checks.rows import Row
from rulekeep.commands.printed import print_examples, print_rows, print_tables
from rulekeep.console import say, tell
from rulekeep.printable import one_line, printable
from rulekeep.reporting.marked import Piece
from rulekeep.reporting.tables import Cell, Table

# Clears the screen; sets the title; rings; turns the text around; hides it; is not assigned.
HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\x9b31m\u202egnp\u2066x\u200e\u00ad\U000e0041\u0378"
STEERS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


def is_plain(text: str) -> bool:
    return not STEERS.search(text) and "\u0378" not in text and "\U000e0041" not in text


def test_what_steers_a_terminal_is_written_out_and_the_rest_stays() -> None:
    assert is_plain(printable(HOSTILE))
    assert printable("a\x1b[31mb\u202ec") == r"a\x1b[31mb\u202ec"
    assert printable("a\nb\u2028c") == r"a\nb\u2028c"
    assert printable("ä 注意 😀 − “x”") == "ä 注意 😀 − “x”"
    assert is_plain(one_line(HOSTILE))
    assert one_line("a\x1bb\n c") == "a\ufffdb c"


@pytest.mark.core
def test_lines_tables_examples_and_verdicts_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    tell(f"{HOSTILE}\n{HOSTILE}")
    table = Table(
        key="k", title=HOSTILE, meaning=HOSTILE, header=(HOSTILE, "b"),
        rows=((Cell(HOSTILE), Cell("1", 1.0)),),
    )  # fmt: skip
    print_tables([table])
    print_examples(HOSTILE, HOSTILE, [[Piece(HOSTILE, "rule")]])
    print_rows(HOSTILE, [Row(HOSTILE, False, HOSTILE)], [HOSTILE])
    captured = capsys.readouterr()
    assert is_plain(captured.out)
    assert is_plain(captured.err)
    assert captured.out.count("title") > 8

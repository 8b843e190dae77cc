"""Marked examples on a terminal: in colour, or by letters where there is none."""

from collections.abc import Sequence

from rich.text import Text

from rulekeep.commands.console import rich_console
from rulekeep.printable import printable
from rulekeep.reporting.marked import MARKS, Piece, legend


def print_examples(title: str, options: str, examples: Sequence[Sequence[Piece]]) -> None:
    """Print the examples, and a legend of their marks.

    Without a terminal, or with NO_COLOR, a mark is a letter before brackets: `R[rule-7]`.
    """
    console = rich_console()
    coloured = console.is_terminal and console.color_system is not None and not console.no_color
    console.print(printable(title), soft_wrap=True)
    console.print(f"{printable(options)}\n", soft_wrap=True)
    for number, example in enumerate(examples):
        console.print(f"example {number}")
        words = [_marked(piece, coloured) for piece in example]
        console.print(Text(" ").join(words), end="\n\n")
    for mark in legend(examples).values():
        word = Text("word", mark.style) if coloured else Text(f"{mark.letter}[word]")
        word.pad_right(max(1, 10 - len(word)))
        console.print(word + Text(mark.meaning))


def _marked(piece: Piece, coloured: bool) -> Text:
    mark, word = MARKS.get(piece.kind), printable(piece.text)
    if mark is None:
        return Text(word, "dim italic" if piece.kind == "left out" else "dim")
    return Text(word, mark.style) if coloured else Text(f"{mark.letter}[{word}]")

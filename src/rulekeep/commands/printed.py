"""What several commands show on a terminal: tables of a report, marked examples, checks."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from rich.text import Text

from rulekeep.checks.rows import SEE_ABOVE, Row, line
from rulekeep.console import EXIT_FAILED, print_table, rich_console, say, score_text, tell
from rulekeep.printable import printable
from rulekeep.reporting.marked import MARKS, Piece, legend

if TYPE_CHECKING:
    from rulekeep.records import Record

    # Only what shows loads the report.
    from rulekeep.reporting.page import Answer
    from rulekeep.reporting.tables import Cell, Table

_MOST_LETTERS = 100
# Of a share in quarters.
_SHADES = "·░▒█"


def print_tables(tables: "Iterable[Table]") -> None:
    """Each with its title and meaning, on standard output."""
    for table in tables:
        rows = ([cell.text for cell in row] for row in table.rows)
        print_table(table.header, rows, title=table.title, numbers=table.numbers())
        tell(f"{table.meaning}\n")


def print_scores(record: "Record") -> None:
    """The test scores of a run, a row a length."""
    if record.is_result and record.status != "done":
        tell(f"{record.status}: {record.reason}")
    names = ("retention", "exact", "token_accuracy", "val_loss")
    rows = [
        [str(row.context), score_text(row.chance.get("retention"))]
        + [score_text(row.figures.get(name)) for name in names]
        for row in record.tests()
    ]
    if rows:
        header = ("test context", "chance", "retention", "exact", "token accuracy", "loss")
        print_table(header, rows, numbers=[True] * len(header))


def print_language(records: "Sequence[Record]") -> None:
    """What rules in words keep: the table of their cells, and a line for each note."""
    from rulekeep.reporting import language

    found = language.cells(records)
    print_answers(language.answers(found), language.tables(found))
    of_cells = (note for record, _ in found.values() for note in record.notes)
    for note in dict.fromkeys([*of_cells, *language.notes(found)]):
        say(note)


def print_compaction(records: "Sequence[Record]") -> None:
    """What compactors keep: the tables of their cells."""
    from rulekeep.compaction.figures import cells
    from rulekeep.reporting import compaction

    found = cells(records)
    print_answers(compaction.answers(found, records), compaction.tables(found, records))


def print_answers(answers: "Sequence[Answer]", tables: "Sequence[Table]") -> None:
    """What a builder asks: how much is left, ranked, which goes first as a picture, what helps."""
    if not answers:
        return
    survive, first, helps, _ = answers
    by_key = {table.key: table.filled() for table in tables}
    tell("\n".join(survive.said))
    print_fitting(by_key[helps.shown[0]])
    tell("\n".join(first.said))
    print_fitting(by_key[first.shown[0]])
    tell("\n".join(helps.said))
    tell("What columns mean, all figures and what this does not show: in the report.")


def print_fitting(table: "Table") -> None:
    """As many of its first columns as a hundred letters hold, with shades for shares."""
    columns = [
        (name, is_number, [shade(cell) if name in table.shaded else cell.text for cell in every])
        for (name, every), is_number in zip(table.columns, table.numbers(), strict=True)
    ]
    widths = accumulate(max(map(len, (name, *texts))) + 2 for name, _, texts in columns)
    fitting = [column for column, end in zip(columns, widths, strict=True) if end < _MOST_LETTERS]
    names, numbers, texts = zip(*fitting, strict=True)
    print_table(names, zip(*texts, strict=True), numbers=numbers)


def shade(cell: "Cell") -> str:
    """A share, the darker the more is kept."""
    if cell.value is None:
        return cell.text
    return f"{_SHADES[min(3, int(4 * cell.value))] * 2} {cell.text}"


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


def print_rows(name: str, rows: Iterable[Row], properties: Iterable[str]) -> int:
    """Print each property as it comes, and a verdict for all."""
    width, found = max(map(len, properties)), list[bool | None]()
    for row in rows:
        found.append(row.passed)
        # One line says it for all of them.
        if row.compared != SEE_ABOVE:
            tell(line(row, width), flush=True)
    failed, skipped = found.count(False), found.count(None)
    said = f"{failed} of {len(found) - skipped} properties fail" if failed else "all hold"
    tell(f"\n{name}: {said}{f', {skipped} skipped' if skipped else ''}")
    return EXIT_FAILED if failed else 0

"""A table of a report, and the one way that values become text: for the page, Markdown and CSV.

    Table.of("costs", *words("costs"), [{"task": "recite", "seconds": 1.5}])
    markdown(table)

Every text that a table shows is made one printable line here. Escaping for markup is left to each
form of output.
"""

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rulekeep.analysis.summary import ENOUGH_SEEDS, Interval, Summary
from rulekeep.printable import one_line

if TYPE_CHECKING:
    # Who prints a table waits for no plotting.
    from rulekeep.analysis.charts import Chart

MISSING = "–"
_FEW = " few"
# Commands may be long.
_MOST_TEXT = 1000


class Cell(NamedTuple):
    """What a table shows, and the number it sorts by (None: it sorts as text)."""

    text: str
    value: float | None = None
    # The ends of its interval, from 0 to 1, which the page draws as a bar.
    span: tuple[float, float] | None = None


MISSING_CELL = Cell(MISSING)
Value: TypeAlias = Cell | Summary | str | float | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; rows with fewer than 5 seeds say so in a cell that ends in "few"."""

    key: str
    title: str
    meaning: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    # Rows of the user's own mixer, which are marked.
    own: frozenset[int] = frozenset()
    # Columns of shares whose cells are shaded.
    shaded: frozenset[str] = frozenset()

    @property
    def hints(self) -> dict[str, str]:
        """What its columns mean, where templates/words.txt says it."""
        every = [line.partition(": ") for line in words_list(f"{self.key}_columns")]
        return {name: meaning for name, _, meaning in every if name in self.header}

    @classmethod
    def of(cls, key: str, title: str, meaning: str, rows: Sequence[Mapping[str, Value]]) -> "Table":
        """A table of rows by column: all have the columns of the first, in its order."""
        header = tuple(rows[0]) if rows else ()
        cells = tuple(tuple(cell(row[column]) for column in header) for row in rows)
        header = tuple(one_line(title) for title in header)
        return cls(key=key, title=title, meaning=meaning, header=header, rows=cells)

    @property
    def few(self) -> frozenset[int]:
        """The rows that rest on fewer than 5 seeds."""
        return frozenset(
            n for n, row in enumerate(self.rows) if any(c.text.endswith(_FEW) for c in row)
        )

    def filled(self) -> "Table":
        """Without the columns that have no value."""
        kept = [
            n for n in range(len(self.header)) if any(row[n].text != MISSING for row in self.rows)
        ]
        rows = tuple(tuple(row[n] for n in kept) for row in self.rows)
        return replace(self, header=tuple(self.header[n] for n in kept), rows=rows)

    def numbers(self) -> list[bool]:
        """For each column, whether it holds numbers, which stand to the right."""
        found = []
        for column in range(len(self.header)):
            shown = [row[column] for row in self.rows if row[column].text != MISSING]
            found.append(bool(shown) and all(cell.value is not None for cell in shown))
        return found


def words(key: str, **values: object) -> tuple[str, str]:
    """The title of a table or a figure, and its meaning or caption, out of templates/words.txt."""
    title, _, meaning = str(getattr(_texts(), key)(**values)).strip().partition("\n")
    return title, " ".join(meaning.split())


def words_list(key: str) -> list[str]:
    """The lines of a list of templates/words.txt; none where it has no such list."""
    macro = getattr(_texts(), key, None)
    return str(macro()).strip().splitlines() if macro else []


def without_usual(
    rows: Sequence[Mapping[str, Cell]], usual: Mapping[str, str]
) -> list[dict[str, Cell]]:
    """Rows without the columns that are the same in all of them, and usual."""
    shown = [
        column
        for column in (rows[0] if rows else ())
        if any(row[column].text != usual.get(column) for row in rows)
    ]
    return [{column: row[column] for column in shown} for row in rows]


@cache
def _texts() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(loader=PackageLoader("rulekeep.reporting"), undefined=StrictUndefined)
    return made.get_template("words.txt").module


def cell(value: Value, digits: int = 3) -> Cell:
    """A value as a table shows it: a number to so many digits, a summary with its interval."""
    if isinstance(value, Cell):
        return value._replace(text=one_line(value.text, _MOST_TEXT))
    if isinstance(value, Summary):
        # What has no mean sorts below everything.
        return Cell(value.text(digits), -math.inf if value.mean is None else value.mean)
    if isinstance(value, str):
        return Cell(one_line(value, _MOST_TEXT))
    if isinstance(value, int):
        return Cell(str(value), float(value))
    return number_cell(value, digits)


def number_cell(value: float | None, digits: int = 3) -> Cell:
    """A number, or that there is none."""
    if value is None or not math.isfinite(value):
        return MISSING_CELL
    # Rounded first: what is all but 0 has no sign.
    return Cell(f"{round(value, digits) + 0.0:,.{digits}f}", value)


def interval_cell(of: Interval | None, digits: int = 3, *, span: bool = False) -> Cell:
    """A mean with the ends of its interval, drawn as a bar where it has a `span`."""
    if of is None:
        return MISSING_CELL
    return Cell(of.text(f".{digits}f"), of.mean, (of.low, of.high) if span else None)


def signed(difference: Summary | None) -> Cell:
    """A difference with its sign."""
    if difference is None:
        return MISSING_CELL
    shown, mean = cell(difference), difference.mean
    return shown._replace(text=f"+{shown.text}") if mean is not None and mean >= 0 else shown


def mean_cell(by_seed: Mapping[int, float], digits: int, unit: float = 1.0) -> Cell:
    """The mean over seeds, in units of `unit`."""
    return number_cell(sum(by_seed.values()) / len(by_seed) / unit if by_seed else None, digits)


def seeds_cell(seeds: int) -> Cell:
    """How many seeds have a figure, marked when they are few."""
    return Cell(f"{seeds}{_FEW}" if seeds < ENOUGH_SEEDS else str(seeds), float(seeds))


def drawn(chart: "Chart") -> Table:
    """The values that a figure draws, a row a point."""
    panels = dict.fromkeys(panel.title for panel in chart.panels)
    names = list(dict.fromkeys(panel.y_label for panel in chart.panels if panel.y_label))
    several = len(panels) > 1 or len(names) > 1
    x_label = next((p.x_label for p in chart.panels if p.x_label), "context (tokens)")
    (y_label,) = names if len(names) == 1 else ("value",)
    rows: list[dict[str, Value]] = []
    for panel in chart.panels:
        place = f"{panel.title}, {panel.y_label}" if len(names) > 1 else panel.title
        for series in panel.series:
            for point in series.points:
                x = round(point.x) if panel.x_ticks else point.x
                rows.append(
                    {
                        **({"panel": place} if several else {}),
                        "variant": series.label,
                        x_label.removesuffix(", log scale"): _to_four_digits(x),
                        y_label: _to_four_digits(point.y),
                        "low": _to_four_digits(point.low),
                        "high": _to_four_digits(point.high),
                        "seeds": None if point.seeds is None else seeds_cell(point.seeds),
                    }
                )
    return Table.of(f"values-{chart.key}", f"Values of the figure: {chart.title}", "", rows)


def _to_four_digits(value: float | None) -> Cell | None:
    if value is None:
        return None
    return Cell(f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}", value)


def markdown(table: Table) -> str:
    """A table with its title and meaning; rows with fewer than 5 seeds say "few" themselves."""
    meaning = " ".join([table.meaning, *(f"{name}: {of}" for name, of in table.hints.items())])
    head = f"## {escaped(table.title)}\n\n{escaped(meaning)}\n\n"
    lines = [
        " | ".join(escaped(title) for title in table.header),
        "|".join("--:" if right else "---" for right in table.numbers()),
        *(" | ".join(escaped(cell.text) or " " for cell in row) for row in table.rows),
    ]
    return head + "\n".join(f"| {line} |" for line in lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, also in a table cell."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", plain)


def csv_lines(header: Sequence[str], lines: Iterable[Iterable[object]]) -> str:
    """A CSV with numbers unrounded and no text that a spreadsheet runs."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for line in lines:
        writer.writerow([_csv_cell(value) for value in line])
    return buffer.getvalue()


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    if isinstance(value, int):
        return str(value)
    text = str(value)
    # Some programs read ＝ (U+FF1D) and its like as the ASCII letter that they stand for.
    opens = unicodedata.normalize("NFKC", text.lstrip()[:1])
    is_formula = opens[:1] in ("=", "+", "-", "@", "|", "%", "\N{MINUS SIGN}")
    return f"'{text}" if is_formula else text

"""Records to files: `report.html`, `report.md`, `tables.csv` and the figures.

    write_report(records, folder, command="rulekeep report runs")

Read this first: records are read into runs, gathered into cells, and cells are ranked; both become
tables, figures and three sentences, which the page, the Markdown and the CSV all show.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rulekeep.analysis import panels
from rulekeep.analysis.charts import Chart
from rulekeep.analysis.groups import grouped
from rulekeep.analysis.ranking import ranked
from rulekeep.analysis.table import tabulated
from rulekeep.compaction.figures import cells, is_compaction
from rulekeep.explain.record import Explanation
from rulekeep.language.cells import is_in_words
from rulekeep.printable import one_line
from rulekeep.records import Record
from rulekeep.records.store import text_bytes, write_files
from rulekeep.reporting import (
    compaction,
    language,
    language_charts,
    main_tables,
    page,
    tables,
)
from rulekeep.reporting import explained as explaining
from rulekeep.reporting import speed as speed_report
from rulekeep.reporting.certified import certificates as certificate_tables
from rulekeep.reporting.figures import charts
from rulekeep.reporting.sentences import sentences
from rulekeep.specs import UsageError
from rulekeep.speed.record import SpeedRecord

FIGURES = "figures"
_HEADING = "# Which rules survive, for how long, at what cost"
_FILES = ("report.md", "report.html", "tables.csv", "language.csv")
# Tables of many rows, which the Markdown leaves to the page.
_LONG = ("readings", "writes", "runs")


def write_report(
    records: Sequence[Record],
    folder: Path,
    command: str,
    notes: Sequence[str] = (),
    *,
    unfinished: Sequence[str] = (),
    certificates: Sequence[Mapping[str, Any]] = (),
    speed: SpeedRecord | None = None,
    explanations: Sequence[Explanation] = (),
    runs: str = "RUNS",
) -> list[Path]:
    """Writes the report of these records into a folder and returns the paths written.

    `command` is the exact command that made the report, `notes` a line for each file that was
    set aside as corrupt, `unfinished` one for each folder that lacks runs, `certificates` the
    records of `rulekeep certify`, `speed` the one of `rulekeep speed`, `explanations` those of
    `rulekeep explain`, and `runs` what commands call the folder of the records. With a record of
    speed and no run the report is of speed alone.

    Raises:
        OSError: the folder cannot be written; then it is as it was.
        UsageError: files of others stand there by the names of a report's.
    """
    _check_place(folder)
    of_words = [record for record in records if is_in_words(record)]
    of_compaction = [record for record in records if is_compaction(record)]
    apart = {record.id for record in (*of_words, *of_compaction)}
    records = [record for record in records if record.id not in apart]
    table, reading_notes = tabulated(records)
    groups = grouped(table)
    summary, made, shown = list[str](), list[Chart](), list[tables.Table]()
    summary += unfinished
    if records or (speed is None and not apart):
        ranking = ranked(groups)
        shown += [] if ranking is None else [main_tables.ranked(ranking)]
        summary += sentences(table, groups, ranking)
        made += charts(groups, ranking)
        shown += main_tables.of_groups(groups)
    certified, readings, left_out = certificate_tables(table, certificates, runs)
    if records:
        shown += [certified, main_tables.failures(table), main_tables.environments(table)]
    in_words, compacted = language.cells(of_words), cells(of_compaction)
    answers = [*language.answers(in_words), *compaction.answers(compacted, of_compaction)]
    files = {"language.csv": language.csv_text(in_words)} if in_words else {}
    if records or not apart:
        files["tables.csv"] = main_tables.csv_text(groups)
    explained, unplaced = explaining.explained(table, explanations)
    if explained:
        made += explaining.charts(explained)
        shown += explaining.tables(explained)
    if speed is not None:
        summary += speed_report.sentences(speed) if not records else []
        made.append(speed_report.chart(speed))
        shown += speed_report.tables(speed)
    made += language_charts.charts(in_words)
    shown += language.tables(in_words)
    made += compaction.charts(compacted)
    shown += compaction.tables(compacted, of_compaction)
    if records:
        shown += [readings, main_tables.every_run(table)]
    # What is empty is left out.
    shown = [one.filled() for one in shown if one.rows]
    figures = [page.Figure(one, panels.draw(one), tables.drawn(one)) for one in made if one.panels]
    summary = [one_line(line, 1000) for line in summary]
    every_note = (*notes, *reading_notes, *left_out, *unplaced, *language.notes_of(of_words))
    said = [one_line(note) for note in every_note]
    command = one_line(command, 4000)
    files["report.html"] = page.render(
        summary=summary, figures=figures, tables=shown, notes=said, command=command,
        answers=answers,
    )  # fmt: skip
    summary += [line for answer in answers for line in answer.said]
    files["report.md"] = _markdown(summary, figures, shown, said, command)
    images = {
        f"{FIGURES}/{name}": image for one in figures for name, image in one.picture.files.items()
    }
    texts = {name: text_bytes(content) for name, content in files.items()}
    folder.mkdir(parents=True, exist_ok=True)
    return write_files(folder, images | texts)


def _check_place(folder: Path) -> None:
    """Raise if files stand there that no report wrote: its Markdown tells one of ours."""
    markdown = folder / "report.md"
    if markdown.is_file() and markdown.read_bytes().startswith(_HEADING.encode()):
        return
    for name in _FILES:
        if os.path.lexists(folder / name):
            raise UsageError(f"{folder / name}: is of no report; name another --out")


def _markdown(
    summary: Sequence[str],
    figures: Sequence[page.Figure],
    shown: Sequence[tables.Table],
    notes: Sequence[str],
    command: str,
) -> str:
    parts = [_HEADING]
    parts += ["\n\n".join(tables.escaped(sentence) for sentence in summary)]
    parts += [tables.markdown(table) for table in shown[:1]]
    for chart, picture, _ in figures:
        image = f"![{chart.title}]({FIGURES}/{chart.key}.png)" if picture.files else ""
        parts.append(f"## {chart.title}\n\n{image}\n\n{tables.escaped(chart.caption)}")
    parts += [tables.markdown(table) for table in shown[1:] if table.key not in _LONG]
    if notes:
        lines = "\n".join(f"- {tables.escaped(note)}" for note in notes)
        parts.append(f"## Set aside and left out\n\n{lines}")
    parts.append(f"## Made by\n\n```text\n{command}\n```")
    return "\n\n".join(parts) + "\n"

"""Records to files: `report.html`, `report.md`, `tables.csv` and the figures.

    write_report(records, folder, command="rulekeep report runs")

Read this first: records are read into runs, gathered into cells, and cells become tables, figures
and three sentences, which the page, the Markdown and the CSV all show.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rulekeep.analysis.cells import contests
from rulekeep.analysis.reading import read_runs
from rulekeep.explain.record import Explanation
from rulekeep.printable import one_line
from rulekeep.records import Record
from rulekeep.records.store import text_bytes, write_files
from rulekeep.reporting import chances, drawing, page, tables, text
from rulekeep.reporting import explained as explaining
from rulekeep.reporting import speed as speed_report
from rulekeep.reporting.certified import certificates as certificate_tables
from rulekeep.reporting.charts import Chart
from rulekeep.reporting.drawn import Drawn
from rulekeep.reporting.drawn import drawn as drawn_examples
from rulekeep.reporting.drawn import markdown as examples_markdown
from rulekeep.reporting.figures import charts
from rulekeep.reporting.sentences import sentences
from rulekeep.speed.record import SpeedRecord

FIGURES = "figures"


def write_report(
    records: Sequence[Record],
    folder: Path,
    command: str,
    notes: Sequence[str] = (),
    *,
    certificates: Sequence[Mapping[str, Any]] = (),
    speed: SpeedRecord | None = None,
    explanations: Sequence[Explanation] = (),
    runs: str = "RUNS",
) -> list[Path]:
    """Writes the report of these records into a folder and returns the paths written.

    `command` is the exact command that made the report, `notes` a line for each file that was
    set aside as corrupt, `certificates` the records of `rulekeep certify`, `speed` the one
    of `rulekeep speed`, `explanations` those of `rulekeep explain`, and `runs` what commands call
    the folder of the records. With a record of speed and no run the report is of speed alone.

    Raises:
        OSError: the folder cannot be written; then it is as it was.
    """
    reading = read_runs(records)
    found = contests(reading.runs)
    certified, readings, left_out = certificate_tables(reading.runs, certificates, runs)
    examples = drawn_examples(reading.runs)
    summary, drawn, made = list[str](), list[Chart](), list[tables.Table]()
    if records or speed is None:
        summary += sentences(reading.runs, found)
        drawn += charts(found)
        made += [
            tables.scores(found),
            chances.corrected(found),
            chances.parts(found),
            tables.distances(found),
            tables.costs(found),
            tables.learning_rates(found),
            certified,
            tables.failures(reading.runs),
            tables.environments(reading.runs),
            readings,
            tables.every_run(reading.runs),
        ]
    files = {}
    explained, unplaced = explaining.explained(reading.runs, explanations)
    if explained:
        drawn += explaining.charts(explained)
        made += explaining.tables(explained)
        files["explain.csv"] = explaining.csv_text(explained)
    if speed is not None:
        summary += speed_report.sentences(speed) if not records else []
        drawn.append(speed_report.chart(speed))
        made += speed_report.tables(speed)
        files["speed.csv"] = speed_report.csv_text(speed)
    shown = {table.key: table for table in made}
    said = [one_line(note) for note in (*notes, *reading.notes, *left_out, *unplaced)]
    command = one_line(command, 4000)
    images = {
        f"{FIGURES}/{name}": image
        for chart in drawn
        for name, image in drawing.files(chart).items()
    }
    html = page.render(
        summary=summary, charts=drawn, tables=shown, examples=examples, notes=said, command=command
    )
    files["report.html"] = html
    files["report.md"] = _markdown(summary, drawn, shown, examples, said, command)
    files["tables.csv"] = text.csv_text(found)
    texts = {name: text_bytes(content) for name, content in files.items()}
    folder.mkdir(parents=True, exist_ok=True)
    return write_files(folder, images | texts)


def _markdown(
    summary: Sequence[str],
    drawn: Sequence[Chart],
    shown: Mapping[str, tables.Table],
    examples: Sequence[Drawn],
    notes: Sequence[str],
    command: str,
) -> str:
    parts = ["# Which rules survive, for how long, at what cost"]
    parts.append(" ".join(text.escaped(sentence) for sentence in summary))
    parts.append(text.code_block(command))
    for chart in drawn:
        image = f"![{chart.title}]({FIGURES}/{chart.key}.png)" if chart.panels else chart.empty
        parts.append(f"## {chart.title}\n\n{image}\n\n{text.escaped(chart.caption)}")
    parts += [text.markdown(table) for key, table in shown.items() if key not in page.FOLDED]
    if examples:
        parts.append(examples_markdown(examples))
    if notes:
        lines = "\n".join(f"- {text.escaped(note)}" for note in notes)
        parts.append(f"## Set aside and left out\n\n{lines}")
    return "\n\n".join(parts) + "\n"

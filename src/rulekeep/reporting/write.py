"""Folders of runs to files: `report.html`, `report.md`, `tables.csv` and the figures.

    report_on(["runs/mine", "quick"], out=None)

Read this first: records are read into a table of runs, gathered into groups, and these are ranked;
all become tables, figures and three sentences, which the page, the Markdown and the CSV show.
"""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from rulekeep.analysis import panels
from rulekeep.analysis.charts import Chart
from rulekeep.analysis.groups import grouped
from rulekeep.analysis.ranking import ranked
from rulekeep.analysis.table import BASELINE, merged, tabulated, trained_apart
from rulekeep.compaction.figures import cells
from rulekeep.explain.record import Explanation
from rulekeep.printable import counted, one_line, pasted
from rulekeep.records import Record
from rulekeep.records.folders import (
    CERTIFICATES,
    SHIPPED,
    existing,
    has_runs,
    kept_beside,
    make_folder,
    no_runs,
    of_kind,
    run_folder,
    unfinished,
)
from rulekeep.records.store import (
    CorruptRecordError,
    LoadedRecords,
    Values,
    read_record,
    read_runs,
    results,
    run_folders,
    text_bytes,
    write_files,
)
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
from rulekeep.specs import CompactionSpec, LanguageSpec, UsageError
from rulekeep.speed.record import SpeedRecord

FIGURES = "figures"
_HEADING = "# Which rules survive, for how long, at what cost"
_FILES = ("report.md", "report.html", "tables.csv")
# Tables of many rows, which the Markdown leaves to the page.
_LONG = ("writes", "runs")


class Reported(NamedTuple):
    """The folder of a report and its files, how many records it is of, and lines to say."""

    folder: Path
    files: list[Path]
    records: int
    unfinished: list[str]
    left_out: list[str]


def report_on(folders: Sequence[str], out: str | os.PathLike[str] | None) -> Reported:
    """Write the report of these folders, as if all stood in the first.

    It is written into that one, if `out` is None; of what ships, into a folder of its own.
    """
    roots = [existing(folder) for folder in folders]
    kept = [read_runs(root) for root in roots]
    records = [record for one in kept for record in one.records]
    values, lost = list[Values](), list[str]()
    for root, own in zip(roots, kept, strict=True):
        broken = list[str]()
        beside = kept_beside(root, broken)
        values += beside
        lost += (f"{line}; left out" for line in broken)
        # The first may be a mere place for what stands elsewhere.
        may_be_bare = root is roots[0] and not (root / "record.json").exists()
        if not (may_be_bare or own.records or beside or broken or has_runs(root)):
            raise no_runs(root)
    explanations, speeds = of_kind(values, Explanation, lost), of_kind(values, SpeedRecord, lost)
    left_out = [*(line for one in kept for line in one.left_out), *lost]
    if not (records or speeds):
        if left_out:
            lost_one = left_out[0].removesuffix("; left out")
            raise UsageError(f"{lost_one}; there is no other record: put it back as it was")
        if not run_folders(roots[0]):
            raise no_runs(roots[0])
        again = f"rulekeep resume {pasted(roots[0])}"
        raise UsageError(f"{roots[0]}: has no record yet; let {again} make some")
    unfinished = [
        line for root, own in zip(roots, kept, strict=True) if (line := unfinished_line(root, own))
    ]
    # Without them a report could claim a win over the weakest attention.
    attention = rivals(records)
    notes = [*(note for one in kept for note in one.notes), *trained_apart(records), *lost]
    if attention:
        count = counted(len(attention), "committed run")
        notes.append(f"{count} of attention beside them, trained alike")
    target = Path(folders[0], "report")
    if out is not None or roots[0].is_relative_to(SHIPPED):
        target = run_folder("report", out)
    make_folder(target, f"--out {target}")
    command = ["rulekeep", "report", *folders, *([] if out is None else ["--out", os.fspath(out)])]
    files = write_report(
        merged([*records, *attention]), target, shlex.join(command), notes,
        unfinished=unfinished,
        certificates=[*values, *kept_beside(CERTIFICATES, [])],
        speeds=speeds, explanations=explanations, runs=folders[0],
    )  # fmt: skip
    return Reported(target, files, len(merged(records)) + len(speeds), unfinished, left_out)


def unfinished_line(root: Path, kept: LoadedRecords) -> str | None:
    """A line on a folder with plans of runs that have no result; None if there are none.

    A setting that was planned by two versions is one. A damaged record is named elsewhere.
    """
    known = {one.id: one.is_result for one in kept.records}
    settings: dict[str, bool] = {}
    for run in run_folders(root):
        try:
            plan = read_record(run.plan)
            setting = json.dumps([plan.get("kind"), plan.get("spec")], sort_keys=True)
        except (CorruptRecordError, OSError):
            setting = run.id
        finished = known.get(run.id, os.path.lexists(run.record))
        settings[setting] = settings.get(setting, False) or finished
    asked, done = unfinished(root), sum(settings.values())
    if done == len(settings) and not asked:
        return None
    total = counted(len(settings), "planned run has a result", "planned runs have a result")
    fix = asked[0].again(root) if asked else f"rulekeep resume {pasted(root)}"
    more = "; the sweep chooses more by them" if asked else ""
    return f"Unfinished: {done:,} of {total}{more}. For the rest: {fix}"


def rivals(records: Sequence[Record]) -> list[Record]:
    """The shipped attention that was trained as any of these runs was, and is not among them."""
    given = {record.id for record in records}
    known = {record.protocol for record in records if record.is_result} - {None}
    shipped = chain.from_iterable(map(results, sorted(SHIPPED.iterdir()))) if known else ()
    return [
        one
        for one in shipped
        if one.spec.mixer == BASELINE and one.id not in given and one.protocol in known
    ]


def write_report(
    records: Sequence[Record],
    folder: Path,
    command: str,
    notes: Sequence[str] = (),
    *,
    unfinished: Sequence[str] = (),
    certificates: Sequence[Mapping[str, Any]] = (),
    speeds: Sequence[SpeedRecord] = (),
    explanations: Sequence[Explanation] = (),
    runs: str = "RUNS",
) -> list[Path]:
    """Writes the report of these records into a folder and returns the paths written.

    `command` is the exact command that made the report, `notes` a line for each file that was
    set aside as corrupt, `unfinished` one for each folder that lacks runs, `certificates` what may
    be records of `rulekeep certify`, `speed` the one of `rulekeep speed`, `explanations` those of
    `rulekeep explain`, and `runs` what commands call the folder of the records. With a record of
    speed and no run the report is of speed alone.
    """
    _check_place(folder)
    of_words, of_compaction = (
        [record for record in records if record.spec.kind == kind.kind]
        for kind in (LanguageSpec, CompactionSpec)
    )
    apart = {record.id for record in (*of_words, *of_compaction)}
    records = [record for record in records if record.id not in apart]
    table, reading_notes = tabulated(records)
    groups = grouped(table)
    summary, made, shown = list[str](), list[Chart](), list[tables.Table]()
    summary += unfinished
    if records or not (speeds or apart):
        ranking = ranked(groups)
        shown += [] if ranking is None else [main_tables.ranked(ranking)]
        summary += sentences(table, groups, ranking)
        made += charts(groups, ranking)
        shown += main_tables.of_groups(groups)
    certified, left_out = certificate_tables(table, certificates, runs)
    if records:
        shown += [certified, main_tables.failures(table), main_tables.environments(table)]
    in_words, compacted = language.cells(of_words), cells(of_compaction)
    answers = [*language.answers(in_words), *compaction.answers(compacted, of_compaction)]
    files = dict[str, str]()
    if records or not apart:
        files["tables.csv"] = main_tables.csv_text(groups)
    explained, unplaced = explaining.explained(table, explanations)
    if explained:
        made += explaining.charts(explained)
        shown += explaining.tables(explained)
    shown += chain.from_iterable(map(speed_report.tables, speeds))
    made += language_charts.charts(in_words)
    shown += language.tables(in_words)
    made += compaction.charts(compacted)
    shown += compaction.tables(compacted, of_compaction)
    if records:
        shown.append(main_tables.every_run(table))
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

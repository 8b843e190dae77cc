"""`rulekeep article`: the published experiment."""

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rulekeep.commands.console import EXIT_FAILED, EXIT_INTERRUPTED, say, tell
from rulekeep.commands.live import shown
from rulekeep.commands.options import Device, Flag, Integers, Whole, Workers, run_folder
from rulekeep.executors import LocalExecutor
from rulekeep.records.store import Record
from rulekeep.running.resolving import article_mixer, check_device
from rulekeep.specs import (
    ARTICLE_MODELS,
    PUBLISHED_CONTEXTS,
    PUBLISHED_SEED,
    PUBLISHED_STEPS,
    ArticleCell,
    ArticleDecoys,
    ArticleSpec,
    split_names,
)
from rulekeep.sweeps import article_runs, sweep

_DEFAULTS = ArticleSpec().model_dump()


def article(
    *,
    contexts: Integers = PUBLISHED_CONTEXTS,
    models: str = ",".join(ARTICLE_MODELS),
    seeds: Integers = (PUBLISHED_SEED,),
    steps: Whole = PUBLISHED_STEPS,
    serial: Flag = False,
    decoys: ArticleDecoys = "published",
    leak: Flag = False,
    device: Device = "cpu",
    workers: Workers = None,
    out: str | None = None,
) -> int:
    """Reproduce the published experiment: attention against an 8-slot memory.

    Parameters
    ----------
    contexts
        Sequence lengths in tokens, separated by commas; 16 or more each.
    models
        attention, compressed, and any mixer that joins them, separated by commas: a name or
        file.py:Class, with options in brackets, as in delta[heads=8].
    seeds
        Seeds of the replayed random streams, separated by commas; 7 is the published one.
    steps
        Training steps; 80 were published.
    serial
        Run the slot memory as the loop over tokens it is, instead of in parallel.
    decoys
        published: a fixed shift of the rule and the item. independent: drawn from all words,
        so that the last tokens give nothing away.
    leak
        Train nothing: show what a reader of the last 6 prefix tokens scores.
    device
        cpu, cuda or cuda:N. No GPU has run this yet.
    workers
        Cells to run side by side, one thread each; as many as there are cores if left out.
    out
        Folder for the results, runs/article-TIME if left out. A folder with finished
        cells in it is taken over: only the others are run.
    """
    spec = ArticleSpec.parse(
        contexts=contexts,
        models=split_names(models),
        seeds=seeds,
        steps=steps,
        serial=serial,
        decoys=decoys,
        device=device,
    )
    executor = LocalExecutor(workers)
    # Tables and plots bring libraries that take a second to load: only who needs them waits.
    from rulekeep.article import report

    if leak:
        asked = {"models": spec.models, "seeds": spec.seeds, "steps": spec.steps, "serial": serial}
        asked |= {"out": out, "workers": workers}
        # What is none of the spec's is None where it was not asked for.
        ignored = [f"--{name}" for name, value in asked.items() if value != _DEFAULTS.get(name)]
        if ignored:
            say(f"--leak trains nothing: {', '.join(ignored)} ignored")
        tell(
            f"{report.leak_meaning(spec.decoys)}\n\n{report.leak_table(spec.contexts, spec.decoys)}"
        )
        return 0
    executor.prepare()
    check_device(device)
    cells = spec.cells()
    # What cannot be is said before there is a folder: a mixer is the same in all its cells.
    for cell in {cell.model: cell for cell in cells if cell.challenger}.values():
        article_mixer(cell)
    folder = run_folder("article", out)
    article_runs.open_folder(folder)
    records: list[Record] = []
    try:
        return _run(cells, folder, executor, records)
    except KeyboardInterrupt:
        done = sum(record.is_result for record in records)
        say(
            f"interrupted: {done} of {len(cells)} cells are finished and stand in "
            f"{folder}; run the same command with --out {shlex.quote(str(folder))} for the rest"
        )
        return EXIT_INTERRUPTED


def _run(
    cells: Sequence[ArticleCell], folder: Path, executor: LocalExecutor, records: list[Record]
) -> int:
    """Runs what is not finished yet, adding to `records` as it comes, and reports."""
    planned = article_runs.plan(cells, folder)
    records += planned.finished
    for note in planned.notes:
        say(note)
    if planned.finished:
        say(f"{len(planned.finished)} of {len(cells)} cells stand finished in {folder}")
    failures = []
    started = time.monotonic()
    for job, record in shown(sweep.execute(planned, executor), planned.jobs):
        records.append(record)
        if not record.is_result:
            log = folder / article_runs.RUNS / job.id / "log.txt"
            where = f" (see {log})" if log.exists() else ""
            failures.append(f"{job.label}: {record.status}: {record.reason}{where}")
    finished = [record for record in records if record.is_result]
    if finished:
        rows = article_runs.in_order(cells, finished)
        made = f"{len(rows) - len(planned.finished)} cells in {time.monotonic() - started:.0f} s"
        failures += _report(rows, folder, f"{made} by {executor.workers} workers")
    for failure in failures:
        say(failure)
    return EXIT_FAILED if failures or planned.lost else 0


def _report(rows: dict[ArticleCell, Record], folder: Path, made: str) -> list[str]:
    from rulekeep.article import report

    # Files first: what cannot be printed any more is not lost.
    report.write_outputs(folder, rows, shlex.join(["rulekeep", *sys.argv[1:]]), made)
    tell(f"\n{report.shown(rows)}\n")
    if len({cell.seed for cell in rows}) > 1:
        tell(f"{report.over_seeds(rows)}\n")
        if paired := report.against_attention(rows):
            tell(f"{paired}\n")
    for line in report.conclusion(rows, folder):
        tell(line)
    return report.comparison(rows).failures

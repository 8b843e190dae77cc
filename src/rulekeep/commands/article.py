"""`rulekeep article`: the published experiment."""

import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rulekeep.article import experiment
from rulekeep.article.records import Record
from rulekeep.commands.console import EXIT_FAILED, EXIT_INTERRUPTED, say
from rulekeep.commands.options import integer, integers, run_folder, worker_count
from rulekeep.executors import LocalExecutor
from rulekeep.specs import (
    ARTICLE_MODELS,
    PUBLISHED_CONTEXTS,
    PUBLISHED_SEED,
    PUBLISHED_STEPS,
    ArticleCell,
    ArticleSpec,
)

_DEFAULTS = ArticleSpec().model_dump()


def article(
    *,
    contexts: str = ",".join(map(str, PUBLISHED_CONTEXTS)),
    models: str = ",".join(ARTICLE_MODELS),
    seeds: str = str(PUBLISHED_SEED),
    steps: str = str(PUBLISHED_STEPS),
    serial: Annotated[bool, Parameter(negative="")] = False,
    leak: Annotated[bool, Parameter(negative="")] = False,
    workers: str | None = None,
    out: str | None = None,
) -> int:
    """Reproduce the published experiment: attention against an 8-slot memory.

    Parameters
    ----------
    contexts
        Sequence lengths in tokens, separated by commas; 16 or more each.
    models
        attention, compressed, or both, separated by commas.
    seeds
        Seeds of the replayed random streams, separated by commas; 7 is the published one.
    steps
        Training steps; 80 were published.
    serial
        Run the slot memory as the loop over tokens it is, instead of in parallel.
    leak
        Train nothing: show what a reader of the last 6 prefix tokens scores.
    workers
        Cells to run side by side, one thread each; as many as there are cores if left out.
    out
        Folder for the results, runs/article-<time> if left out. A folder with finished
        cells in it is taken over: only the others are run.
    """
    spec = ArticleSpec.parse(
        contexts=integers("contexts", contexts),
        models=tuple(name.strip() for name in models.split(",")),
        seeds=integers("seeds", seeds),
        steps=integer("steps", steps),
        serial=serial,
    )
    executor = LocalExecutor(worker_count(workers))
    # Tables and plots bring libraries that take a second to load: only who needs them waits.
    from rulekeep.article import report

    if leak:
        asked = {"models": spec.models, "seeds": spec.seeds, "steps": spec.steps, "serial": serial}
        ignored = [f"--{name}" for name, value in asked.items() if value != _DEFAULTS[name]]
        ignored += [] if out is None else ["--out"]
        if ignored:
            say(f"--leak trains nothing: {', '.join(ignored)} ignored")
        print(f"{report.LEAK_MEANING}\n\n{report.leak_table(spec.contexts)}")
        return 0
    folder = run_folder("article", out)
    experiment.open_folder(folder)
    records: dict[ArticleCell, Record] = {}
    try:
        return _run(spec, folder, executor, records)
    except KeyboardInterrupt:
        say(
            f"interrupted: {len(records)} of {len(spec.cells())} cells are finished and stand in "
            f"{folder}; run the same command with --out {shlex.quote(str(folder))} for the rest"
        )
        return EXIT_INTERRUPTED


def _run(
    spec: ArticleSpec, folder: Path, executor: LocalExecutor, records: dict[ArticleCell, Record]
) -> int:
    """Runs what is not finished yet, adding to `records` as it comes, and reports."""
    plan = experiment.plan(spec, folder)
    records |= plan.finished
    for note in plan.notes:
        say(note)
    if plan.finished:
        say(f"{len(plan.finished)} of {len(spec.cells())} cells stand finished in {folder}")
    failures = []
    started = time.monotonic()
    for event in _shown(experiment.run(plan.to_run, folder, executor), plan, spec.steps):
        if event.record is not None:
            records[event.cell] = event.record
        else:
            failures.append(f"{event.cell.label}: {event.failure}")
    rows = {cell: records[cell] for cell in spec.cells() if cell in records}
    if rows:
        made = f"{len(rows) - len(plan.finished)} cells in {time.monotonic() - started:.0f} s"
        failures += _report(rows, folder, f"{made} by {executor.workers} workers")
    for failure in failures:
        say(failure)
    return EXIT_FAILED if failures else 0


def _report(rows: dict[ArticleCell, Record], folder: Path, made: str) -> list[str]:
    from rulekeep.article import report

    # Files first: what cannot be printed any more is not lost.
    report.write_outputs(folder, rows, shlex.join(["rulekeep", *sys.argv[1:]]), made)
    table, failures = report.comparison(rows)
    print(f"\n{table}\n\n{report.details(rows)}\n")
    if len({cell.seed for cell in rows}) > 1:
        print(f"{report.over_seeds(rows)}\n")
    print(f"plot:    {folder / 'overview.png'} (and .svg)")
    print(f"report:  {folder / 'report.md'}")
    print(f"records: {folder / 'records.jsonl'}, history.json, predictions.json")
    return failures


def _shown(
    events: Iterator[experiment.Event], plan: experiment.Plan, steps: int
) -> Iterator[experiment.CellFinished]:
    """Passes on the finished cells, showing a bar on a terminal and plain lines elsewhere."""
    console = Console(stderr=True, markup=False, highlight=False)
    started = time.monotonic()
    done = 0
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        bars = {
            cell: progress.add_task(f"{cell.context} {cell.model} seed {cell.seed}", total=steps)
            for cell in plan.to_run
        }
        for event in events:
            if isinstance(event, experiment.CellAdvanced):
                progress.update(bars[event.cell], completed=event.steps)
                continue
            done += 1
            if event.record is not None:
                metrics, costs = event.record["metrics"], event.record["costs"]
                console.print(
                    f"[{done}/{len(plan.to_run)}] {event.cell.label}: "
                    f"rule accuracy {metrics['rule_accuracy']:.3f}, "
                    f"trained {costs['train_seconds']:.1f} s, "
                    f"{time.monotonic() - started:.0f} s since the start",
                    soft_wrap=True,
                )
            # Not removed: news of its last steps may still be on the way.
            progress.update(bars[event.cell], visible=False)
            yield event

"""The `rulekeep` command: parse, call, print. torch is loaded only by what trains.

Exit codes: 0 all well, 1 a figure out of tolerance or a failed run, 2 bad usage,
130 interrupted, 141 standard output closed early.
"""

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import rulekeep
from rulekeep.article import experiment
from rulekeep.article.records import Record
from rulekeep.executors import LocalExecutor
from rulekeep.specs import (
    ARTICLE_MODELS,
    PUBLISHED_CONTEXTS,
    PUBLISHED_SEED,
    PUBLISHED_STEPS,
    ArticleCell,
    ArticleSpec,
    UsageError,
)

_DEFAULTS = ArticleSpec().model_dump()
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141

app = App(
    name="rulekeep",
    help="Which early, weak, parallel rules survive when a context is compressed?",
    version=rulekeep.__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


def main() -> NoReturn:
    """The console entry point."""
    _open_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        _usage(f"{' '.join(str(error).split()).rstrip('.')}; see rulekeep --help")
    except UsageError as error:
        _usage(str(error))
    except KeyboardInterrupt:
        _say("rulekeep: interrupted")
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left: nothing more can be said there, not at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_BROKEN_PIPE
    except OSError as error:
        _say(f"rulekeep: {error}")
        code = EXIT_FAILED
    sys.exit(code or 0)


def _open_streams() -> None:
    """Output that is closed goes nowhere; what a terminal has no letters for is replaced."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Kept open until the process ends.
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="replace")


@app.command
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
        contexts=_integers("contexts", contexts),
        models=tuple(name.strip() for name in models.split(",")),
        seeds=_integers("seeds", seeds),
        steps=_integer("steps", steps),
        serial=serial,
    )
    executor = LocalExecutor(_workers(workers))
    # Tables and plots bring libraries that take a second to load: only who needs them waits.
    from rulekeep.article import report

    if leak:
        asked = {"models": spec.models, "seeds": spec.seeds, "steps": spec.steps, "serial": serial}
        ignored = [f"--{name}" for name, value in asked.items() if value != _DEFAULTS[name]]
        ignored += [] if out is None else ["--out"]
        if ignored:
            _say(f"--leak trains nothing: {', '.join(ignored)} ignored")
        print(f"{report.LEAK_MEANING}\n\n{report.leak_table(spec.contexts)}")
        return 0
    folder = _folder(out)
    experiment.open_folder(folder)
    records: dict[ArticleCell, Record] = {}
    try:
        return _run(spec, folder, executor, records)
    except KeyboardInterrupt:
        _say(
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
        _say(note)
    if plan.finished:
        _say(f"{len(plan.finished)} of {len(spec.cells())} cells stand finished in {folder}")
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
        _say(failure)
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


def _folder(out: str | None) -> Path:
    if out is None:
        return Path("runs") / time.strftime("article-%Y%m%d-%H%M%S")
    if not out.strip() or not out.isprintable():
        raise UsageError(f"--out {out!a}: must be the name of a folder, in printable characters")
    return Path(out)


def _integers(option: str, text: str) -> tuple[int, ...]:
    return tuple(_integer(option, part, of=text) for part in text.split(","))


def _integer(option: str, text: str, of: str | None = None) -> int:
    try:
        return int(text)
    except ValueError:
        fix = "must be a whole number" + ("" if of is None else ", or several between commas")
        raise UsageError(f"--{option} {(of or text)[:80]!a}: {fix}") from None


def _workers(text: str | None) -> int | None:
    if text is None:
        return None
    workers = _integer("workers", text)
    if workers < 1:
        raise UsageError(f"--workers {workers}: must be 1 or more")
    return workers


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _usage(message: str) -> NoReturn:
    _say(f"rulekeep: {message}")
    sys.exit(EXIT_USAGE)

"""`rulekeep article`: the published experiment."""

import time
from typing import Annotated

from rulekeep.commands.options import Device, Flag, Integers, Workers, run_folder, within
from rulekeep.commands.runs import How, make_runs
from rulekeep.console import EXIT_FAILED, EXIT_INTERRUPTED, command_line, say, tell
from rulekeep.executors import LocalExecutor
from rulekeep.printable import counted, pasted
from rulekeep.running.resolving import check_device
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
from rulekeep.specs.article import MOST_ARTICLE_STEPS
from rulekeep.sweeps.planning import identity

RUNS = "runs"


def article(
    *,
    contexts: Integers = PUBLISHED_CONTEXTS,
    models: str = ",".join(ARTICLE_MODELS),
    seeds: Integers = (PUBLISHED_SEED,),
    steps: Annotated[int, within(1, MOST_ARTICLE_STEPS)] = PUBLISHED_STEPS,
    serial: Flag = False,
    decoys: ArticleDecoys = "published",
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
    # Tables and plots bring libraries that take a second to load: only who needs them waits.
    from rulekeep.article import report

    executor = LocalExecutor(workers)
    check_device(device)
    folder, cells = run_folder("article", out), spec.cells()
    started = time.monotonic()
    made = make_runs(
        lambda _: sorted(cells, key=_length, reverse=True), folder / RUNS, executor,
        how=How(no_weights=True),
        rest=f"the same command with --out {pasted(folder)}",
    )  # fmt: skip
    if made.interrupted:
        return EXIT_INTERRUPTED
    found = {cell: made.records.get(identity(cell)) for cell in cells}
    rows = {cell: one for cell, one in found.items() if one is not None and one.is_result}
    failures: list[str] = []
    if rows:
        took = f"{time.monotonic() - started:.0f} s by {counted(executor.workers, 'worker')}"
        # Files first: what cannot be printed any more is not lost.
        report.write_outputs(folder, rows, command_line(), took)
        compared = report.comparison(rows)
        tell(f"\n{compared.table}\n")
        if len(spec.seeds) > 1:
            tell(f"{report.over_seeds(rows)}\n")
            if paired := report.against_attention(rows):
                tell(f"{paired}\n")
        for line in report.conclusion(rows, folder):
            tell(line)
        failures = compared.failures
        for failure in failures:
            say(failure)
    return made.say_failed(folder / RUNS) or (EXIT_FAILED if failures else 0)


def _length(cell: ArticleCell) -> float:
    # Relative seconds, good enough to start the longest first.
    per_token = 1 + cell.context / 500 if cell.model == "attention" else 1.3
    return cell.steps * cell.context * per_token * (20 if cell.serial else 1)

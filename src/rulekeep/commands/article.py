"""`rulekeep article`: the published experiment."""

from typing import Annotated

from rulekeep.article.leak import WINDOW, leak_scores
from rulekeep.article.published import comparison
from rulekeep.commands.options import Device, Flag, Integers, Workers, within
from rulekeep.console import EXIT_FAILED, say, tell
from rulekeep.executors import LocalExecutor
from rulekeep.printable import pasted
from rulekeep.records.folders import run_folder
from rulekeep.running.building import check_device
from rulekeep.specs import (
    ARTICLE_MODELS,
    PUBLISHED_CONTEXTS,
    PUBLISHED_SEED,
    PUBLISHED_STEPS,
    ArticleDecoys,
    article_cells,
    split_names,
)
from rulekeep.specs.article import MOST_ARTICLE_STEPS
from rulekeep.sweeps.asked import How
from rulekeep.sweeps.making import make_runs
from rulekeep.sweeps.planning import identity


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
        Folder of runs, runs/article-TIME if left out. A cell that stands there is not made again.
    """
    cells = article_cells(
        contexts=contexts, models=split_names(models), seeds=seeds, steps=steps, serial=serial,
        decoys=decoys, device=device,
    )  # fmt: skip
    check_device(device)
    folder = run_folder("article", out)
    # The longest, which take longest, begin first.
    first = sorted(cells, key=lambda cell: cell.context, reverse=True)
    made = make_runs(lambda _: first, folder, LocalExecutor(workers), how=How(weights=False))
    records = {cell: made.records.get(identity(cell)) for cell in cells}
    results = {cell: one for cell, one in records.items() if one is not None and one.is_result}
    if not results:
        return made.say_failed(folder)
    longest = max(cell.context for cell in results)
    table, verdict, failures = comparison(results)
    reader = leak_scores(longest, decoys=decoys)["retention"]
    tell(
        f"\n{table}\n\nAs published: {verdict}.\n"
        f"Without memory: a reader of the last {WINDOW} tokens has {reader:.3f} of first rules "
        f"right at {longest:,} tokens.\n"
        f"Curves, costs, means and intervals: rulekeep report {pasted(folder)}\n"
        "Next: rulekeep demo (two minutes), or rulekeep check FILE.py:Class for your own layer."
    )
    for failure in failures:
        say(failure)
    return made.say_failed(folder) or (EXIT_FAILED if failures else 0)

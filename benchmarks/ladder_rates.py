"""Do the ladder's gains hang on the rate? Its rungs that gain most, at equal rates.

    rulekeep sweep benchmarks/ladder_rates.py --out results/ladder-rates
    python benchmarks/ladder_rates.py                     # of results/ladder-rates
    python benchmarks/ladder_rates.py RUNS

Dev chooses each rung's rate at the lengths trained on, with one seed, so two rungs may stand at two
rates, and at one that keeps less far beyond. Here both stand at either of two: rungs 5 to 7 on
early rules, 7 to 9 on marked ones. Retention on test, mean over the seeds with its 95 % interval
(Student t); what a rung gains on the one before at the same rate is paired by seed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rulekeep.printable import markdown_table
from rulekeep.records.store import read_runs
from rulekeep.specs import AnySpec, RunSpec
from rulekeep.sweeps.presets import LADDER, SEEDS, ladder

if TYPE_CHECKING:
    from rungs import Row

RESULTS = Path(__file__).parent.parent / "results"
RUNGS, ROOT = RESULTS / "catalogue", RESULTS / "ladder-rates"
RATES = (3e-3, 1e-2)
# Rungs by their numbers, from 1, in order.
ASKED = {"early": (5, 6, 7), "marked": (7, 8, 9)}
# The rate of each that dev did not choose.
OTHERS = {"early": (3e-3, 3e-3, 3e-3), "marked": (1e-2, 3e-3, 1e-2)}


def sweep() -> Sequence[AnySpec]:
    """What the ladder lacks of five seeds at the rate that dev did not choose."""
    specs = list[AnySpec]()
    for placement, rungs in ASKED.items():
        for rung, rate in zip(rungs, OTHERS[placement], strict=True):
            # Without records: the grid alone, with its one seed, which the ladder has run.
            specs += [
                spec.model_copy(update={"seed": seed})
                for spec in ladder([], mixers=(LADDER[rung - 1],))
                if isinstance(spec, RunSpec)
                and (spec.task_options["placement"], spec.learning_rate) == (placement, rate)
                for seed in SEEDS[1:]
            ]
    return specs


def rows(*roots: Path) -> dict[tuple[str, int, float], "Row | None"]:
    """What was run by placement, rung and rate; None while seeds are missing."""
    from ladder_table import CONTEXTS
    from rungs import row_of

    records = [record for root in roots for record in read_runs(root).records]
    found = {}
    for rate in RATES:
        at_rate = [one for one in records if one.spec.learning_rate == rate]
        for placement, rungs in ASKED.items():
            for rung in rungs:
                row = row_of(LADDER[rung - 1], at_rate, "recite", placement, CONTEXTS)
                found[placement, rung, rate] = row
    return found


def page(*roots: Path) -> str:
    """The table, as Markdown."""
    # Here, since a sweep file is loaded without the scripts beside it in reach.
    from ladder_table import CONTEXTS, NONE, gain

    from rulekeep.analysis.rows import text_of

    found, longest = rows(*roots), CONTEXTS[-1]
    head = ["recite", "rung", "rate", *(f"{at:,} tokens" for at in CONTEXTS)]
    head += [f"seeds 1 to 5 at {longest:,}", "gain over the rung before, same rate"]
    body = []
    for placement, rungs in ASKED.items():
        for rate in RATES:
            before = None
            for rung in rungs:
                row = found[placement, rung, rate]
                cells = [text_of(row and row.retention[context]) for context in CONTEXTS]
                seeds = row.by_seed(longest) if row else ""
                gained = NONE if before is None else gain(row, before)
                body.append([placement, str(rung), f"{rate:g}", *cells, seeds, gained])
                before = row
    return markdown_table(head, body) + "\n"


if __name__ == "__main__":
    named = [Path(name) for name in sys.argv[1:]] or [ROOT]
    sys.stdout.write(page(RUNGS, *named))

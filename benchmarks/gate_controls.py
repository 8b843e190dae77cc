"""Is it what a gate sees that keeps early rules, or how fast it moves? The controls of the ladder.

    rulekeep sweep benchmarks/gate_controls.py --out results/gate-controls
    python benchmarks/gate_controls.py                    # of results/gate-controls
    python benchmarks/gate_controls.py RUNS

From rung 6 of the preset `ladder` to rung 7 a write gate comes to see eight tokens where it saw its
own. Its z, a sum over them, then moves eight times as far a step of training by what they have in
common. Two gates have the one without the other: `scaled_gate.py` sees one token and moves as far
as rung 7's, `slowed_gate.py` sees eight and moves as far as rung 6's. Retention on test, mean over
the seeds with its 95 % interval (Student t), at the rate that dev chose for both rungs; gains are
paired by seed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rulekeep.printable import markdown_table
from rulekeep.records.store import read_runs
from rulekeep.specs import AnySpec, RunSpec, contestants
from rulekeep.sweeps.presets import LADDER, SEEDS, ladder

RESULTS = Path(__file__).parent.parent / "results"
RUNGS, ROOT = RESULTS / "catalogue", RESULTS / "gate-controls"
SCALED, SLOWED = contestants(
    "benchmarks/scaled_gate.py:ScaledGate[hidden=248,added_positions=earliness],"
    "benchmarks/slowed_gate.py:SlowedGate[hidden=240,added_positions=earliness]"
)
# Tokens in sight, how far a step moves z, and who is so.
GATES = (
    ("1", "1", "rung 6", LADDER[5]),
    ("1", "8", "ScaledGate", SCALED),
    ("8", "1", "SlowedGate", SLOWED),
    ("8", "8", "rung 7", LADDER[6]),
)
# What the grids of both rungs chose.
RATE = 0.01


def sweep() -> Sequence[AnySpec]:
    """The two controls on early rules, as the ladder runs its rungs."""
    first = [
        spec
        for spec in ladder([], mixers=(SCALED, SLOWED))
        if isinstance(spec, RunSpec)
        and (spec.task_options["placement"], spec.learning_rate) == ("early", RATE)
    ]
    return [spec.model_copy(update={"seed": seed}) for spec in first for seed in SEEDS]


def page(*roots: Path) -> str:
    """The table, as Markdown."""
    # Here, since a sweep file is loaded without the scripts beside it in reach.
    from ladder_table import CONTEXTS, NONE, gain
    from rungs import row_of

    from rulekeep.analysis.rows import text_of

    records = [record for root in roots for record in read_runs(root).records]
    longest = CONTEXTS[-1]
    head = ["in sight", "a step moves z", "recite, early", *(f"{at:,} tokens" for at in CONTEXTS)]
    head += [f"seeds 1 to 5 at {longest:,}", f"gain at {longest:,} over rung 6"]
    body = []
    rows = [row_of(one, records, "recite", "early", CONTEXTS) for *_, one in GATES]
    for (sight, speed, name, _), row in zip(GATES, rows, strict=True):
        cells = [text_of(row and row.retention[context]) for context in CONTEXTS]
        seeds = row.by_seed(longest) if row else ""
        gained = NONE if row is rows[0] else gain(row, rows[0])
        body.append([sight, speed, name, *cells, seeds, gained])
    return markdown_table(head, body) + "\n"


if __name__ == "__main__":
    named = [Path(name) for name in sys.argv[1:]] or [ROOT]
    sys.stdout.write(page(RUNGS, *named))

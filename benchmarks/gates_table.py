"""How often the write gates of trained models open, by kind of token: for docs/evidence.md.

    python benchmarks/gates_table.py                      # of results/beyond
    python benchmarks/gates_table.py RUNS

Of every run in the folder that `rulekeep explain` was run on, a row a layer: the share of its
gates that are open, however little, at each kind of token of the longest texts traced; in
brackets that of the one gate, a head, which opens most often there. A gate that is exactly zero
leaves the state as it was.
"""

import sys
from pathlib import Path

from rulekeep.commands.records import explanations
from rulekeep.explain.record import GATE, Trace, Traced
from rulekeep.printable import markdown_table
from rulekeep.records.store import Record, read_runs

ROOT = Path(__file__).parent.parent / "results" / "beyond"
# In the order of a text: what is to be kept, what is not, what asks for it.
KINDS = ("cue", "rule", "item", "decoy rule", "decoy item", "filler", "request", "<go>")


def page(root: Path) -> str:
    """The table, as Markdown; empty where no run is explained."""
    traced = {one.run: one.traced for one in explanations(root, [])}
    explained = (record for record in read_runs(root).records if record.id in traced)
    body = [
        row
        for record in sorted(explained, key=lambda one: (_place(one), one.id))
        for row in rows(_place(record), traced[record.id])
    ]
    head = ["gates open", "tokens", "layer", *KINDS]
    return markdown_table(head, body) + "\n" if body else ""


def rows(place: tuple[str, str, int], traced: Traced) -> list[list[str]]:
    """A row for each layer of one run; "–" for a kind of token that its task has not."""
    task, placement, seed = place
    gates = {(trace.layer, trace.kind): trace for trace in traced.gates if trace.part == GATE}
    return [
        [
            f"{task}, {placement}, seed {seed}",
            f"{traced.context:,}",
            f"{layer}",
            *(_open(gates[layer, kind]) if (layer, kind) in gates else "–" for kind in KINDS),
        ]
        for layer in sorted({layer for layer, _ in gates})
    ]


def _open(trace: Trace) -> str:
    """Of none at all a plain 0: what is nearly none would look alike."""
    if trace.zeros == 1:
        return "0"
    return f"{1 - trace.zeros:.2%} ({1 - min(trace.zeros_by_gate, default=trace.zeros):.2%})"


def _place(record: Record) -> tuple[str, str, int]:
    spec = record.spec
    return spec.task, str(spec.task_options["placement"]), spec.seed


if __name__ == "__main__":
    sys.stdout.write(page(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))

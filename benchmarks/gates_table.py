"""How far the write gates of trained models open, by kind of token: for docs/findings.md.

    python benchmarks/gates_table.py                      # of results/beyond
    python benchmarks/gates_table.py RUNS

Of every run in the folder that `rulekeep explain` was run on: the mean of each layer's gates at
each kind of token, and the share of them that is exactly zero.
"""

import sys
from pathlib import Path

from rulekeep.article.report import markdown_table
from rulekeep.explain.record import GATE, RECORD, read_explanation
from rulekeep.store import RunFolder, read_record, read_runs

ROOT = Path(__file__).parent.parent / "results" / "beyond"
KINDS = ("rule", "item", "cue", "decoy rule", "decoy item", "filler")


def page(root: Path) -> str:
    """A table for each explained run, as Markdown: a row a kind of token."""
    found = [root / record["id"] / RECORD for record in read_runs(root).records]
    return "\n".join(table(path) for path in found if path.exists())


def table(path: Path) -> str:
    """The gates of one run: of each layer the mean, and the share that is exactly zero."""
    traced = read_explanation(path).traced
    spec = read_record(RunFolder(path.parent).record)["spec"]
    gates = {(trace.layer, trace.kind): trace for trace in traced.gates if trace.part == GATE}
    layers = sorted({layer for layer, _ in gates})
    head = [
        f"{spec['task']}, {spec['task_options']['placement']}, seed {spec['seed']}, "
        f"{traced.context:,} tokens",
        "tokens",
    ]
    for layer in layers:
        head += [f"write gate, layer {layer}", "exactly 0"]
    body = []
    for kind in KINDS:
        row = [kind, f"{gates[layers[0], kind].n:,}"]
        for layer in layers:
            trace = gates[layer, kind]
            row += [f"{trace.mean:.6f}", f"{trace.zeros:.3%}"]
        body.append(row)
    return markdown_table(head, body) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))

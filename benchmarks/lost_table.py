"""At which step explained memories lose their rules: a table of docs/evidence.md.

    python benchmarks/lost_table.py                       # of results/catalogue
    python benchmarks/lost_table.py RUNS

Of every run that `rulekeep explain` was run on, at the longest length: what a linear probe finds of
the rules in the state right after them and before the answer, what the model says, and what is
lost of all above chance at each step, with 95 % intervals over examples. They hold for this model.
"""

import sys
from pathlib import Path

from ladder_table import STEPS
from rungs import ROOT

from rulekeep.analysis.variants import is_variant
from rulekeep.commands.records import explanations
from rulekeep.explain.record import Difference
from rulekeep.printable import markdown_table
from rulekeep.records.store import Record, read_runs

# The ladder starts at other mixers; of them a run is named by its mixer.
OURS = "sparse_delta"


def page(root: Path) -> str:
    """The table, as Markdown: a row a run."""
    by_run = {one.run: one for one in explanations(root, [])}
    explained = [record for record in read_runs(root).records if record.id in by_run]
    places = {_place(record) for record in explained}
    head = [places.pop() if len(places) == 1 else "run", "tokens"]
    head += ["right after the rules", "before the answer", "said"]
    head += ["lost at capture", "in the body", "at read-out"]
    body = []
    for record in explained:
        far = by_run[record.id].probes[-1]
        found = (far.places[0].found, far.places[-1].found, far.said)
        lost = (far.lost.capture, far.lost.body, far.lost.readout)
        shares = [f"{one.mean:.3f}" for one in found]
        named = f"{_place(record)}: {_name(record)}" if places else _name(record)
        body.append([named, f"{far.context:,}", *shares, *map(_said, lost)])
    return markdown_table(head, sorted(body)) + "\n"


def _said(one: Difference) -> str:
    return f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f})"


def _place(record: Record) -> str:
    spec = record.spec
    return f"{spec.task}, {spec.task_options['placement']}, seed {spec.seed}"


def _name(record: Record) -> str:
    """The rung of our memory that it is, or its mixer."""
    if record.spec.mixer == OURS:
        for number, _, one in STEPS:
            if is_variant(record, one):
                return f"rung {number}"
    return record.spec.mixer


if __name__ == "__main__":
    sys.stdout.write(page(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))

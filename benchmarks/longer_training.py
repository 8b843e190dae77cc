"""Trained at 1,028 tokens instead of 256: our memory, and the attention that learns soonest.

    rulekeep sweep benchmarks/longer_training.py --out results/longer-training
    python benchmarks/longer_training.py                  # of that folder
    python benchmarks/longer_training.py RUNS

`recite` by the protocol of the preset `exam-long`, in a quarter of its steps: trained up to 1,028
tokens, tested up to 4,096. Attention has taps and the signal of how early a token is
(studies/beyond.py): of all attentions it learns marked rules in the fewest steps. Retention
and `exact`, means over the seeds with 95 % intervals (Student t), steps up to the first look at dev
with a retention of 0.9, a median, and the difference paired by seed. A cell with fewer than five
seeds is left out.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rulekeep.analysis.summary import paired_difference
from rulekeep.printable import markdown_table
from rulekeep.records.store import Record
from rulekeep.specs import AnySpec, RunSpec, contestants
from rulekeep.sweeps.presets import BEYOND, exam_long

ROOT = Path(__file__).parent.parent / "results" / "longer-training"
OURS = BEYOND[-1]
MIXERS = contestants(
    "benchmarks/convolved_attention.py:ConvolvedAttention[added_positions=earliness]"
)
STEPS = 1000
FURTHEST = 4096
ASKED = [("retention", 256), ("retention", 1028), ("retention", 4096)]
ASKED += [("exact", 1028), ("exact", 4096)]


def sweep(records: Sequence[Record]) -> Sequence[AnySpec]:
    """Marked rules first: they are the harder."""
    specs = exam_long(records, mixers=(OURS, *MIXERS), steps=STEPS, furthest=FURTHEST)
    kept = [spec for spec in specs if isinstance(spec, RunSpec) and spec.task == "recite"]
    return sorted(kept, key=lambda spec: spec.task_options["placement"] == "early")


def page(root: Path = ROOT) -> str:
    """The table, as Markdown: cells that are run in full."""
    # Here, since a sweep file is loaded without the scripts beside it in reach.
    from beside import attentions, best_on_dev, read, steps_text, task_of

    from rulekeep.analysis.best import steps_to_learn
    from rulekeep.analysis.rows import text_of

    head = ["", "", "rate", *(f"{figure}, {at}" for figure, at in ASKED), "steps to 0.9"]
    body = []
    for contest, ours in read(root):
        if not attentions(contest, ours.context):
            continue
        theirs = best_on_dev(contest, "retention", ours.context)
        for group, name in ((theirs, "attention with taps"), (ours, ours.mixer)):
            cells = [text_of(group.summary(figure, at)) for figure, at in ASKED]
            steps = steps_text(steps_to_learn(group, "retention"))
            body.append([task_of(contest), name, f"{group.rate:.3g}", *cells, steps])
        more = [paired_difference(ours.by_seed(*one), theirs.by_seed(*one)) for one in ASKED]
        body.append([task_of(contest), "difference", "", *(one.summary.text() for one in more), ""])
    return markdown_table(head, body) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(*map(Path, sys.argv[1:2])))

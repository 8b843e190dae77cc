"""Is it its neighbours that attention lacks? A control for the exam, beside our memory.

    rulekeep sweep benchmarks/attention_controls.py --out results/attention-controls
    python benchmarks/attention_controls.py               # of results/attention-controls
    python benchmarks/attention_controls.py RUNS

A marked rule is told from a decoy by the cue before it, which attention without positions hardly
sees and the eight taps of our memory's gate do. So attention gets taps as well
(`convolved_attention.py`), and the signal of how early a token is: `recite`, `apply` and `override`
by the protocol of the exam, as our memory in the preset `beyond`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rulekeep.article.report import markdown_table
from rulekeep.presets import BEYOND, exam
from rulekeep.specs import AnySpec, RunSpec, contestants
from rulekeep.store import Record, read_runs
from rulekeep.summary import paired_difference

RESULTS = Path(__file__).parent.parent / "results"
OURS, ROOT = RESULTS / "beyond", RESULTS / "attention-controls"

CONVOLVED = contestants(
    "benchmarks/convolved_attention.py:ConvolvedAttention[added_positions=earliness]"
)
TASKS = ("recite", "apply", "override")


def sweep(records: Sequence[Record]) -> Sequence[AnySpec]:
    """The exam but for `recall`: marked rules first, where attention keeps least."""
    specs = exam(records, mixers=CONVOLVED)
    kept = [spec for spec in specs if isinstance(spec, RunSpec) and spec.task in TASKS]
    return sorted(kept, key=lambda spec: spec.task_options["placement"] == "early")


def page(*roots: Path) -> str:
    """The table, as Markdown: cells that are run in full."""
    # Here, since a sweep file is loaded without the scripts beside it in reach.
    from catalogue_table import CONTEXTS, LONG, SHORT, row_of
    from exam_table import text_of

    records = [record for root in roots for record in read_runs(root).records]
    asked = [("retention", at) for at in CONTEXTS] + [("exact", at) for at in (SHORT, LONG)]
    head = ["", "", "rate", *(f"{figure}, {at}" for figure, at in asked)]
    head.append(f"seeds 1 to 5 at {LONG}")
    body = []
    for task in TASKS:
        for placement in ("early", "marked"):
            rows = [row_of(one, records, task, placement) for one in (*CONVOLVED, BEYOND[-1])]
            if None in rows:
                continue
            for name, row in zip(("attention with taps", "sparse_delta"), rows, strict=True):
                cells = [text_of(getattr(row, figure)[at]) for figure, at in asked]
                each = ", ".join(f"{kept:.3f}" for _, kept in sorted(row.seeds[LONG].items()))
                body.append([f"{task}, {placement}", name, f"{row.rate:g}", *cells, each])
            more = [paired_difference(rows[1].seeds[at], rows[0].seeds[at]) for at in CONTEXTS]
            cells = [one.summary.text() for one in more]
            body.append([f"{task}, {placement}", "difference", "", *cells, "", "", ""])
    return markdown_table(head, body) + "\n"


if __name__ == "__main__":
    named = [Path(name) for name in sys.argv[1:]] or [ROOT]
    sys.stdout.write(page(OURS, *named))

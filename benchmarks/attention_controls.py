"""Is it its neighbours that attention lacks? A control for the exam, beside our memory.

    rulekeep sweep benchmarks/attention_controls.py --out results/attention-controls
    rulekeep sweep benchmarks/attention_controls.py:aside --out results/attention-controls-aside
    python benchmarks/attention_controls.py               # of those folders
    python benchmarks/attention_controls.py RUNS          # with another in place of the first

A marked rule is told from a decoy by the cue before it, which attention without positions hardly
sees and the eight taps of our memory's gate do. So attention gets taps as well
(`convolved_attention.py`), and the signal of how early a token is: `recite`, `apply` and `override`
by the protocol of the exam, as our memory in the preset `beyond`. Dev looks at the lengths trained
on, and its first seed alone chooses the rate: where that seed keeps more with another one at 4,096
tokens, or others do not learn with it, the other rate is run as well, in attention's favour; early
rules of `recite` have that of its marked ones. `recite` and `apply` are tested at 16,384 tokens
too, as in the preset `beyond-attention`: early rules at the rates that every seed learns with,
marked ones at the one that keeps more at 4,096.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rulekeep.article.report import markdown_table
from rulekeep.presets import BEYOND, BEYOND_ATTENTION_TESTS, SEEDS, exam
from rulekeep.specs import AnySpec, RunSpec, contestants
from rulekeep.store import Record, read_runs
from rulekeep.summary import paired_difference

RESULTS = Path(__file__).parent.parent / "results"
OURS, ROOT = RESULTS / "beyond", RESULTS / "attention-controls"
ASIDE = RESULTS / "attention-controls-aside"

CONVOLVED = contestants(
    "benchmarks/convolved_attention.py:ConvolvedAttention[added_positions=earliness]"
)
TASKS = ("recite", "apply", "override")
# One that dev did not choose, for each cell.
ASIDE_RATES = {
    ("recite", "early"): 3e-3,
    ("recite", "marked"): 3e-3,
    ("apply", "early"): 1e-2,
    ("apply", "marked"): 1e-2,
    ("override", "early"): 1e-2,
    ("override", "marked"): 1e-2,
}
# What is tested at 16,384 tokens as well, and at what rates.
FAR = 16384
FAR_RATES = {cell: (rate,) for cell, rate in ASIDE_RATES.items() if "override" not in cell}
# Dev's too, with which every seed learns them.
FAR_RATES["recite", "early"] = (1e-3, ASIDE_RATES["recite", "early"])


def sweep(records: Sequence[Record]) -> Sequence[AnySpec]:
    """The exam but for `recall`: marked rules first, where attention keeps least."""
    specs = exam(records, mixers=CONVOLVED)
    kept = [spec for spec in specs if isinstance(spec, RunSpec) and spec.task in TASKS]
    return sorted(kept, key=lambda spec: spec.task_options["placement"] == "early")


def aside() -> Sequence[AnySpec]:
    """What the grid lacks of five seeds at a rate that dev did not choose, and 16,384 tokens."""
    specs = list[RunSpec]()
    for (task, placement), rate in ASIDE_RATES.items():
        specs += _of_cell(task, placement, rate, SEEDS[1:] if placement == "marked" else SEEDS)
    for (task, placement), rates in FAR_RATES.items():
        for spec in (one for rate in rates for one in _of_cell(task, placement, rate, SEEDS)):
            tested = {"test_contexts": (min(spec.test_contexts), FAR)}
            few = {"long_test_examples": BEYOND_ATTENTION_TESTS}
            specs.append(spec.model_copy(update={**tested, **few}))
    return specs


def _of_cell(task: str, placement: str, rate: float, seeds: Sequence[int]) -> list[RunSpec]:
    # Without records: the grid alone, on marked rules, with its one seed.
    return [
        spec.model_copy(
            update={"task_options": {**spec.task_options, "placement": placement}, "seed": seed}
        )
        for spec in exam([], mixers=CONVOLVED)
        if isinstance(spec, RunSpec) and (spec.task, spec.learning_rate) == (task, rate)
        for seed in seeds
    ]


def page(*roots: Path) -> str:
    """The table, as Markdown: cells that are run in full."""
    # Here, since a sweep file is loaded without the scripts beside it in reach.
    from catalogue_table import CONTEXTS, LONG, SHORT, row_of
    from exam_table import text_of

    records = [record for root in roots for record in read_runs(root).records]
    others_records = aside_records()
    asked = [("retention", at) for at in CONTEXTS] + [("exact", at) for at in (SHORT, LONG)]
    head = ["", "", "rate", *(f"{figure}, {at}" for figure, at in asked)]
    head.append(f"seeds 1 to 5 at {LONG}")
    (one,) = CONVOLVED
    body = []
    for task in TASKS:
        for placement in ("early", "marked"):
            ours, theirs = (row_of(by, records, task, placement) for by in (BEYOND[-1], one))
            if ours is None or theirs is None:
                continue
            others = {"attention with taps": theirs}
            if other := row_of(one, others_records, task, placement):
                others["the same, not dev's rate"] = other
            for name, row in {**others, "sparse_delta": ours}.items():
                cells = [text_of(getattr(row, figure)[at]) for figure, at in asked]
                beside = [f"{row.rate:.3g}", *cells, row.by_seed(LONG)]
                body.append([f"{task}, {placement}", name, *beside])
            for row in others.values():
                more = [paired_difference(ours.seeds[at], row.seeds[at]) for at in CONTEXTS]
                cells = [difference.summary.text() for difference in more]
                beside = [f"to {row.rate:.3g}", *cells, "", "", ""]
                body.append([f"{task}, {placement}", "difference", *beside])
    return markdown_table(head, body) + "\n"


def aside_records() -> list[Record]:
    """The runs at rates that dev did not choose, those of the grid among them."""
    every = (one for root in (ROOT, ASIDE) for one in read_runs(root).records)
    return [one for one in every if at_another_rate(one)]


def at_another_rate(record: Record) -> bool:
    """Whether it is at the rate that its cell has aside."""
    spec = record.spec
    rate = ASIDE_RATES.get((spec.task, str(spec.task_options["placement"])))
    return rate is not None and rate == spec.learning_rate


if __name__ == "__main__":
    named = [Path(name) for name in sys.argv[1:]] or [ROOT]
    sys.stdout.write(page(OURS, *named))

"""Is it its neighbours that attention lacks? A control for the exam, beside our memory.

    rulekeep sweep benchmarks/attention_controls.py --out results/attention-controls
    python benchmarks/attention_controls.py               # of results/attention-controls
    python benchmarks/attention_controls.py RUNS

A marked rule is told from a decoy by the cue before it, which attention without positions hardly
sees and the eight taps of our memory's gate do. So attention gets taps as well
(`convolved_attention.py`), and the signal of how early a token is: `recite`, `apply` and `override`
by the protocol of the exam, as our memory in the preset `beyond`.
"""

from collections.abc import Sequence

from rulekeep.presets import exam
from rulekeep.specs import AnySpec, RunSpec, contestants
from rulekeep.store import Record

CONVOLVED = contestants(
    "benchmarks/convolved_attention.py:ConvolvedAttention[added_positions=earliness]"
)
TASKS = ("recite", "apply", "override")


def sweep(records: Sequence[Record]) -> Sequence[AnySpec]:
    """The exam but for `recall`."""
    specs = exam(records, mixers=CONVOLVED)
    return [spec for spec in specs if isinstance(spec, RunSpec) and spec.task in TASKS]

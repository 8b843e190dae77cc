"""The committed runs that ship with the package, to stand beside a run of the same protocol.

`tools/baselines.py` makes them from `results`: the records as they are, without their history.
"""

from pathlib import Path

from rulekeep.analysis.variants import is_variant
from rulekeep.records import Record
from rulekeep.records.store import results
from rulekeep.specs import contestants

BASELINES = {
    "attention, rotary": "attention[positions=rotary]",
    "attention, rotary, convolution, earliness": "attention[positions=rotary,conv_size=4,"
    "added_positions=earliness]",
    "delta": "delta",
    "sparse_delta, earliness": "sparse_delta[hidden=240,added_positions=earliness]",
}
SHIPPED = Path(__file__).parents[1] / "baselines"


def baselines() -> list[Record]:
    """The records that ship with the package."""
    return results(SHIPPED)


def baseline(record: Record) -> str | None:
    """Which baseline a record is of."""
    found = (name for name, one in BASELINES.items() if is_variant(record, *contestants(one)))
    return next(found, None)

"""The committed runs that ship with the package, to stand beside a run of the same protocol.

`tools/baselines.py` makes them from `results`: the baselines of the catalogue without their
history, the preset `quick` as it is, and the certificates of tasks.
"""

from collections.abc import Sequence

from rulekeep.analysis.runs import BASELINE
from rulekeep.analysis.variants import is_variant
from rulekeep.records import Record
from rulekeep.records.folders import SHIPPED
from rulekeep.records.record import TESTED
from rulekeep.records.store import results
from rulekeep.specs import RunSpec, UsageError, mixer_specs

BASELINES = {
    "attention, rotary": "attention[positions=rotary]",
    "attention, convolution, earliness": "attention[conv_size=8,added_positions=earliness]",
    "delta": "delta",
    "sparse_delta": "sparse_delta[hidden=232]",
    "sparse_delta, no convolution, earliness": (
        "sparse_delta[short_convolution=false,hidden=240,added_positions=earliness]"
    ),
}
# What a variant has of its own, what tells seeds apart, and what no score depends on.
_OWN = {"mixer", "mixer_options", "hidden", "added_positions", "learning_rate", "seed"}
_HOW = {
    "device", "precision", "threads", "evaluate_every", "validation_examples", "stop_when_solved",
}  # fmt: skip
# What the tasks of the presets are certified for.
CERTIFICATES = SHIPPED.with_name("certificates")


def baselines() -> list[Record]:
    """The records of baselines that ship with the package."""
    return [
        record
        for folder in sorted(SHIPPED.iterdir())
        for record in results(folder)
        if baseline(record)
    ]


def baseline(record: Record) -> str | None:
    """Which baseline a record is of."""
    found = (name for name, one in BASELINES.items() if is_variant(record, *mixer_specs(one)))
    return next(found, None)


def protocol(record: Record) -> str | None:
    """Equal for runs on one task that were trained alike; None of what was not trained."""
    try:
        spec = record.spec.parsed()
    except UsageError:
        return None
    if not isinstance(spec, RunSpec):
        return None
    return repr(spec.model_dump(mode="json", exclude=_OWN | TESTED | _HOW))


def rivals(records: Sequence[Record]) -> list[Record]:
    """The shipped attention that was trained as any of these runs was, and is not among them."""
    given = {record.id for record in records}
    known = {protocol(record) for record in records if record.is_result} - {None}
    return [
        one
        for one in (baselines() if known else ())
        if one.spec.mixer == BASELINE and one.id not in given and protocol(one) in known
    ]

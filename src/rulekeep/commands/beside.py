"""A run beside the committed baselines of its protocol: a small chart in the terminal.

A baseline without a committed run of this protocol is named as missing; no other replaces it.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rulekeep.analysis.variants import is_variant
from rulekeep.console import print_table, tell
from rulekeep.printable import counted
from rulekeep.records import Record
from rulekeep.records.folders import SHIPPED
from rulekeep.records.store import results
from rulekeep.specs import mixer_specs, written

_BAR = 6
# `tools/baselines.py` ships their runs of the catalogue, without history.
BASELINES = {
    "attention, rotary": "attention[positions=rotary]",
    "attention, convolution, earliness": "attention[conv_size=8,added_positions=earliness]",
    "delta": "delta",
    "sparse_delta": "sparse_delta[hidden=232]",
    "sparse_delta, no convolution, earliness": (
        "sparse_delta[short_convolution=false,hidden=240,added_positions=earliness]"
    ),
}


class Line(NamedTuple):
    """Retention by length, a figure per seed."""

    name: str
    by_length: Mapping[int, Sequence[float]]


def chart(lines: Sequence[Line]) -> None:
    """Mean retention of each line at each length, as a number and a bar."""
    lengths = sorted({length for line in lines for length in line.by_length})
    rows = [[line.name, *(_bar(line.by_length.get(at)) for at in lengths)] for line in lines]
    print_table(["retention, tokens:", *(f"{length:,}" for length in lengths)], rows)


def _bar(scores: Sequence[float] | None) -> str:
    if scores is None:
        return "–"
    mean = statistics.fmean(scores)
    return f"{mean:.3f} {'█' * round(_BAR * mean)}"


def line_of(record: Record) -> Line:
    """A run by its mixer with the options that differ from their defaults."""
    lengths = {row.context for row in record.tests()}
    return Line(
        f"this run: {written(record.spec.mixer, record.shown_options)}",
        _by_length([record], lengths),
    )


def baseline(record: Record) -> str | None:
    """Which baseline a record is of."""
    found = (name for name, one in BASELINES.items() if is_variant(record, *mixer_specs(one)))
    return next(found, None)


def show(record: Record) -> None:
    """Show a finished run beside the baselines of its protocol."""
    lengths = {row.context for row in record.tests()}
    lines, missing = list[Line](), list[str]()
    shipped = [one for folder in sorted(SHIPPED.iterdir()) for one in results(folder)]
    same = [one for one in shipped if one.protocol == record.protocol]
    for name in BASELINES:
        of_name = [one for one in same if baseline(one) == name]
        by_length = _by_length(of_name, lengths)
        if by_length:
            lines.append(Line(f"{name}, {counted(len(of_name), 'seed')}", by_length))
        else:
            missing.append(name)
    mine = line_of(record)
    if not lines:
        tell("nothing to compare with: no committed run was trained and tested alike")
        return
    chart([*lines, mine])
    if missing:
        tell(f"no committed run of this protocol at these lengths: {'; '.join(missing)}")


def _by_length(records: Sequence[Record], lengths: set[int]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for record in records:
        for row in record.tests():
            if row.context in lengths and "retention" in row.figures:
                found.setdefault(row.context, []).append(row.figures["retention"])
    return dict(sorted(found.items()))

"""A run beside the committed baselines of its protocol: a small chart in the terminal.

A baseline without a committed run of this protocol is named as missing; no other replaces it.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rulekeep.analysis.rows import is_variant
from rulekeep.console import print_table, tell
from rulekeep.printable import counted
from rulekeep.records import Record
from rulekeep.records.folders import SHIPPED
from rulekeep.records.store import results
from rulekeep.specs import mixer_specs, written

# A figure a seed, by length.
Line: TypeAlias = Mapping[int, Sequence[float]]
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


def chart(lines: Mapping[str, Line]) -> None:
    """Mean retention of each line at each length, as a number and a bar."""
    lengths = sorted({length for line in lines.values() for length in line})
    rows = [[name, *(_bar(line.get(at)) for at in lengths)] for name, line in lines.items()]
    print_table(["retention, tokens:", *(f"{length:,}" for length in lengths)], rows)


def _bar(scores: Sequence[float] | None) -> str:
    if scores is None:
        return "–"
    mean = statistics.fmean(scores)
    return f"{mean:.3f} {'█' * round(_BAR * mean)}"


def line_of(records: Sequence[Record]) -> Line:
    """Retention at each tested length, a figure a record."""
    found: dict[int, list[float]] = {}
    for record in records:
        for row in record.tests():
            if "retention" in row.figures:
                found.setdefault(row.context, []).append(row.figures["retention"])
    return found


def baseline(record: Record) -> str | None:
    """Which baseline a record is of."""
    found = (name for name, one in BASELINES.items() if is_variant(record, *mixer_specs(one)))
    return next(found, None)


def show(record: Record) -> None:
    """Show a finished run beside the baselines of its protocol, at its lengths."""
    lines, missing = dict[str, Line](), list[str]()
    lengths = {row.context for row in record.tests()}
    shipped = [one for folder in sorted(SHIPPED.iterdir()) for one in results(folder)]
    same = [one for one in shipped if one.protocol == record.protocol]
    for name in BASELINES:
        of_name = [one for one in same if baseline(one) == name]
        if line := {at: all_ for at, all_ in line_of(of_name).items() if at in lengths}:
            lines[f"{name}, {counted(len(of_name), 'seed')}"] = line
        else:
            missing.append(name)
    if not lines:
        tell("nothing to compare with: no committed run was trained and tested alike")
        return
    mine = f"this run: {written(record.spec.mixer, record.shown_options)}"
    chart({**lines, mine: line_of([record])})
    if missing:
        tell(f"no committed run of this protocol at these lengths: {'; '.join(missing)}")

"""The figures of a speed record: medians with quartiles, and shares of attention's time.

A share is paired: the time of each repeat over attention's in the same repeat.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rulekeep.analysis.summary import Interval
from rulekeep.speed.record import BASELINE, Decoded, Part, Row, SpeedRecord, SpeedSpec

# What a token costs in the longest text is held against this context, where it was measured.
SHORT = 1028
# Pages are of 2 MiB, so less than 8 tells nothing of how memory grows.
LEAST_MEMORY = 8 * 2**20
# More than this of a core, used by others, is worth a word.
QUIET_CORES = 0.1


class StepTime(NamedTuple):
    """A step of a mixer in seconds, and as a share of attention's time.

    `product_share`: the rate of its matrix products over that of one large product.
    """

    context: int
    mixer: str
    seconds: Interval
    share: Interval | None
    launches: int | None
    product_share: float | None


def spread(values: Sequence[float]) -> Interval:
    """The median between the quartiles."""
    if len(values) < 2:
        return Interval(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Interval(middle, low, high)


def step_times(record: SpeedRecord, part: Part, threads: int) -> list[StepTime]:
    """Steps of the whole model or of the mixer alone, by context, in the order of the mixers."""
    rows = _rows(record, part, threads)
    rates = {
        one.point.context: statistics.median(one.product_rates)
        for one in record.measured
        if (one.point.part, one.point.threads) == (part, threads) and one.product_rates
    }
    found = []
    for (context, mixer), row in rows.items():
        seconds, rate = spread(row.seconds), rates.get(context)
        beside = rows.get((context, BASELINE))
        share = None if beside is None else _paired(row.seconds, beside.seconds)
        products = row.flops / seconds.mean / rate if row.flops and rate else None
        found.append(StepTime(context, mixer, seconds, share, row.launches, products))
    return found


def compared(spec: SpeedSpec) -> tuple[int, int]:
    """The short and the long context of which a token's cost is compared."""
    *shorter, longest = spec.contexts
    return SHORT if SHORT in shorter else spec.contexts[0], longest


def slopes(record: SpeedRecord) -> dict[str, Interval]:
    """What a token costs in a long text over a short one, by mixer: whole models, one thread.

    The two contexts are measured at different times: the spread is over all pairs of repeats.
    """
    start, end = compared(record.spec)
    rows = _rows(record, "model")
    tokens = {at: at * record.spec.batch(at) for at in (start, end)}
    return {
        mixer: spread(
            [
                (late / tokens[end]) / (early / tokens[start])
                for late in rows[end, mixer].seconds
                for early in rows[start, mixer].seconds
            ]
        )
        for mixer in record.spec.labels
        if start < end and {(start, mixer), (end, mixer)} <= rows.keys()
    }


def memories(record: SpeedRecord) -> dict[str, dict[int, int]]:
    """Peak memory in bytes of a step of one sequence, by mixer and context."""
    found: dict[str, dict[int, int]] = {}
    for (context, mixer), row in _rows(record, "memory").items():
        found.setdefault(mixer, {})[context] = (row.peak_bytes or 0) - (row.start_bytes or 0)
    return found


def growth(bytes_at: Mapping[int, int]) -> tuple[float, float] | None:
    """The ratio of bytes over that of the last two contexts (1: linear), and bytes a token.

    None where too little is used.
    """
    *_, before, last = (0, 0, *bytes_at)
    if bytes_at.get(before, 0) < LEAST_MEMORY:
        return None
    ratio = (bytes_at[last] / bytes_at[before]) / (last / before)
    return ratio, (bytes_at[last] - bytes_at[before]) / (last - before)


def decodings(record: SpeedRecord) -> dict[str, tuple[Decoded, ...]]:
    """Decoding after each context, by mixer."""
    return {mixer: row.contexts for (_, mixer), row in _rows(record, "decode").items()}


def late_over_early(decoded: Sequence[Decoded]) -> Interval:
    """The time of a token after the last context over that after the first."""
    return _paired(decoded[-1].ms_per_token, decoded[0].ms_per_token)


def grows(decoded: Sequence[Decoded]) -> str | None:
    """Whether the state is constant, bounded or growing; None of one context."""
    sizes = [one.state_bytes for one in decoded]
    if len(sizes) < 2:
        return None
    if len({*sizes}) == 1:
        return "constant"
    return "bounded" if sizes[-2] == sizes[-1] else "growing"


def failures(record: SpeedRecord) -> dict[str, str]:
    """Mixers that could not be measured somewhere, and why."""
    return {
        one.point.label if one.point.mixer else f"{mixer}, {one.point.label}": row.failed
        for one in record.measured
        for mixer, row in one.rows.items()
        if row.failed
    }


def load(record: SpeedRecord) -> str:
    """How busy other processes kept the machine meanwhile; nothing where it is not known."""
    busiest = [
        (one.other_cores, one.point.label)
        for one in record.measured
        if one.other_cores is not None and one.point.part != "memory"
    ]
    if not busiest:
        return ""
    cores, label = max(busiest)
    if cores <= QUIET_CORES:
        return f"Other processes used at most {cores:.2f} cores meanwhile."
    return (
        f"Other processes used up to {cores:.2f} cores meanwhile ({label}): "
        "measure again on a quiet machine before you rely on a time."
    )


def _paired(values: Sequence[float], others: Sequence[float]) -> Interval:
    # Of one measurement: as many of each.
    return spread([a / b for a, b in zip(values, others, strict=False)])


def _rows(record: SpeedRecord, part: Part, threads: int = 1) -> dict[tuple[int, str], Row]:
    """What was measured, by context and mixer, both in the order of the record's spec."""
    found = {
        (one.point.context or 0, mixer): row
        for mixer in record.spec.labels
        for one in record.measured
        if (one.point.part, one.point.threads) == (part, threads)
        and (row := one.rows.get(mixer)) is not None
        and not row.failed
    }
    return dict(sorted(found.items(), key=lambda item: item[0][0]))

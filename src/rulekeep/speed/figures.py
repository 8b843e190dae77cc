"""The figures of a speed record: medians with quartiles, and shares of attention's time.

A share is paired: the time of each repeat over attention's in the same repeat.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from rulekeep.speed.record import BASELINE, Decoding, Failed, Part, Peak, SpeedRecord, Timing

Grows: TypeAlias = Literal["constant", "bounded", "growing"]
_T = TypeVar("_T", Timing, Peak, Decoding, Failed)

# What a token costs in the longest text is held against this context, where it was measured.
SHORT = 1028
# Pages are of 2 MiB, so less than 8 tells nothing of how memory grows.
LEAST_MEMORY = 8 * 2**20
# More than this of a core, used by others, is worth a word.
QUIET_CORES = 0.1


class Spread(NamedTuple):
    """A median between its quartiles, of `of` values."""

    median: float
    low: float
    high: float
    of: int

    def text(self, digits: int) -> str:
        """The median, and the quartiles in brackets."""
        middle, low, high = (f"{value:,.{digits}f}" for value in self[:3])
        return f"{middle} ({low}–{high})"


class StepTime(NamedTuple):
    """The step of a mixer: `share` is of attention's time.

    `product_share`: the rate of its matrix products over that of one large product.
    """

    context: int
    mixer: str
    seconds: Spread
    share: Spread | None
    launches: int | None
    product_share: float | None


class Slope(NamedTuple):
    """Seconds a token at the context `end` over those at `start`."""

    mixer: str
    start: int
    end: int
    ratio: Spread


class Memory(NamedTuple):
    """Bytes of a step of one sequence, by context, and their growth over the last two.

    `growth` is the ratio of bytes over the ratio of contexts: 1 is linear. None if too little is
    used.
    """

    mixer: str
    bytes_at: Mapping[int, int]
    growth: float | None
    bytes_per_token: float | None


class DecodeTime(NamedTuple):
    """Decoding by context; `ratio` is the last context's time over the first's."""

    mixer: str
    state_bytes: Mapping[int, int]
    ms: Mapping[int, Spread]
    grows: Grows | None
    ratio: Spread


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0], 1)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high, len(values))


def step_times(record: SpeedRecord, part: Part, threads: int) -> list[StepTime]:
    """Steps of the whole model or of the mixer alone, by context, in the order of the mixers."""
    timings = _rows(record, part, Timing, threads)
    rates = {
        one.point.context: statistics.median(one.product_rates)
        for one in record.measured
        if (one.point.part, one.point.threads) == (part, threads) and one.product_rates
    }
    found = []
    for (context, mixer), row in sorted(timings.items(), key=lambda item: item[0][0]):
        baseline, rate, taken = timings.get((context, BASELINE)), rates.get(context), row.seconds
        share = None if baseline is None else _paired(taken, baseline.seconds)
        products = row.flops / spread(taken).median / rate if row.flops and rate else None
        found.append(StepTime(context, mixer, spread(taken), share, row.launches, products))
    return found


def slopes(record: SpeedRecord) -> list[Slope]:
    """What a token costs in a long text over a short one: for every mixer, on one thread.

    The two contexts are measured at different times: the spread is over all pairs of repeats.
    """
    contexts = record.spec.contexts
    end = contexts[-1]
    start = SHORT if SHORT in contexts[:-1] else contexts[0]
    timings = _rows(record, "model", Timing)
    tokens = {at: at * record.spec.batch(at) for at in (start, end)}
    return [
        Slope(
            label,
            start,
            end,
            spread(
                [
                    (late / tokens[end]) / (early / tokens[start])
                    for late in timings[end, label].seconds
                    for early in timings[start, label].seconds
                ]
            ),
        )
        for label in record.spec.labels
        if start < end and {(start, label), (end, label)} <= timings.keys()
    ]


def memories(record: SpeedRecord) -> list[Memory]:
    """Peak memory of a step of one sequence, of every mixer."""
    rows, found = _rows(record, "memory", Peak), []
    for label in record.spec.labels:
        bytes_at = {
            at: row.peak_bytes - row.start_bytes
            for (at, mixer), row in sorted(rows.items())
            if mixer == label
        }
        growth = slope = None
        *_, before, last = (0, 0, *bytes_at)
        if bytes_at.get(before, 0) >= LEAST_MEMORY:
            growth = (bytes_at[last] / bytes_at[before]) / (last / before)
            slope = (bytes_at[last] - bytes_at[before]) / (last - before)
        if bytes_at:
            found.append(Memory(label, bytes_at, growth, slope))
    return found


def decode_times(record: SpeedRecord) -> list[DecodeTime]:
    """Decoding of every mixer."""
    found = []
    for (_, label), row in _rows(record, "decode", Decoding).items():
        first, last = row.contexts[0], row.contexts[-1]
        sizes = {one.context: one.state_bytes for one in row.contexts}
        grows: Grows | None = None
        if len(sizes) > 1:
            *_, before, end = sizes.values()
            grows = "bounded" if before == end else "growing"
            grows = "constant" if len({*sizes.values()}) == 1 else grows
        ms = {one.context: spread(one.ms_per_token) for one in row.contexts}
        ratio = _paired(last.ms_per_token, first.ms_per_token)
        found.append(DecodeTime(label, sizes, ms, grows, ratio))
    return found


def failures(record: SpeedRecord) -> dict[str, str]:
    """Mixers that could not be measured somewhere, and why."""
    return {
        f"{label}, {one.point.label}" if one.point.mixer is None else one.point.label: row.failed
        for one in record.measured
        for label, row in one.rows.items()
        if isinstance(row, Failed)
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


def _paired(values: Sequence[float], others: Sequence[float]) -> Spread:
    # Of one measurement: as many of each.
    return spread([a / b for a, b in zip(values, others, strict=False)])


def _rows(
    record: SpeedRecord, part: Part, kind: type[_T], threads: int = 1
) -> dict[tuple[int, str], _T]:
    """Rows by context and mixer, in the order of the record's mixers."""
    return {
        (one.point.context or 0, label): row
        for label in record.spec.labels
        for one in record.measured
        if (one.point.part, one.point.threads) == (part, threads)
        and isinstance(row := one.rows.get(label), kind)
    }

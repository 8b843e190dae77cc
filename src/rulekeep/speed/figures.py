"""The figures of a speed record: medians with quartiles, shares of attention's time, aims.

A share is paired: the time of each repeat over attention's in the same repeat. There are four aims:
the step of the whole model on one thread, the time per token in a long text against a short one,
memory that grows no faster than the text, and decoding that does not slow down with the text.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from rulekeep.specs.speed import BASELINE
from rulekeep.speed.record import Decoded, Decoding, Failed, Part, Peak, SpeedRecord, Timing

Grows: TypeAlias = Literal["constant", "bounded", "growing"]
_T = TypeVar("_T", Timing, Peak, Decoding)

AIM_CONTEXTS = (256, 1028, 4096, 16384)
# At most this share of attention's time for a step of the whole model, at those contexts.
AIMS: Mapping[tuple[str, ...], tuple[float, ...]] = {
    ("slots", "linear_attention", "retnet", "ssd"): (0.9, 0.5, 0.17, 0.05),
    (
        "gated_linear", "gated_slots", "delta", "gated_delta", "kda",
        "sparse_delta[penalty_start=0,short_convolution=true]",
    ): (1.5, 0.8, 0.25, 0.07),
    ("routed_slots",): (2.0, 1.0, 0.35, 0.1),
}  # fmt: skip
# Seconds a token at the second context over those at the first.
LINEAR_AIM, LINEAR_BETWEEN = 1.2, (1028, 16384)
# How far decoding at the longest context may be from that at the shortest.
DECODE_AIM = 0.1
# Growth of memory over growth of the context; pages are of 2 MiB, so less than 8 tells nothing.
MEMORY_AIM, LEAST_MEMORY = 1.1, 8 * 2**20
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
    """The step of a mixer: `share` is of attention's time, `met` is None without an aim.

    `product_share`: the rate of its matrix products over that of one large product.
    """

    context: int
    mixer: str
    seconds: Spread
    share: Spread | None
    aim: float | None
    met: bool | None
    calls: int | None
    launches: int | None
    product_share: float | None


class Slope(NamedTuple):
    """Seconds a token at the context `end` over those at `start`."""

    mixer: str
    start: int
    end: int
    ratio: Spread
    met: bool | None


class Memory(NamedTuple):
    """Bytes of a step of one sequence, by context, and their growth over the last two.

    `growth` is the ratio of bytes over the ratio of contexts: 1 is linear. None if too little is
    used.
    """

    mixer: str
    bytes_at: Mapping[int, int]
    growth: float | None
    bytes_per_token: float | None
    met: bool | None


class DecodeTime(NamedTuple):
    """Decoding by context; `ratio` is the last context's time over the first's."""

    mixer: str
    state_bytes: Mapping[int, int]
    ms: Mapping[int, Spread]
    grows: Grows | None
    ratio: Spread
    met: bool | None


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0], 1)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high, len(values))


def aim_of(mixer: str, context: int) -> float | None:
    """The largest share of attention's time that a mixer should take, if it has an aim."""
    for mixers, shares in AIMS.items():
        if mixer in mixers and context in AIM_CONTEXTS:
            return shares[AIM_CONTEXTS.index(context)]
    return None


def step_times(record: SpeedRecord, part: Part, threads: int) -> list[StepTime]:
    """Steps of the whole model or of the mixer alone, by context, in the order of the mixers."""
    found = []
    timings = _timings(record, part, threads)
    rates = {
        one.point.context: statistics.median(one.product_rates)
        for one in record.measured
        if (one.point.part, one.point.threads) == (part, threads) and one.product_rates
    }
    for context in record.spec.contexts:
        rows = {label: row for (at, label), row in timings.items() if at == context}
        baseline = rows.get(BASELINE)
        for label, row in rows.items():
            share = None if baseline is None else _paired(row.seconds, baseline.seconds)
            aim = aim_of(label, context) if (part, threads) == ("model", 1) else None
            met = None if aim is None or share is None else share.median <= aim
            taken = spread(row.seconds)
            rate = rates.get(context)
            products = row.flops / taken.median / rate if row.flops and rate else None
            found.append(
                StepTime(context, label, taken, share, aim, met, row.calls, row.launches, products)
            )
    return found


def slopes(record: SpeedRecord) -> list[Slope]:
    """Whether a token costs more in a long text: for every mixer, on one thread.

    The two contexts are measured at different times: the spread is over all pairs of repeats.
    """
    contexts = record.spec.contexts
    end = contexts[-1]
    start = LINEAR_BETWEEN[0] if LINEAR_BETWEEN[0] in contexts[:-1] else contexts[0]
    timings = _timings(record, "model", 1)
    kinds = {row.mixer: row.grows for row in decode_times(record)}
    found = []
    for label in _labels(record):
        first, last = timings.get((start, label)), timings.get((end, label))
        if first is None or last is None or start >= end:
            continue
        tokens = {at: at * record.spec.batch(at) for at in (start, end)}
        ratios = [
            (late / tokens[end]) / (early / tokens[start])
            for late in last.seconds
            for early in first.seconds
        ]
        ratio = spread(ratios)
        has_aim = (start, end) == LINEAR_BETWEEN and kinds.get(label) in ("constant", "bounded")
        found.append(
            Slope(label, start, end, ratio, ratio.median <= LINEAR_AIM if has_aim else None)
        )
    return found


def memories(record: SpeedRecord) -> list[Memory]:
    """Peak memory of a step of one sequence, of every mixer."""
    found = []
    for label in _labels(record):
        rows = {at: row for at, one, row in _rows(record, "memory", Peak) if one == label}
        bytes_at = {at: rows[at].peak_bytes - rows[at].start_bytes for at in sorted(rows)}
        growth = slope = None
        *_, before, last = (None, None, *bytes_at)
        if before is not None and last is not None and bytes_at[before] >= LEAST_MEMORY:
            growth = (bytes_at[last] / bytes_at[before]) / (last / before)
            slope = (bytes_at[last] - bytes_at[before]) / (last - before)
        met = None if growth is None else growth <= MEMORY_AIM
        if bytes_at:
            found.append(Memory(label, bytes_at, growth, slope, met))
    return found


def decode_times(record: SpeedRecord) -> list[DecodeTime]:
    """Decoding of every mixer; only a constant state should cost the same everywhere."""
    found = []
    for _, label, row in _rows(record, "decode", Decoding):
        first, last = row.contexts[0], row.contexts[-1]
        grows = _grows(row.contexts)
        ratio = _paired(last.ms_per_token, first.ms_per_token)
        met = abs(ratio.median - 1) <= DECODE_AIM if grows == "constant" else None
        found.append(
            DecodeTime(
                label,
                {one.context: one.state_bytes for one in row.contexts},
                {one.context: spread(one.ms_per_token) for one in row.contexts},
                grows, ratio, met,
            )
        )  # fmt: skip
    return found


def failures(record: SpeedRecord) -> dict[str, str]:
    """Mixers that could not be measured somewhere, and why."""
    return {
        f"{label}, {one.point.label}" if one.point.mixer is None else one.point.label: row.failed
        for one in record.measured
        for label, row in one.rows.items()
        if isinstance(row, Failed)
    }


def verdicts(record: SpeedRecord) -> list[str]:
    """A sentence per aim: how many mixers meet it, and which do not. Then the machine load."""
    steps, context = step_times(record, "model", 1), record.spec.contexts[-1]
    said = [
        _verdict(
            "Share of attention’s time",
            [(f"{s.mixer} at {s.context}", s.share.median, s.aim, s.met) for s in steps if s.share],
        ),
        _verdict(
            f"Time a token at {context} against {LINEAR_BETWEEN[0]}",
            [(s.mixer, s.ratio.median, LINEAR_AIM, s.met) for s in slopes(record)],
        ),
        _verdict(
            "Memory that grows no faster than the text",
            [(m.mixer, m.growth, MEMORY_AIM, m.met) for m in memories(record) if m.growth],
        ),
        _verdict(
            f"Decoding within {DECODE_AIM:.0%}, whatever the context",
            [(d.mixer, d.ratio.median, 1 + DECODE_AIM, d.met) for d in decode_times(record)],
            f"{1 - DECODE_AIM:g} to ",
        ),
        _quiet(record),
    ]
    return [one for one in said if one]


def _verdict(
    what: str, rows: Sequence[tuple[str, float, float | None, bool | None]], least: str = ""
) -> str:
    judged = [row for row in rows if row[3] is not None]
    missed = [
        f"{name} ({value:.3g}, aim {least}{aim:g})" for name, value, aim, met in judged if not met
    ]
    if not judged:
        return ""
    rest = f"; not by {', '.join(missed)}" if missed else ""
    return f"{what}: met by {len(judged) - len(missed)} of {len(judged)}{rest}."


def _quiet(record: SpeedRecord) -> str:
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


def _grows(contexts: Sequence[Decoded]) -> Grows | None:
    sizes = [one.state_bytes for one in contexts]
    if len(sizes) < 2:
        return None
    if len(set(sizes)) == 1:
        return "constant"
    return "bounded" if sizes[-1] == sizes[-2] else "growing"


def _paired(values: Sequence[float], others: Sequence[float]) -> Spread:
    # Of one measurement: as many of each.
    return spread([a / b for a, b in zip(values, others, strict=False)])


def _labels(record: SpeedRecord) -> list[str]:
    return [mixer.label for mixer in record.spec.mixers]


def _timings(record: SpeedRecord, part: Part, threads: int) -> dict[tuple[int, str], Timing]:
    return {(at, label): row for at, label, row in _rows(record, part, Timing, threads)}


def _rows(
    record: SpeedRecord, part: Part, kind: type[_T], threads: int = 1
) -> Iterator[tuple[int, str, _T]]:
    """Context, mixer and row, in the order of the record's mixers."""
    order: Callable[[str], int] = _labels(record).index
    for one in record.measured:
        if (one.point.part, one.point.threads) == (part, threads):
            for label in sorted(one.rows.keys() & set(_labels(record)), key=order):
                row = one.rows[label]
                if isinstance(row, kind):
                    yield one.point.context or 0, label, row

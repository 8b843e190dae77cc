"""The figures of a speed record: medians with quartiles, and shares of attention's time.

A share is paired: the time of each repeat over attention's in the same repeat.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

from rulekeep.analysis.summary import Interval
from rulekeep.speed.record import BASELINE, Part, SpeedRecord, SpeedSpec

# What a token costs in the longest text is held against this context, where it was measured.
SHORT = 1028
# Pages are of 2 MiB, so less than 8 tells nothing of how memory grows.
LEAST_MEMORY = 8 * 2**20
# More than this of a core, used by others, is worth a word.
QUIET_CORES = 0.1
_T = TypeVar("_T")


def spread(values: Sequence[float]) -> Interval:
    """The median between the quartiles."""
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [*values]
    )
    return Interval(middle, low, high)


def ratio(values: Sequence[float], others: Sequence[float]) -> Interval:
    """Values over others of the same measurement, paired."""
    return spread([a / b for a, b in zip(values, others, strict=False)])


def shares(record: SpeedRecord, part: Part, threads: int = 1) -> dict[tuple[int, str], Interval]:
    """A step's share of attention's time, by context and mixer."""
    seconds = record.values("seconds", part, threads)
    return {
        (at, mixer): ratio(taken, seconds[at, BASELINE])
        for (at, mixer), taken in seconds.items()
        if (at, BASELINE) in seconds
    }


def product_shares(record: SpeedRecord) -> dict[tuple[int, str], float]:
    """The rate of a whole step's matrix products over that of one large product."""
    seconds, rates = record.values("seconds", "model"), record.values("product_rate", "model")
    return {
        (at, mixer): flops / spread(seconds[at, mixer]).mean / statistics.median(rates[at, ""])
        for (at, mixer), (flops,) in record.values("flops", "model").items()
        if flops and (at, "") in rates
    }


def compared(spec: SpeedSpec) -> tuple[int, int]:
    """The short and the long context of which a token's cost is compared."""
    *shorter, longest = spec.contexts
    return SHORT if SHORT in shorter else spec.contexts[0], longest


def slopes(record: SpeedRecord) -> dict[str, Interval]:
    """What a token costs in a long text over a short one, by mixer: whole models, one thread.

    The two contexts are measured at different times: the spread is over all pairs of repeats.
    """
    start, end = compared(record.spec)
    seconds = record.values("seconds", "model")
    tokens = {at: at * record.spec.batch(at) for at in (start, end)}
    return {
        mixer: spread(
            [
                (late / tokens[end]) / (early / tokens[start])
                for late in seconds[end, mixer]
                for early in seconds[start, mixer]
            ]
        )
        for mixer in record.spec.mixers
        if start < end and {(start, mixer), (end, mixer)} <= seconds.keys()
    }


def memories(record: SpeedRecord) -> dict[str, dict[int, float]]:
    """Peak memory in bytes of a step of one sequence, by mixer and context."""
    return _by_mixer({at: peak for at, (peak,) in record.values("peak_bytes", "memory").items()})


def growth(bytes_at: Mapping[int, float]) -> tuple[float, float] | None:
    """The ratio of bytes over that of the last two contexts (1: linear), and bytes a token.

    None where too little is used.
    """
    *_, before, last = (0, 0, *bytes_at)
    if bytes_at.get(before, 0) < LEAST_MEMORY:
        return None
    more = (bytes_at[last] / bytes_at[before]) / (last / before)
    return more, (bytes_at[last] - bytes_at[before]) / (last - before)


def decode_ms(record: SpeedRecord) -> dict[str, dict[int, tuple[float, ...]]]:
    """Milliseconds a token after each context, a value a round, by mixer."""
    return _by_mixer(record.values("decode_ms", "decode"))


def late_over_early(ms: Mapping[int, Sequence[float]]) -> Interval:
    """The time of a token after the last context over that after the first."""
    first, *_, last = (*ms.values(), *ms.values())
    return ratio(last, first)


def growing(record: SpeedRecord) -> dict[str, str]:
    """Whether the state is constant, bounded or growing, by mixer; nothing of one context."""
    sizes = _by_mixer(record.values("state_bytes", "decode"))
    found = {}
    for mixer, by_context in sizes.items():
        *others, last = by_context.values()
        if others:
            bounded = "bounded" if others[-1] == last else "growing"
            found[mixer] = "constant" if {*others} == {last} else bounded
    return found


def load(record: SpeedRecord) -> str:
    """How busy other processes kept the machine meanwhile; nothing where it is not known."""
    rows = (one for one in record.measured if one.figure == "other_cores" and one.part != "memory")
    cores, label = max(((one.values[0], one.label) for one in rows), default=(0.0, ""))
    if not label:
        return ""
    if cores <= QUIET_CORES:
        return f"Other processes used at most {cores:.2f} cores meanwhile."
    return (
        f"Other processes used up to {cores:.2f} cores meanwhile ({label}): "
        "measure again on a quiet machine before you rely on a time."
    )


def _by_mixer(values: Mapping[tuple[int, str], _T]) -> dict[str, dict[int, _T]]:
    mixers = dict.fromkeys(mixer for _, mixer in values)
    return {one: {at: v for (at, mixer), v in values.items() if mixer == one} for one in mixers}

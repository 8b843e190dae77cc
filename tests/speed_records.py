"""Made-up records of speed for tests: nothing measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from rulekeep.speed.record import (
    Decoded,
    Measured,
    Point,
    Row,
    SpeedMixer,
    SpeedRecord,
    SpeedSpec,
)

Seconds = Mapping[int, Mapping[str, Sequence[float]]]


def spec(*mixers: str, **changes: Any) -> SpeedSpec:
    """What is asked for, attention included."""
    named = tuple(SpeedMixer(name=mixer) for mixer in mixers)
    return SpeedSpec(**{"mixers": named, "threads": (1,), **changes})


def speed_record(asked: SpeedSpec, *measured: Measured) -> SpeedRecord:
    """A record that holds so much."""
    return SpeedRecord(spec=asked, source="0", environment={}, command="c", measured=measured)


def steps(
    seconds: Seconds, part: Any = "model", threads: int = 1, others: float = 0.0
) -> list[Measured]:
    """Steps by context and mixer."""
    return [
        Measured(
            point=Point(part=part, threads=threads, context=context),
            rows={
                mixer: Row(seconds=tuple(taken), calls=30, launches=20)
                for mixer, taken in rows.items()
            },
            seconds=1.0,
            other_cores=others,
        )
        for context, rows in seconds.items()
    ]


def decoded(mixer: str, sizes: Mapping[int, int], ms: Mapping[int, Sequence[float]]) -> Measured:
    """Decoding of one mixer."""
    contexts = tuple(
        Decoded(context=at, state_bytes=size, ms_per_token=tuple(ms[at]))
        for at, size in sizes.items()
    )
    return Measured(
        point=Point(part="decode", mixer=mixer), rows={mixer: Row(contexts=contexts)},
        seconds=1.0, other_cores=0.0,
    )  # fmt: skip


def peaks(mixer: str, mebibytes: Mapping[int, int]) -> list[Measured]:
    """Memory of one mixer, beyond 100 MiB of the process."""
    return [
        Measured(
            point=Point(part="memory", context=context, mixer=mixer),
            rows={mixer: Row(start_bytes=100 * 2**20, peak_bytes=(100 + size) * 2**20)},
            seconds=1.0,
            other_cores=None,
        )
        for context, size in mebibytes.items()
    ]

"""Made-up records of speed for tests: nothing measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from rulekeep.speed.record import Measured, SpeedRecord, SpeedSpec


def spec(*mixers: str, **changes: Any) -> SpeedSpec:
    """What is asked for, attention included."""
    return SpeedSpec(**{"mixers": mixers, "threads": (1,), **changes})


def speed_record(asked: SpeedSpec, *measured: Measured) -> SpeedRecord:
    """A record that holds so much."""
    return SpeedRecord(spec=asked, source="0", environment={}, command="c", measured=measured)


def rows(
    figure: Any, part: Any, values: Mapping[int, Mapping[str, Sequence[float]]], threads: int = 1
) -> list[Measured]:
    """A figure by context and mixer."""
    return [
        Measured(
            part=part, threads=threads, context=at, mixer=mixer, figure=figure, values=tuple(taken)
        )
        for at, of in values.items()
        for mixer, taken in of.items()
    ]


def decoded(
    mixer: str, sizes: Mapping[int, int], ms: Mapping[int, Sequence[float]]
) -> list[Measured]:
    """Decoding of one mixer."""
    return [
        *rows("state_bytes", "decode", {at: {mixer: [size]} for at, size in sizes.items()}),
        *rows("decode_ms", "decode", {at: {mixer: ms[at]} for at in sizes}),
    ]


def peaks(mixer: str, mebibytes: Mapping[int, int]) -> list[Measured]:
    """Memory of one mixer."""
    values = {at: {mixer: [size * 2.0**20]} for at, size in mebibytes.items()}
    return rows("peak_bytes", "memory", values)

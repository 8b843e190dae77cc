"""The record of `rulekeep speed`: what is measured in which process, and the results.

A `Point` is what one fresh process measures. The record grows by one point at a time, so an
interrupted measurement can continue. Times of steps and tokens are kept as measured, a value per
repeat; `figures` makes medians and shares.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from rulekeep.records.store import read_spec
from rulekeep.specs import Option, Spec, SpeedSpec

RECORD = "speed.json"
Part: TypeAlias = Literal["model", "mixer", "decode", "memory"]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
Count: TypeAlias = Annotated[int, Field(ge=0)]


class Point(Spec):
    """What one process measures: a part of the work, for all mixers or for one of them.

    `model` and `mixer`: steps of the whole model or of a layer's mixer alone, all mixers'
    repeats interleaved. `decode`: tokens after all contexts, all mixers in turn; in older records
    one mixer. `memory`: one mixer at one context.
    """

    part: Part
    threads: int = 1
    context: int | None = None
    mixer: str | None = None

    @property
    def label(self) -> str:
        """The name shown while it is measured."""
        what = {
            "model": "whole model", "mixer": "mixer alone", "decode": "decode", "memory": "memory",
        }[self.part]  # fmt: skip
        is_step = self.part in ("model", "mixer")
        threads = f", {self.threads} thread{'s'[: self.threads != 1]}" if is_step else ""
        context = f", {self.context:,} tokens" if self.context else ""
        return f"{what}{f' {self.mixer}' if self.mixer else ''}{threads}{context}"


_DECODING = Point(part="decode")


class Timing(Spec):
    """Seconds of every step, in turn; for whole models on one thread also what a step is made of.

    `launches` are operator calls without views, which would launch no kernel on a GPU. `flops` are
    floating-point operations of matrix products.
    """

    seconds: Annotated[tuple[Positive, ...], Field(min_length=1)]
    calls: Count | None = None
    launches: Count | None = None
    flops: Count | None = None


class Peak(Spec):
    """Resident memory of a process before a step, and its peak during it."""

    start_bytes: Count
    peak_bytes: Count


class Decoded(Spec):
    """The state after a context, and milliseconds a token from there, a value a round."""

    context: Annotated[int, Field(ge=1)]
    state_bytes: Count
    ms_per_token: Annotated[tuple[Positive, ...], Field(min_length=1)]


class Decoding(Spec):
    """Decoding after several contexts, their rounds interleaved."""

    contexts: Annotated[tuple[Decoded, ...], Field(min_length=1)]


class Failed(Spec):
    """Why a mixer was not measured."""

    failed: str


Row: TypeAlias = Timing | Peak | Decoding | Failed


class Measured(Spec):
    """What a process measured, by mixer; `other_cores` is the load of all others meanwhile.

    `product_rates` are floating-point operations a second of one large matrix product, a value a
    repeat.
    """

    point: Point
    rows: dict[str, Row]
    seconds: float
    other_cores: float | None
    product_rates: tuple[Positive, ...] = ()


class SpeedRecord(Spec):
    """All measurements so far, with their spec, code and machine."""

    kind: Literal["speed"] = "speed"
    spec: SpeedSpec
    source: str
    environment: dict[str, Option]
    command: str
    measured: tuple[Measured, ...] = ()

    @property
    def missing(self) -> tuple[Point, ...]:
        """What is still to be measured, in order."""
        done = [one.point for one in self.measured]
        decoded = {at for one in self.measured if one.point.part == "decode" for at in one.rows}
        if decoded >= {mixer.label for mixer in self.spec.mixers}:
            done.append(_DECODING)
        return tuple(point for point in points(self.spec) if point not in done)


def points(spec: SpeedSpec) -> tuple[Point, ...]:
    """All that is measured, in order."""
    steps = [
        Point(part=part, threads=threads, context=context)
        for threads in spec.threads
        for part in ("model", "mixer")
        for context in spec.contexts
    ]
    memory = [
        Point(part="memory", context=context, mixer=mixer.label)
        for mixer in spec.mixers
        for context in spec.contexts
    ]
    return (*steps, _DECODING, *memory)


def read_speed(path: Path) -> SpeedRecord:
    """A record of `rulekeep speed`.

    Raises:
        CorruptRecordError: it is damaged, or none of these.
        FileNotFoundError: there is no such file.
    """
    return read_spec(path, SpeedRecord)

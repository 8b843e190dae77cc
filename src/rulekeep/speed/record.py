"""The record of `rulekeep speed`: what is measured in which process, and the results.

A `Point` is what one fresh process measures. Times of steps and tokens are kept as measured, a
value per repeat; `figures` makes medians and shares.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from rulekeep.records.store import as_spec, read_record
from rulekeep.specs import Option, Spec
from rulekeep.specs.base import Device, each_once
from rulekeep.specs.mixer import written

RECORD = "speed.json"
# Every share is one of its time: with its default options, whatever else is measured.
BASELINE = "attention"
MOST_TOKENS, MOST_REPEATS = 2**24, 1000
_DECODED_AT = (64, 1024, 16384, 65536)
Part: TypeAlias = Literal["model", "mixer", "decode", "memory"]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
Count: TypeAlias = Annotated[int, Field(ge=0)]
NAMES: dict[Part, str] = {
    "model": "whole model", "mixer": "mixer alone", "decode": "decode", "memory": "memory",
}  # fmt: skip


class SpeedMixer(Spec):
    """A mixer (a+b for a hybrid, file.py:Class for one of your own) with its options."""

    name: str
    options: dict[str, Option] = Field(default={})

    @property
    def label(self) -> str:
        """Its name in tables."""
        return written(self.name, self.options)


class SpeedSpec(Spec):
    """Mixers in the same small model; a step has about `tokens` tokens at every context."""

    mixers: tuple[SpeedMixer, ...]
    contexts: tuple[Annotated[int, Field(ge=2, le=MOST_TOKENS)], ...] = (256, 1028, 4096, 16384)
    repeats: int = Field(default=3, ge=1, le=MOST_REPEATS)
    tokens: int = Field(default=65536, ge=2, le=MOST_TOKENS)
    threads: tuple[int, ...] = (1, 2)
    width: int = 64
    layers: int = 2
    device: Device = "cpu"

    @field_validator("mixers")
    @classmethod
    def _baseline_first(cls, mixers: tuple[SpeedMixer, ...]) -> tuple[SpeedMixer, ...]:
        each_once("mixer", tuple(mixer.label for mixer in mixers))
        others = [mixer for mixer in mixers if mixer.label != BASELINE]
        return (SpeedMixer(name=BASELINE), *others)

    @field_validator("contexts")
    @classmethod
    def _contexts_in_order(cls, contexts: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(each_once("context", contexts)))

    @property
    def labels(self) -> list[str]:
        """The names of the mixers, in the order of tables."""
        return [mixer.label for mixer in self.mixers]

    def batch(self, context: int) -> int:
        """Sequences of this context in a step."""
        return max(1, round(self.tokens / context))

    @property
    def decoded_at(self) -> tuple[int, ...]:
        """Contexts after which single tokens are timed: those no longer than a step."""
        return tuple(at for at in _DECODED_AT if at <= self.tokens) or (self.tokens,)


class Point(Spec):
    """What one process measures: a part of the work, for all mixers or for one of them.

    `model` and `mixer`: steps of the whole model or of a layer's mixer alone, all mixers'
    repeats interleaved. `decode`: tokens after all contexts, all mixers in turn. `memory`: one
    mixer at one context.
    """

    part: Part
    threads: int = 1
    context: int | None = None
    mixer: str | None = None

    @property
    def label(self) -> str:
        """The name shown while it is measured."""
        name = NAMES[self.part] + (f" {self.mixer}" if self.mixer else "")
        if self.part in ("model", "mixer"):
            name += f", {self.threads} thread{'s'[: self.threads != 1]}"
        return name + (f", {self.context:,} tokens" if self.context else "")


class Decoded(Spec):
    """The state after a context, and milliseconds a token from there, a value a round."""

    context: Annotated[int, Field(ge=1)]
    state_bytes: Count
    ms_per_token: Annotated[tuple[Positive, ...], Field(min_length=1)]


class Row(Spec):
    """What was measured of a mixer; each part of the work has figures of its own.

    `model` and `mixer`: seconds of every step, in turn. For whole models on one thread also what
    a step is made of: `launches` are operator calls without views, which would launch no kernel
    on a GPU, `flops` floating-point operations of matrix products. `memory`: resident bytes of a
    process before a step, and their peak during it. `decode`: `contexts`, their rounds interleaved.
    `failed` says why nothing was measured.
    """

    seconds: tuple[Positive, ...] = ()
    calls: Count | None = None
    launches: Count | None = None
    flops: Count | None = None
    start_bytes: Count | None = None
    peak_bytes: Count | None = None
    contexts: tuple[Decoded, ...] = ()
    failed: str = ""


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


def points(spec: SpeedSpec) -> tuple[Point, ...]:
    """All that is measured, in order."""
    steps: list[Part] = ["model", "mixer"]
    return (
        *(
            Point(part=part, threads=threads, context=at)
            for threads in spec.threads
            for part in steps
            for at in spec.contexts
        ),
        Point(part="decode"),
        *(
            Point(part="memory", context=at, mixer=mixer)
            for mixer in spec.labels
            for at in spec.contexts
        ),
    )


def read_speed(path: Path) -> SpeedRecord:
    """A record of `rulekeep speed`.

    Raises:
        CorruptRecordError: it is damaged, or none of these.
        FileNotFoundError: there is no such file.
    """
    return as_spec(path.name, read_record(path), SpeedRecord)

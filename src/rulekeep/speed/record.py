"""The record of `rulekeep speed`: one table of what fresh processes measured.

record = read_speed(Path("runs/speed/speed.json"))
record.values("seconds", "model", threads=1)[1028, "delta"]     # a value a repeat
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from rulekeep.printable import counted
from rulekeep.records.store import as_spec, read_record
from rulekeep.specs import Option, Spec
from rulekeep.specs.base import Device, each_once

RECORD = "speed.json"
# Every share is one of its time: with its default options, whatever else is measured.
BASELINE = "attention"
MOST_TOKENS, MOST_REPEATS = 2**24, 1000
_DECODED_AT = (64, 1024, 16384, 65536)
Part: TypeAlias = Literal["model", "mixer", "decode", "memory"]
NAMES: dict[Part, str] = {
    "model": "whole model", "mixer": "mixer alone", "decode": "decode", "memory": "memory",
}  # fmt: skip
Figure: TypeAlias = Literal[
    "seconds", "calls", "launches", "flops", "state_bytes", "decode_ms", "peak_bytes",
    "product_rate", "other_cores", "failed",
]  # fmt: skip


class SpeedSpec(Spec):
    """Mixers, as a sweep reads them, in one small model; a step has about `tokens` tokens."""

    mixers: tuple[str, ...]
    contexts: tuple[Annotated[int, Field(ge=2, le=MOST_TOKENS)], ...] = (256, 1028, 4096, 16384)
    repeats: int = Field(default=3, ge=1, le=MOST_REPEATS)
    tokens: int = Field(default=65536, ge=2, le=MOST_TOKENS)
    threads: tuple[int, ...] = (1, 2)
    width: int = 64
    layers: int = 2
    device: Device = "cpu"

    @field_validator("mixers")
    @classmethod
    def _baseline_first(cls, mixers: tuple[str, ...]) -> tuple[str, ...]:
        others = [mixer for mixer in each_once("mixer", mixers) if mixer != BASELINE]
        return (BASELINE, *others)

    @field_validator("contexts")
    @classmethod
    def _contexts_in_order(cls, contexts: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(each_once("context", contexts)))

    def batch(self, context: int) -> int:
        """Sequences of this context in a step."""
        return max(1, round(self.tokens / context))

    @property
    def decoded_at(self) -> tuple[int, ...]:
        """Contexts after which single tokens are timed: those no longer than a step."""
        return tuple(at for at in _DECODED_AT if at <= self.tokens) or (self.tokens,)

    @property
    def points(self) -> tuple["Point", ...]:
        """What a process each measures, in order."""
        return (
            *(
                Point(part=part, threads=threads, context=at)
                for threads in self.threads
                for part in ("model", "mixer")
                for at in self.contexts
            ),
            Point(part="decode"),
            *(
                Point(part="memory", context=at, mixer=mixer)
                for mixer in self.mixers
                for at in self.contexts
            ),
        )


class Point(Spec):
    """What one process measures: a part of the work, for all mixers in turn or for one of them.

    `model` and `mixer` are steps of the whole model or of a layer's mixer alone. `decode` is of
    tokens after all contexts, `memory` of one mixer at one context. Contexts are in tokens.
    """

    part: Part
    threads: int = 1
    context: int | None = None
    mixer: str = ""

    @property
    def label(self) -> str:
        """The name shown while it is measured."""
        parts = [self.mixer, NAMES[self.part]]
        if self.part in ("model", "mixer"):
            parts.append(counted(self.threads, "thread"))
        return ", ".join(filter(None, [*parts, f"{self.context:,} tokens" if self.context else ""]))


class Measured(Point):
    """A row: a figure of a mixer at a point; of the process itself where no mixer is named.

    `values` are one a repeat (`seconds`, `product_rate`), one a round (`decode_ms`) or one alone.
    `launches` are operator calls without views, which would launch no kernel on a GPU; `flops`
    floating-point operations of matrix products, `product_rate` those a second of a large one;
    `peak_bytes` what a step adds to the memory of its process; `other_cores` the load of all other
    processes. `why` says why nothing was measured (`failed`).
    """

    figure: Figure
    values: tuple[float, ...] = ()
    why: str = ""


class SpeedRecord(Spec):
    """All that was measured so far, with its spec, code and machine."""

    kind: Literal["speed"] = "speed"
    spec: SpeedSpec
    source: str
    environment: dict[str, Option]
    command: str
    measured: tuple[Measured, ...] = ()

    def values(
        self, figure: Figure, part: Part, threads: int = 1
    ) -> dict[tuple[int, str], tuple[float, ...]]:
        """A figure by context and mixer, in the order of the spec."""
        order = ["", *self.spec.mixers]
        found = {
            (one.context or 0, one.mixer): one.values
            for one in self.measured
            if (one.figure, one.part, one.threads) == (figure, part, threads)
        }
        return dict(sorted(found.items(), key=lambda one: (one[0][0], order.index(one[0][1]))))

    @property
    def failures(self) -> dict[str, str]:
        """What could not be measured, and why."""
        return {one.label: one.why for one in self.measured if one.figure == "failed"}


def read_speed(path: Path) -> SpeedRecord:
    """A record of `rulekeep speed`.

    Raises:
        CorruptRecordError: it is damaged, or none of these.
        FileNotFoundError: there is no such file.
    """
    return as_spec(path.name, read_record(path), SpeedRecord)

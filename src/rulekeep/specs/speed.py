"""What `rulekeep speed` measures: mixers side by side, at several contexts."""

from pydantic import Field, field_validator

from rulekeep.specs.base import Device, Spec, each_once
from rulekeep.specs.mixer import written
from rulekeep.specs.run import Option

# Every share is one of its time: with its default options, whatever else is measured.
BASELINE = "attention"
MOST_TOKENS, MOST_REPEATS = 2**24, 1000
_DECODED_AT = (64, 1024, 16384, 65536)


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
    contexts: tuple[int, ...] = (256, 1028, 4096, 16384)
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
        for context in contexts:
            if not 2 <= context <= MOST_TOKENS:
                raise ValueError(f"context {context}: must be from 2 to {MOST_TOKENS}")
        return tuple(sorted(each_once("context", contexts)))

    def batch(self, context: int) -> int:
        """Sequences of this context in a step."""
        return max(1, round(self.tokens / context))

    @property
    def decoded_at(self) -> tuple[int, ...]:
        """Contexts after which single tokens are timed: those no longer than a step."""
        return tuple(at for at in _DECODED_AT if at <= self.tokens) or (self.tokens,)

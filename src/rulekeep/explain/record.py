"""The record of `rulekeep explain`, beside the record of its run: plain values, no torch.

explanation = read_explanation(Path("runs/a/3f0c…/explain.json"))
explanation.probes[0].lost.body.mean
"""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import Field

from rulekeep.analysis.summary import Interval
from rulekeep.records.store import as_spec, read_record
from rulekeep.specs import Option, Spec

RECORD = "explain.json"
# What a trace is of that is no tensor of the state.
GATE = "write gate"
Unit: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Count: TypeAlias = Annotated[int, Field(ge=0)]


class Job(NamedTuple):
    """What a process gets: the folder of a run, as an absolute path, and how to explain it.

    `examples` train the probes; a quarter as many are scored.
    """

    folder: str
    contexts: tuple[int, ...]
    examples: int
    seed: int
    command: str


class Place(Spec):
    """What a linear probe finds of the rules at one place.

    `share` is how far the place is on the way from the rules (0) to the answer (1), `tokens` the
    mean number of tokens read there. `by_rule` is the accuracy on each rule, None if no example
    asks for it. `penalties` are those of the ridge, one per probe, chosen on held-out examples.
    """

    share: Unit
    tokens: Annotated[float, Field(gt=0)]
    found: Interval
    by_rule: tuple[Unit | None, ...]
    penalties: tuple[float, ...]


class Lost(Spec):
    """What is lost at each step, as fractions of what is above chance; they sum to all that is
    lost.

    `capture`: not in the state right after the rules. `body`: there, but gone before the answer.
    `readout`: in the state before the answer, but not answered; below 0 if the model answers more
    than a linear probe finds.
    """

    capture: Interval
    body: Interval
    readout: Interval


class Probed(Spec):
    """Probes at one context, and the model's own retention on the same examples.

    `after` says what precedes the first place: `all rules`, if they stand in a head, or `each
    rule`, probed separately. `chance` is the score of the commonest training word of each rule,
    `said_chance` the chance of retention.
    """

    context: Annotated[int, Field(ge=1)]
    after: Literal["all rules", "each rule"]
    state_floats: Count
    train_examples: Annotated[int, Field(ge=1)]
    scored_examples: Annotated[int, Field(ge=2)]
    chance: Unit
    places: Annotated[tuple[Place, ...], Field(min_length=2)]
    said: Interval
    said_chance: Unit
    said_by_rule: tuple[Unit | None, ...]
    lost: Lost


class Bin(Spec):
    """The mean over tokens from position `first` to `last`, counted from 0."""

    first: Count
    last: Count
    n: Annotated[int, Field(ge=1)]
    mean: Unit


class Trace(Spec):
    """What one kind of token does to one layer: the mean, and the fraction of exact zeros.

    `part` is a tensor of the state, or `write gate`; layers count from 1. For write gates both are
    also given for each gate (a head, for example): a mean over many hides one that leaks.
    """

    layer: Annotated[int, Field(ge=1)]
    part: str
    kind: str
    n: Annotated[int, Field(ge=1)]
    mean: Unit
    zeros: Unit
    bins: tuple[Bin, ...]
    mean_by_gate: tuple[Unit, ...] = ()
    zeros_by_gate: tuple[Unit, ...] = ()


class Traced(Spec):
    """Traces of the tokens before the answer: relative changes of the state, and write gates."""

    context: Annotated[int, Field(ge=1)]
    examples: Annotated[int, Field(ge=1)]
    changes: tuple[Trace, ...]
    gates: tuple[Trace, ...]


class Explanation(Spec):
    """Where one run loses its rules.

    `differences` holds each figure of the last evaluation that differs from the record: the
    recorded value, and the new one.
    """

    kind: Literal["explain"] = "explain"
    run: str
    source: str
    environment: dict[str, Option]
    command: str
    seed: Count
    differences: dict[str, tuple[float | None, float | None]]
    probes: Annotated[tuple[Probed, ...], Field(min_length=1)]
    traced: Traced


def read_explanation(path: Path) -> Explanation:
    """The explanation in a file.

    Raises:
        CorruptRecordError: it is damaged, or of another kind.
        FileNotFoundError: there is no such file.
    """
    return as_spec(path.name, read_record(path), Explanation)

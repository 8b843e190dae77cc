"""The record of a run, typed: everything downstream reads it, and it is made in one place.

    record = Record.read(values)        # values: a dictionary, as JSON has it
    record.spec.mixer, record.evaluations[0].figures["retention"]

A record is read whole or not at all: one that lacks a value, or has a wrong one, is corrupt. Its
text may be hostile. What labels a row is made one line here; what shows other text does the same.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache, partial
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    Strict,
    ValidationError,
    model_validator,
)

from rulekeep.printable import name, one_line
from rulekeep.records.figures import SCORES
from rulekeep.records.pack import CorruptRecordError
from rulekeep.specs import (
    KINDS,
    AnySpec,
    Option,
    PredictorSpec,
    RunSpec,
    UsageError,
    validation_line,
)

# A record with one of these is a result, not to be tried again.
RESULTS = ("done", "not_finite", "diverged")
Status: TypeAlias = Literal[
    "done", "not_finite", "diverged", "timeout", "out_of_memory", "killed", "failed"
]
# What first uses of rules are told apart by.
PARTS = ("step", "position", "kind")
# What a run tests, and on how many examples: each evaluation says its own.
TESTED = frozenset({"test_contexts", "test_examples", "long_test_examples"})
# What a variant has of its own, what tells seeds apart, and what no score depends on.
_NO_PROTOCOL = TESTED | {
    "mixer", "mixer_options", "hidden", "added_positions", "learning_rate", "seed", "device",
    "precision", "threads", "evaluate_every", "validation_examples", "stop_when_solved",
}  # fmt: skip
_T = TypeVar("_T")

# A list, as JSON has it.
_Many: TypeAlias = Annotated[tuple[_T, ...], Strict(False)]
_Line: TypeAlias = Annotated[str, AfterValidator(cache(partial(one_line, length=80)))]
_Longer: TypeAlias = Annotated[str, AfterValidator(partial(one_line, length=200))]
# In tokens; the bound is that of every spec.
_Length: TypeAlias = Annotated[int, Field(ge=1, le=2**24)]
_Lengths: TypeAlias = Annotated[_Many[_Length], AfterValidator(lambda found: tuple(sorted(found)))]
_ByLength: TypeAlias = Annotated[
    # A key of JSON is text.
    dict[Annotated[_Length, Strict(False)], FiniteFloat],
    AfterValidator(lambda found: dict(sorted(found.items()))),
]
_Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]

# Numbers by name: what else a row holds has a field of its own, or is no figure.
_Figures: TypeAlias = Annotated[
    dict[str, float],
    BeforeValidator(lambda row: {k: one for k, one in row.items() if type(one) in (int, float)}),
]


class _Frozen(BaseModel):
    # A later version may say more.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, populate_by_name=True)


class Part(NamedTuple):
    """Retention on some first uses of rules, its chance level, and how many there are, if known."""

    retention: _Share
    chance: _Share
    n: float = 0.0


class Choice(NamedTuple):
    """A rule in words after one compression: the log-likelihood of each option, in nats.

    `rank` is the rule's among those of its prompt, `option` the right one; None of a family that
    its prompt does not state. `split` is "validation" for prompts that choose families. `how` is
    "obeyed" for the request that needs the rule, "said" where the rule itself is asked for.
    `stored` says of shortened text whether the right option is in it; None of a cache. Where
    `judged` is "written", the model wrote `reply`, and `scores` are 1 for each option that it
    shows.
    """

    compress: _Line
    split: _Line
    prompt: int
    family: _Line
    rank: int
    option: Annotated[int, Field(ge=0)] | None
    scores: _Many[FiniteFloat]
    how: _Line = "obeyed"
    stored: bool | None = None
    judged: _Line = "scored"
    reply: str = ""


class Kept(NamedTuple):
    """A rule of a history, and what is left of it after each compaction.

    `place` is where it was stated, `group` what kind of rule it is, `roles` who says what is left,
    `lines` that line (nothing where it stands word for word), and `reached` whether the rule stood
    in what a summarizing model was given; nothing where no model was asked.
    """

    history: int
    family: _Line
    group: _Line
    place: _Line
    option: _Line
    verdicts: _Many[_Line]
    roles: _Many[_Line] = ()
    lines: _Many[str] = ()
    reached: _Many[bool] = ()


class Round(NamedTuple):
    """One compaction of a history, counted from 1; sizes in tokens.

    `own` are tokens of the compactor's own words, `facts` the facts of the task that are left,
    `unpaired` calls and results of tools that lost each other, `changed` whether the compactor
    altered what it was given, and `failure` why it ended, if it did. `invented` is a sentence of
    its own that gives a rule; None but in the control without rules, where nobody stated one.
    """

    history: int
    round: int
    before: int
    budget: int
    left: int
    own: int
    facts: int
    unpaired: int
    changed: bool
    seconds: float
    failure: str = ""
    invented: str | None = None


def _with_its_score(choice: Choice) -> Choice:
    if choice.option is not None and choice.option >= len(choice.scores):
        raise ValueError(f"option {choice.option}: there are {len(choice.scores)} scores")
    return choice


class Evaluation(_Frozen):
    """The figures of a trained model on one split at one context length in tokens.

    `figures` are scores and losses by name. `parts` holds retention by `step` of the
    output and `position` of the rule, each counted from 0, and by `kind` of rule. `chance` leaves
    out levels of 1, above which there is nothing. Where outputs are not finite from a token on, it
    has no score, and `not_finite_from` is the first such token, counted from 0.
    """

    split: _Line
    context: _Length
    not_finite_from: Annotated[int, Field(ge=0)] | None = None
    figures: _Figures
    chance: dict[str, Annotated[float, Field(ge=0, lt=1)]] = {}
    parts: dict[str, dict[str, Part]] = {}

    @model_validator(mode="after")
    def _scores_are_shares(self) -> Self:
        for score in SCORES:
            if not 0 <= self.figures.get(score, 0.0) <= 1:
                raise ValueError(f"{score} {self.figures[score]:g}: must be from 0 to 1")
        if self.not_finite_from is not None and self.figures.keys() - {"n"}:
            raise ValueError("outputs that are not finite have no figures")
        return self

    @property
    def examples(self) -> float:
        """The number of examples; 0 if it is not recorded."""
        return self.figures.get("n", 0.0)


def _gathered(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON has it holds its figures and parts beside each other."""
    row = {key: one for key, one in row.items() if one is not None}
    figures = {key: one for key, one in row.items() if key not in ("context", "not_finite_from")}
    levels = row.get("chance", {}).items()
    return {
        **{key: row.get(key) for key in ("split", "context", "not_finite_from")},
        "figures": figures,
        "chance": {key: level for key, level in levels if level not in (None, 1)},
        "parts": {part: _parts(part, row.get(f"retention_by_{part}", {})) for part in PARTS},
    }


def _parts(part: str, rows: Any) -> dict[str, dict[str, Any]]:
    """Rows by label: kinds have names, the others are numbered in each."""
    labelled = rows.items() if isinstance(rows, dict) else ((row.get(part), row) for row in rows)
    return {
        name(label, "?"): {key: row[key] for key in Part._fields if key in row}
        for label, row in labelled
    }


class RecordedSpec(_Frozen):
    """What a run was asked for; `rest` holds values without a field.

    For an outside model `mixer` is its name, and `context` the longest tested length.
    """

    kind: str
    task: str
    mixer: str
    context: _Length
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    test_contexts: _Lengths = ()
    compress: _Many[_Line] = ()
    families: _Many[_Line] = ()
    task_options: dict[str, Option] = {}
    mixer_options: dict[str, Option] = {}

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Option] = Field(init=False)

    @property
    def rest(self) -> dict[str, Option]:
        """Values that have no field here."""
        return self.__pydantic_extra__

    @property
    def is_trained(self) -> bool:
        """Whether a model was trained; an outside model is only scored."""
        return self.kind != PredictorSpec.kind

    @property
    def values(self) -> dict[str, Any]:
        """All values by name, as JSON has them."""
        typed = self.model_dump(mode="json", exclude={"kind"})
        # Some are of rules in words alone.
        return {k: one for k, one in typed.items() if one or k not in ("compress", "families")}

    def parsed(self) -> AnySpec:
        """The spec of the run; a `UsageError` if this version cannot read it."""
        kind = KINDS.get(self.kind)
        if kind is None:
            raise UsageError(f"kind {self.kind!r}: choose from {', '.join(KINDS)}")
        values = self.values
        if kind is RunSpec:
            return kind.parse(**values)
        # The others' records say more than was asked, under the names of a run.
        return kind.parse(**{key: values[key] for key in kind.model_fields if key in values})


def _of_costs(key: str) -> Any:
    return Field(default={}, validation_alias=AliasPath("costs", key))


class Record(_Frozen):
    """One run: what was asked for, how it went, its scores, and the machine.

    `versions` are part of its id. `source` is a digest of the code: provenance, like `environment`.
    `twins` are ids of the same training with other tests, which a report has merged into this
    record.
    """

    id: str
    twins: tuple[str, ...] = ()
    # Lengths that `rulekeep test` has added, and the hash of the weights that were kept.
    tested_later: _Lengths = ()
    weights: str | None = None
    versions: dict[_Longer, int | _Line] = {}
    source: str = ""
    status: Status
    reason: str = ""
    spec: RecordedSpec
    # The spec without default values, as its id has it.
    asked: dict[str, object] = {}
    history: _Many[_Figures] = ()
    evaluations: _Many[Annotated[Evaluation, BeforeValidator(_gathered)]] = ()
    choices: _Many[Annotated[Choice, AfterValidator(_with_its_score)]] = ()
    rules: _Many[Kept] = ()
    rounds: _Many[Round] = ()
    costs: _Figures = {}
    state_bytes: _ByLength = _of_costs("state_bytes")
    decode_ms: _ByLength = _of_costs("decode_ms_per_token")
    # Of rules in words, after each compression and on average: bytes of the cache, tokens left.
    cache_bytes: dict[_Line, float] = _of_costs("cache_bytes")
    tokens_left: dict[_Line, float] = _of_costs("tokens_left")
    environment: dict[str, str] = {}
    notes: _Many[str] = ()
    attempt: int = 0

    @model_validator(mode="before")
    @classmethod
    def _stated(cls, values: dict[str, Any]) -> dict[str, Any]:
        """A value that is null is not stated; the kind of a run is told beside its spec."""
        found = {key: one for key, one in values.items() if one is not None}
        if isinstance(spec := found.get("spec"), dict):
            found["spec"] = {**spec, "kind": found.get("kind", spec.get("kind"))}
        tests = found.get("tested_later", ())
        found["tested_later"] = [one["context"] if isinstance(one, dict) else one for one in tests]
        lines = found.get("environment", {}).items()
        found["environment"] = {name(key, "?"): one_line(value, 120) for key, value in lines}
        return found

    @model_validator(mode="after")
    def _says_what_its_id_counts(self) -> Self:
        # Runs are told apart and merged by it.
        for key in ("asked", "versions"):
            if self.is_result and key not in self.model_fields_set:
                raise ValueError(f"{key}: a result must say it, as its id counts it")
        if not isinstance(self.asked.get("mixer_options", {}), dict):
            raise ValueError("asked.mixer_options: must be a table")
        return self

    @classmethod
    def failed(cls, identity: str, status: Status, reason: str) -> Self:
        """A run of which nothing else is known, not even its plan."""
        spec = RecordedSpec(kind="", task="", mixer="", context=1, seed=0)
        return cls(id=identity, status=status, reason=reason, spec=spec)

    @property
    def is_result(self) -> bool:
        """Whether it trained to its end or diverged; other runs say nothing about the mixer."""
        return self.status in RESULTS

    @property
    def has_model(self) -> bool:
        """Whether it trained to its end; at some tested length its outputs may not be finite."""
        return self.is_result and self.status != "diverged"

    @property
    def code(self) -> str:
        """The code that made it, by its versions."""
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())

    @property
    def training(self) -> str:
        """Equal for runs of one training: the same spec except its tests, and the same code."""
        # A default that is newer than a record is no difference.
        kept = {key: value for key, value in self.asked.items() if key not in TESTED}
        return f"{self.code}\n{json.dumps(kept, sort_keys=True)}"

    @property
    def protocol(self) -> str | None:
        """Equal for runs on one task that were trained alike; None of what was not trained."""
        if self.spec.kind != RunSpec.kind:
            return None
        values = {key: one for key, one in self.spec.values.items() if key not in _NO_PROTOCOL}
        return json.dumps(values, sort_keys=True)

    @property
    def given(self) -> frozenset[str]:
        """The options of its mixers and of the run that its id counts."""
        own: Any = self.asked.get("mixer_options", {})
        return frozenset({*own, *self.asked})

    @property
    def shown_options(self) -> dict[str, Option]:
        """The options of its mixer that it was asked for: they are not the default."""
        return {key: one for key, one in self.spec.mixer_options.items() if key in self.given}

    def tests(self) -> tuple[Evaluation, ...]:
        """The evaluations on the test split, in order."""
        return tuple(one for one in self.evaluations if one.split == "test")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """A record from values as JSON has them; else a `CorruptRecordError` that names one."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise CorruptRecordError(one_line(validation_line(error, cls.model_fields))) from None
        except (AttributeError, LookupError, TypeError) as error:
            # A number where a table belongs, or the like.
            raise CorruptRecordError(one_line(f"no record ({error})")) from None


def how_ended(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Status and reason of a run that was tested, by its rows of evaluations."""
    odd = {row["context"]: at for row in rows if (at := row.get("not_finite_from")) is not None}
    if not odd:
        return {"status": "done", "reason": ""}
    said = (f"at {context:,} tokens from token {at:,} on" for context, at in sorted(odd.items()))
    return {"status": "not_finite", "reason": f"outputs are not finite {', '.join(said)}"}

"""The record of a run, typed: everything downstream reads it, and it is made in one place.

    record = Record.read(values)        # values: a dictionary, as JSON has it
    record.spec.mixer, record.evaluations[0].figures["retention"]

A record from elsewhere may lack any value, or hold NaN, a wrong type or hostile text. `read` keeps
what is reliable: a number becomes a float or is dropped, and a score outside 0 to 1 is dropped and
noted. Text stays as it is. Whatever shows it makes it one printable line (`one_line`, `name`).
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from rulekeep.printable import one_line
from rulekeep.specs import KINDS, AnySpec, ArticleCell, Option, PredictorSpec, RunSpec, UsageError
from rulekeep.specs.renamed import current, current_versions

# A record with one of these is a result, not to be tried again.
RESULTS = ("done", "diverged")
STATUSES = (*RESULTS, "timeout", "out_of_memory", "killed", "failed")
SCORES = ("retention", "exact", "joint", "rule_accuracy", "item_accuracy", "token_accuracy")
# What first uses of rules are told apart by.
PARTS = ("step", "position", "kind")
# What a run tests, and on how many examples: each evaluation says its own.
TESTED = frozenset({"test_contexts", "test_examples", "long_test_examples"})
_TYPED = frozenset(
    {"task", "task_options", "mixer", "mixer_options", "context", "seed", "learning_rate",
     "test_contexts", "compress", "families"}
)  # fmt: skip
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NAME_LENGTH = 48


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Part(NamedTuple):
    """Retention on some first uses of rules, its chance level, and the number of uses.

    `n` is 0 if the record does not say it.
    """

    retention: float
    chance: float
    n: float = 0.0


class Prediction(NamedTuple):
    """An example of the article's validation set as words, and the model's answer."""

    prefix: str
    target: str
    prediction: str


class Choice(NamedTuple):
    """A rule in words after one compression: the log-likelihood of each option, in nats.

    `rank` is the rule's among those of its prompt, `option` the right one. `split` is "dev" for
    prompts that only say what an option scores on average. `how` is "obeyed" for the request that
    needs the rule, "said" where the rule itself is asked for. `stored` says of shortened text
    whether the right option is in it; None of a cache. Where `judged` is "written", the model wrote
    `reply`, and `scores` are 1 for each option that it shows.
    """

    compress: str
    split: str
    prompt: int
    family: str
    rank: int
    option: int
    scores: tuple[float, ...]
    how: str = "obeyed"
    stored: bool | None = None
    judged: str = "scored"
    reply: str = ""


class Asked(NamedTuple):
    """A task with the options that were asked for, sorted by name."""

    task: str
    options: tuple[tuple[str, Option], ...]


class Evaluation(_Frozen):
    """The figures of a trained model on one split at one context length in tokens.

    `split` is "dev" for the validation set: this key stays in records, and people read
    "validation". `figures` are scores and losses by name. `parts` holds retention by `step` of the
    output and `position` of the rule, each counted from 0, and by `kind` of rule.
    """

    split: str
    context: int
    figures: dict[str, float]
    chance: dict[str, float] = {}
    parts: dict[str, dict[str, Part]] = {}

    @property
    def examples(self) -> float:
        """The number of examples; 0 if it is not recorded."""
        return self.figures.get("n", 0.0)


class RecordedSpec(_Frozen):
    """What a run was asked for, as far as it can be read; `rest` holds values without a field.

    For an outside model `mixer` is its name, and `context` the longest tested length.
    """

    kind: str
    task: str
    mixer: str
    context: int
    seed: int
    learning_rate: float | None = None
    test_contexts: tuple[int, ...] = ()
    compress: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    task_options: dict[str, Option] = {}
    mixer_options: dict[str, Option] = {}
    rest: dict[str, Option] = {}

    @property
    def is_trained(self) -> bool:
        """Whether a model was trained; an outside model is only scored."""
        return self.kind != PredictorSpec.kind

    @property
    def asked(self) -> Asked:
        """The task with its options."""
        return Asked(self.task, tuple(sorted(self.task_options.items())))

    @property
    def values(self) -> dict[str, Any]:
        """All values by name, as JSON has them."""
        typed = self.model_dump(mode="json", exclude={"kind", "rest"})
        # Of rules in words alone.
        left_out = {key for key in ("compress", "families") if not typed[key]}
        return {**{key: typed[key] for key in typed.keys() - left_out}, **self.rest}

    def parsed(self) -> AnySpec:
        """The spec of the run.

        Raises:
            UsageError: this version cannot read it.
        """
        kind = KINDS.get(self.kind)
        if kind is None:
            raise UsageError(f"kind {self.kind!r}: choose from {', '.join(KINDS)}")
        values = self.values
        if kind is RunSpec:
            return kind.parse_json(values)
        # The others' records say more than was asked, under the names of a run.
        return kind.parse_json({key: values[key] for key in kind.model_fields if key in values})

    def trained(self) -> str:
        """The values that determine the trained model, without those of its tests, as text."""
        left_out = TESTED if self.is_trained else TESTED | {"context"}
        kept = {key: value for key, value in self.values.items() if key not in left_out}
        return repr(sorted(kept.items(), key=lambda pair: pair[0]))


class Record(_Frozen):
    """One run: what was asked for, how it went, its scores, and the machine.

    `versions` are part of its id. `source` is a digest of the code: provenance, like `environment`.
    `former_id` is its id before versions were declared. `twins` are ids of the same training with
    other tests, which a report has merged into this record.
    """

    id: str
    former_id: str | None = None
    twins: tuple[str, ...] = ()
    # Lengths that `rulekeep test` has added, and the hash of the weights that were kept.
    tested_later: tuple[int, ...] = ()
    weights: str | None = None
    versions: dict[str, int | str] = {}
    source: str = ""
    status: str
    reason: str = ""
    spec: RecordedSpec
    # The spec without default values, as its id has it; None before versions were declared.
    asked: dict[str, object] | None = None
    history: tuple[dict[str, float], ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    choices: tuple[Choice, ...] = ()
    costs: dict[str, float] = {}
    state_bytes: dict[int, float] = {}
    decode_ms: dict[int, float] = {}
    # Bytes of the cache after each compression, of the last prompt.
    cache_bytes: dict[str, float] = {}
    environment: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    attempt: int = 0

    @classmethod
    def failed(cls, identity: str, status: str, reason: str) -> Self:
        """A run of which nothing else is known, not even its plan."""
        spec = RecordedSpec(kind="", task="", mixer="", context=1, seed=0)
        return cls(id=identity, status=status, reason=reason, spec=spec)

    @property
    def is_result(self) -> bool:
        """Whether it trained to its end or diverged; other runs say nothing about the mixer."""
        return self.status in RESULTS

    @property
    def code(self) -> str:
        """The code that made it: its versions, or its source digest if it declares none."""
        if self.versions:
            return ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"source {self.source}" if self.source else "none named"

    @property
    def training(self) -> str:
        """Equal for runs of one training: the same spec except its tests, and the same code."""
        if self.asked is None:
            return f"{self.code}\n{self.spec.trained()}"
        # What came with a default after a record was made is no difference.
        kept = {key: value for key, value in self.asked.items() if key not in TESTED}
        return f"{self.code}\n{json.dumps(kept, sort_keys=True)}"

    @property
    def given(self) -> frozenset[str]:
        """The options of its mixers and of the run that its id counts."""
        own = _mapping((self.asked or {}).get("mixer_options"))
        return frozenset((*(self.asked or {}), *own))

    def tests(self) -> tuple[Evaluation, ...]:
        """The evaluations on the test split, in order."""
        return tuple(one for one in self.evaluations if one.split == "test")

    @classmethod
    def read(cls, values: object, notes: list[str] | None = None, place: int = 1) -> Self | None:
        """A record from values as JSON has them; None, with a note, if it is unusable.

        `place` names a record without an id, counted from 1.
        """
        said = [] if notes is None else notes
        if not isinstance(values, Mapping):
            said.append(f"record {place}: {one_line(type(values).__name__, 40)}, not a record")
            return None
        identity = name(values.get("id"), f"record-{place}")
        spec = _spec(current(_mapping(values.get("spec"))), _text(values.get("kind")))
        if spec is None:
            said.append(f"run {identity}: its spec has no context or no seed, left out")
            return None
        costs = _mapping(values.get("costs"))
        environment = _mapping(values.get("environment"))
        former = _text(values.get("former_id"))
        return cls(
            id=_text(values.get("id")) or identity,
            former_id=former or None,
            tested_later=_tested_later(values.get("tested_later")),
            weights=_text(values.get("weights")) or None,
            versions=current_versions(_versions(values.get("versions"))),
            source=_text(values.get("source")),
            status=_text(values.get("status")) or "no status",
            reason=_text(values.get("reason")),
            spec=spec,
            asked=_asked(asked) if isinstance(asked := values.get("asked"), Mapping) else None,
            history=tuple(figures(row) for row in _sequence(values.get("history"))),
            evaluations=_evaluations(values.get("evaluations"), identity, said),
            predictions=_predictions(values.get("predictions")),
            choices=_choices(values.get("choices")),
            costs=figures(costs),
            state_bytes=_by_context(costs.get("state_bytes")),
            decode_ms=_by_context(costs.get("decode_ms_per_token")),
            cache_bytes=_cache_bytes(costs.get("cache_bytes")),
            environment={
                name(key, "?"): one_line(value, 120) for key, value in environment.items()
            },
            notes=tuple(one for one in _sequence(values.get("notes")) if isinstance(one, str)),
            attempt=whole(values.get("attempt")) or 0,
        )


def name(value: object, missing: str) -> str:
    """A short name; a long one keeps both ends and a hash, so that two names stay distinct."""
    whole = value if isinstance(value, str) else "" if value is None else str(value)
    text = one_line(whole, len(whole) + 1)
    if len(text) > _NAME_LENGTH or "\ufffd" in text:
        digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:6]
        if len(text) <= _NAME_LENGTH - 8:
            text = f"{text}…{digest}"
        else:
            # Its end too: of a plug-in that is the class.
            text = f"{text[:12]}…{digest}…{text[20 - _NAME_LENGTH :]}"
    return text or missing


def number(value: object) -> float | None:
    """A float (NaN and infinities too, also as JSON strings), or None for anything else."""
    if isinstance(value, str):
        return _NON_FINITE.get(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def whole(value: object) -> int | None:
    """A whole number of at most 18 digits, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 10**18:
        return None
    return value


def figures(value: object) -> dict[str, float]:
    """The numbers of a table of values by name; other values are left out."""
    read = {key: number(v) for key, v in _mapping(value).items() if isinstance(key, str)}
    return {key: v for key, v in read.items() if v is not None}


def asked_of(task: object, options: object) -> Asked:
    """The task and options that were asked for; a value of another type is left out."""
    return Asked(_text(task), tuple(sorted(_options(options).items())))


def _spec(values: Mapping[Any, Any], kind: str) -> RecordedSpec | None:
    context, seed = whole(values.get("context")), whole(values.get("seed"))
    if context is None or context < 1 or seed is None:
        return None
    rate = number(values.get("learning_rate"))
    if not kind:
        # Records did not always say of what kind they are.
        outside, article = "predictor" in values, "model" in values
        kind = (PredictorSpec if outside else ArticleCell if article else RunSpec).kind
    rest = {key: value for key, value in values.items() if key not in _TYPED}
    return RecordedSpec(
        kind=kind,
        task=_text(values.get("task")),
        mixer=_text(values.get("mixer")),
        context=context,
        seed=seed,
        learning_rate=rate if rate is not None and math.isfinite(rate) and rate > 0 else None,
        test_contexts=tuple(sorted(_lengths(values.get("test_contexts")))),
        compress=_names(values.get("compress")),
        families=_names(values.get("families")),
        task_options=_options(values.get("task_options")),
        mixer_options=_options(values.get("mixer_options")),
        rest={str(key): _option(value) for key, value in rest.items()},
    )


def _asked(values: Mapping[str, Any]) -> dict[str, object]:
    """Under present names; one that has become the default is left out as any default is."""
    found = current(values)
    if found.get("mixer") == RunSpec.model_fields["mixer"].default:
        del found["mixer"]
    return found


def _options(value: object) -> dict[str, Option]:
    return {
        key: one
        for key, one in _mapping(value).items()
        if isinstance(key, str) and isinstance(one, (bool, int, float, str, NoneType))
    }


def _option(value: object) -> Option:
    return value if isinstance(value, (bool, int, float, str, NoneType)) else str(value)


def _versions(value: object) -> dict[str, int | str]:
    return {
        one_line(key, 200): version if isinstance(version, int) else one_line(version, 80)
        for key, version in _mapping(value).items()
        if isinstance(key, str)
        and isinstance(version, (int, str))
        and not isinstance(version, bool)
    }


def _lengths(value: object) -> set[int]:
    found = (whole(one) for one in _sequence(value))
    return {one for one in found if one is not None and one > 0}


def _tested_later(value: object) -> tuple[int, ...]:
    return tuple(sorted(_lengths([_mapping(one).get("context") for one in _sequence(value)])))


def _evaluations(value: object, identity: str, notes: list[str]) -> tuple[Evaluation, ...]:
    found = []
    for row in _sequence(value):
        fields = _mapping(row)
        context = whole(fields.get("context"))
        if context is None or context < 1:
            continue
        own = figures(fields)
        for score in SCORES:
            if math.isfinite(own.get(score, 0.0)) and not 0 <= own.get(score, 0.0) <= 1:
                notes.append(f"run {identity}: {score} {own.pop(score):g} is outside 0 to 1")
        chance = {k: c for k, c in figures(fields.get("chance")).items() if 0 <= c < 1}
        found.append(
            Evaluation(
                split=one_line(fields.get("split"), 20),
                context=context,
                figures=own,
                chance=chance,
                parts=_parts(fields),
            )
        )
    return tuple(found)


def _parts(fields: Mapping[Any, Any]) -> dict[str, dict[str, Part]]:
    found: dict[str, dict[str, Part]] = {}
    for part in PARTS:
        value = fields.get(f"retention_by_{part}")
        # Kinds have names, the others are numbered.
        entries = [
            *_mapping(value).items(),
            *((_mapping(one).get(part), one) for one in _sequence(value)),
        ]
        kept = found[part] = {}
        for label, one in entries:
            of_part = figures(one)
            shares = (of_part.get("retention", math.nan), of_part.get("chance", math.nan))
            if all(0 <= share <= 1 for share in shares):
                made = Part(*shares, of_part.get("n", 0.0))
                kept[name(label, "?")] = made
    return found


def _predictions(value: object) -> tuple[Prediction, ...]:
    rows = (_mapping(one) for one in _sequence(value))
    return tuple(Prediction(*(_text(row.get(key)) for key in Prediction._fields)) for row in rows)


def _choices(value: object) -> tuple[Choice, ...]:
    found = []
    for row in map(_mapping, _sequence(value)):
        prompt, rank, option = (whole(row.get(key)) for key in ("prompt", "rank", "option"))
        scores = tuple(map(number, _sequence(row.get("scores"))))
        known = tuple(score for score in scores if score is not None and math.isfinite(score))
        if prompt is None or rank is None or option is None or len(known) < len(scores):
            continue
        if 0 <= option < len(known):
            texts = (one_line(row.get(key), 60) for key in ("compress", "split", "family"))
            compress, split, family = texts
            how = one_line(row.get("how", "obeyed"), 20)
            stored = row.get("stored")
            found.append(
                Choice(
                    compress, split, prompt, family, rank, option, known, how,
                    stored if isinstance(stored, bool) else None,
                    one_line(row.get("judged", "scored"), 20), _text(row.get("reply")),
                )
            )  # fmt: skip
    return tuple(found)


def _cache_bytes(value: object) -> dict[str, float]:
    return {one_line(key, 60): size for key, size in figures(value).items() if size >= 0}


def _names(value: object) -> tuple[str, ...]:
    return tuple(one_line(one, 60) for one in _sequence(value))


def _by_context(value: object) -> dict[int, float]:
    found = {}
    for key, raw in _mapping(value).items():
        figure = number(raw)
        text = str(key)
        # A length of more digits than any context has is no length.
        is_length = text.isascii() and text.isdigit() and len(text) < 12 and int(text) > 0
        if is_length and figure is not None and math.isfinite(figure):
            found[int(text)] = figure
    return dict(sorted(found.items()))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else ()

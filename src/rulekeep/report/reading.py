"""Records as they come, read into runs that the rest of the report can rely on.

A record may lack any value, or hold NaN, a wrong type or hostile text. Here every number becomes
a float or is dropped, and every text becomes one printable line; what markup does with that line
is for each output to escape.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, NamedTuple

from rulekeep.printable import one_line
from rulekeep.specs import Option
from rulekeep.store import RESULTS

SCORES = ("retention", "exact", "joint", "rule_accuracy", "item_accuracy", "token_accuracy")
# What first uses of rules are told apart by.
PARTS = ("step", "position", "kind")
BASELINE = "attention"
LEARNED = "learned"
# What places a run, or says how long and carefully it was looked at: no part of a mixer's name.
_PLACED = {
    "task", "task_options", "mixer", "context", "test_contexts", "seed", "learning_rate",
    "evaluate_every", "dev_examples", "test_examples", "long_test_examples", "threads",
}  # fmt: skip
# Of a run's settings, those that are no part of the model.
_HOW_TRAINED = {
    "mixed_lengths", "length_growth", "steps", "batch_size", "warmup_steps", "final_share",
    "weight_decay", "max_gradient_norm", "stop_when_solved", "device", "precision",
}  # fmt: skip
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NAME_LENGTH = 48


class Part(NamedTuple):
    """Retention on some of the first uses of rules, and its chance level."""

    retention: float
    chance: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A trained model's figures on one split at one context length in tokens.

    `parts` holds retention by `step` of the output and `position` of the rule, each counted from
    0, and by `kind` of rule.
    """

    split: str
    context: int
    figures: Mapping[str, float]
    chance: Mapping[str, float]
    parts: Mapping[str, Mapping[str, Part]]


class Asked(NamedTuple):
    """A task with its options as they were asked for, in the order of their names."""

    task: str
    options: tuple[tuple[str, Option], ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One record: what ran (`label` is the mixer and what tells it from its variants), and how."""

    id: str
    # Ids of the same training, tested otherwise, that stand in this one.
    twins: tuple[str, ...]
    source: str
    status: str
    reason: str
    task: str
    mixer: str
    label: str
    context: int
    seed: int
    rate: float | None
    test_contexts: tuple[int, ...]
    history: tuple[Mapping[str, float], ...]
    evaluations: tuple[Evaluation, ...]
    costs: Mapping[str, float]
    state_bytes: Mapping[int, float]
    decode_ms: Mapping[int, float]
    # Of the memory at the start, in tokens, a layer each that states one.
    half_lives: tuple[float, ...]
    environment: Mapping[str, str]
    settings: Mapping[str, str]
    difficulty: Mapping[str, str]
    asked: Asked
    # An outside model is scored as it is: its context is the one that it stands beside.
    is_trained: bool

    @property
    def is_result(self) -> bool:
        """It trained to its end or diverged; anything else says nothing about the mixer."""
        return self.status in RESULTS

    @property
    def trained_at(self) -> int | None:
        """The training length in tokens; None for an outside model, which is not trained."""
        return self.context if self.is_trained else None


class Reading(NamedTuple):
    """The runs that can be placed, and a line for everything that was left out."""

    runs: tuple[Run, ...]
    notes: tuple[str, ...]


def read_runs(records: Sequence[Mapping[str, Any]]) -> Reading:
    """Runs by task, label (baseline first), context, rate, seed; of one id, the last result."""
    notes: list[str] = []
    found: dict[str, Run] = {}
    for place, record in enumerate(records, start=1):
        run = _run(record, place, notes)
        if run is None:
            continue
        before = found.get(run.id)
        if before is not None:
            # A copy that failed elsewhere takes no result away.
            stands = before.is_result and not run.is_result
            shown = "the finished one" if stands else "the last"
            notes.append(f"run {run.id}: more than one record, {shown} is shown")
            run = before if stands else run
        found[run.id] = run
    runs, apart = _by_code(_labelled(list(found.values())))
    order = sorted(
        runs,
        key=lambda r: (
            r.task, r.mixer != BASELINE, r.label, r.context, r.rate or 0.0, r.seed, r.id,
        ),
    )  # fmt: skip
    return Reading(tuple(order), (*notes, *_repeated(order), *apart))


def name(value: object, missing: str) -> str:
    """A short name; a long one keeps both ends and a hash, so that two never become one."""
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


def lengths(value: object) -> set[int]:
    """The context lengths in a list of them; what is none is left out."""
    found = (whole(one) for one in _sequence(value))
    return {one for one in found if one is not None and one > 0}


def asked_of(task: object, options: object) -> Asked:
    """What a record says was asked for; a value that is no option's is left out."""
    found = {
        key: value
        for key, value in _mapping(options).items()
        if isinstance(key, str) and isinstance(value, (bool, int, float, str, NoneType))
    }
    return Asked(task if isinstance(task, str) else "", tuple(sorted(found.items())))


def _repeated(runs: Sequence[Run]) -> list[str]:
    # The same seed twice, tested otherwise: one cell holds a seed once.
    same: dict[tuple[object, ...], list[str]] = {}
    for run in runs:
        if run.is_result:
            key = (run.task, run.label, run.context, run.rate, run.seed)
            same.setdefault(key, []).append(run.id)
    return [
        f"{task}, {label}, trained at {context}, seed {seed}: {len(ids)} runs ({', '.join(ids)}), "
        "made with other settings; the last named is shown, so keep one of them"
        for (task, label, context, _, seed), ids in same.items()
        if len(ids) > 1
    ]


def _by_code(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Versions of a mechanism's code apart, and a line for each cell that has several.

    Figures of a mechanism before and after it was changed are no seeds of one.
    """
    made: dict[tuple[str, str], dict[str, set[int]]] = {}
    for run in runs:
        if run.is_result:
            by_source = made.setdefault((run.task, run.label), {})
            by_source.setdefault(_code(run), set()).add(run.seed)
    several = {cell: by_source for cell, by_source in made.items() if len(by_source) > 1}
    return [
        _with(run, label=f"{run.label}, code {_code(run)}")
        if (run.task, run.label) in several
        else run
        for run in runs
    ], [
        f"{task}, {label}: runs of {len(by_source)} versions of its code stand apart ("
        + "; ".join(
            f"seed {', '.join(map(str, sorted(seeds)))} by {source}"
            for source, seeds in by_source.items()
        )
        + "), each named by its code; delete the folders of those that are out of date"
        for (task, label), by_source in several.items()
    ]


def _code(run: Run) -> str:
    return run.source[:8] or "none named"


def _run(record: object, place: int, notes: list[str]) -> Run | None:
    if not isinstance(record, Mapping):
        notes.append(f"record {place}: {one_line(type(record).__name__, 40)}, not a record")
        return None
    identity = name(record.get("id"), f"record-{place}")
    spec = _mapping(record.get("spec"))
    context, seed = whole(spec.get("context")), whole(spec.get("seed"))
    if context is None or context < 1 or seed is None:
        notes.append(f"run {identity}: its spec has no context or no seed, left out of every cell")
        return None
    costs = _mapping(record.get("costs"))
    rate = number(spec.get("learning_rate"))
    environment = _mapping(record.get("environment"))
    return Run(
        id=identity,
        twins=tuple(name(one, "") for one in _sequence(record.get("twins"))),
        source=name(record.get("source"), ""),
        status=name(record.get("status"), "no status"),
        reason=one_line(record.get("reason")),
        task=name(spec.get("task"), "(no task)"),
        mixer=name(spec.get("mixer"), "(no mixer)"),
        label="",
        context=context,
        seed=seed,
        rate=rate if rate is not None and math.isfinite(rate) and rate > 0 else None,
        test_contexts=tuple(sorted(lengths(spec.get("test_contexts")))),
        history=tuple(_figures(row) for row in _sequence(record.get("history"))),
        evaluations=_evaluations(record.get("evaluations"), identity, notes),
        costs=_figures(costs),
        state_bytes=_by_context(costs.get("state_bytes")),
        decode_ms=_by_context(costs.get("decode_ms_per_token")),
        half_lives=_half_lives(costs.get("memory_half_life_tokens")),
        environment=dict(sorted((name(k, "?"), one_line(v, 120)) for k, v in environment.items())),
        settings=_settings(spec),
        difficulty=_named(_mapping(spec.get("task_options"))),
        asked=asked_of(spec.get("task"), spec.get("task_options")),
        is_trained="predictor" not in spec,
    )


def _settings(spec: Mapping[Any, Any]) -> dict[str, str]:
    """A mixer's own options beside what the spec says of the model; its names come first."""
    own = _named(_mapping(spec.get("mixer_options")))
    rest = {k: v for k, v in spec.items() if k not in _PLACED and k != "mixer_options"}
    found = _named(rest)
    return {**found, **{f"mixer {k}" if k in found else k: v for k, v in own.items()}}


def _half_lives(value: object) -> tuple[float, ...]:
    found = (number(one) for one in _sequence(value))
    return tuple(tokens for tokens in found if tokens is not None and tokens > 0)


def _named(values: Mapping[Any, Any]) -> dict[str, str]:
    return {name(key, "?"): name(value, "none") for key, value in values.items()}


def _evaluations(value: object, identity: str, notes: list[str]) -> tuple[Evaluation, ...]:
    found = []
    for row in _sequence(value):
        fields = _mapping(row)
        context = whole(fields.get("context"))
        if context is None or context < 1:
            continue
        figures = _figures(fields)
        for score in SCORES:
            if math.isfinite(figures.get(score, 0.0)) and not 0 <= figures.get(score, 0.0) <= 1:
                notes.append(f"run {identity}: {score} {figures.pop(score):g} is outside 0 to 1")
        chance = {k: c for k, c in _figures(fields.get("chance")).items() if 0 <= c < 1}
        split = one_line(fields.get("split"), 20)
        found.append(
            Evaluation(
                split=split, context=context, figures=figures, chance=chance, parts=_parts(fields)
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
            figures = _figures(one)
            made = Part(figures.get("retention", math.nan), figures.get("chance", math.nan))
            if all(0 <= share <= 1 for share in made):
                kept[name(label, "?")] = made
    return found


def _labelled(runs: list[Run]) -> list[Run]:
    # A difficulty is part of the task's name where a task was run at several.
    options: dict[str, dict[str, set[str]]] = {}
    for run in runs:
        for key in run.difficulty:
            options.setdefault(run.task, {}).setdefault(key, set())
    for run in runs:
        for key, values in options.get(run.task, {}).items():
            values.add(run.difficulty.get(key, "none"))
    runs = _beside_trained([_with_difficulty(run, options.get(run.task, {})) for run in runs])
    # A setting is part of the label where it varies: what makes the model, among all runs of the
    # mixer, so that it has one name; how it was trained, among those on one task at one length.
    mixers: dict[str, list[Run]] = {}
    kinds: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        mixers.setdefault(run.mixer, []).append(run)
        kinds.setdefault((run.task, run.mixer, run.context), []).append(run)
    models = {mixer: _varying(same) - _HOW_TRAINED for mixer, same in mixers.items()}
    trained: dict[tuple[str, str], set[str]] = {}
    for (task, mixer, _), same in kinds.items():
        trained.setdefault((task, mixer), set()).update(_varying(same))
    return [_with_label(run, models[run.mixer] | trained[run.task, run.mixer]) for run in runs]


def _varying(runs: Sequence[Run]) -> set[str]:
    """The settings that are not the same for all."""
    keys = set().union(*(run.settings for run in runs))
    return {key for key in keys if len({run.settings.get(key) for run in runs}) > 1}


def _beside_trained(runs: list[Run]) -> list[Run]:
    """What was not trained stands beside what was trained longest on its task.

    Where nothing was, all of it at the longest length that any was tested at.
    """
    longest: dict[tuple[str, bool], int] = {}
    for run in runs:
        if run.is_result:
            key = (run.task, run.is_trained)
            longest[key] = max(run.context, longest.get(key, 0))

    # In order what was trained comes last, and stands.
    beside = {task: at for (task, _), at in sorted(longest.items())}
    return [
        run if run.is_trained else _with(run, context=beside.get(run.task, run.context))
        for run in runs
    ]


def _with_difficulty(run: Run, options: Mapping[str, set[str]]) -> Run:
    several = [key for key, values in sorted(options.items()) if len(values) > 1]
    parts = [f"{key} {run.difficulty.get(key, 'none')}" for key in several]
    return _with(run, task=", ".join([run.task, *parts]))


def _with_label(run: Run, keys: set[str]) -> Run:
    parts = [f"{key} {run.settings.get(key, 'none')}" for key in sorted(keys)]
    return _with(run, label=", ".join([run.mixer, *parts]))


def _with(run: Run, **changed: object) -> Run:
    # A copy by hand: dataclasses.replace is typed too loosely for strict checking.
    return Run(**{**run.__dict__, **changed})


def _figures(value: object) -> dict[str, float]:
    read = {key: number(v) for key, v in _mapping(value).items() if isinstance(key, str)}
    return {key: v for key, v in read.items() if v is not None}


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


def _mapping(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else ()

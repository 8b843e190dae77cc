"""Former names of options, tasks and presets, and what each is called now; former defaults.

    current(values)      # a spec as JSON has it, under present names: for what is read from disk
    told(values)         # the same for what a user gave: a warning says each present name
    former(asked)        # back again: an id is hashed under former names, so that it stays

A former name is read everywhere and written nowhere. An option whose default has changed is always
written; where it is missing on disk, it has its former default.
"""

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

# Of a run's spec.
FIELDS = {"dev_examples": "validation_examples"}
FORMER_TASKS = {"rulekeep.mixed_recall:MixedRecall": "rulekeep.tasks.mixed_recall:MixedRecall"}
FORMER_PRESETS = {"exam-quick": "quick", "exam": "standard", "exam-long": "long"}
# Of a mixer, by its name.
OPTIONS = {
    "sparse_delta": {
        "slack": "gate_stretch",
        "gate_taps": "gate_kernel",
        "zero_taps": "zero_init_kernel",
        "toll": "gate_penalty",
        "margin": "penalty_margin",
        "toll_after": "penalty_start",
    }
}


class Moved(NamedTuple):
    """A mixer's present name, its options by their former names, and those it had unasked.

    `others` are the options that both have under one name.
    """

    name: str
    options: Mapping[str, str] = {}
    unasked: Mapping[str, Any] = {}
    others: frozenset[str] = frozenset()


# Mixers of files that have moved, or have become options of another.
FORMER_MIXERS = {
    "benchmarks/convolved_attention.py:ConvolvedAttention": Moved(
        "attention", {"taps": "conv_size"}, {"conv_size": 8}, frozenset({"heads"})
    ),
    "benchmarks/scaled_gate.py:ScaledGate": Moved(
        "studies/controls/gates.py:ScaledGate", others=frozenset({"scale"})
    ),
    "benchmarks/slowed_gate.py:SlowedGate": Moved(
        "studies/controls/gates.py:SlowedGate", others=frozenset({"slowness"})
    ),
}
Defaults: TypeAlias = Mapping[str, Mapping[str, Any]]
# Of a mixer, options whose default has changed: what it was, and what it is.
FORMER: Defaults = {"sparse_delta": {"short_convolution": False}}
PRESENT: Defaults = {"sparse_delta": {"short_convolution": True}}
_VARIANT = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")


class RenamedWarning(UserWarning):
    """A former name was given: it is understood, and the message says the present one."""


class _Names(NamedTuple):
    """A table of names, in one direction."""

    fields: Mapping[str, str]
    tasks: Mapping[str, str]
    options: Mapping[str, Mapping[str, str]]


def _turned(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}


_TO_PRESENT = _Names(FIELDS, FORMER_TASKS, OPTIONS)
_TO_FORMER = _Names(
    _turned(FIELDS),
    _turned(FORMER_TASKS),
    {mixer: _turned(names) for mixer, names in OPTIONS.items()},
)


def current(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a spec under present names and with former defaults; nothing is said."""
    found = _present(values)
    mixer, model = found.get("mixer"), found.get("model")
    if isinstance(mixer, str) and (missing := _missing(mixer, _given(found), FORMER)):
        found["mixer_options"] = {**_given(found), **missing}
    if isinstance(model, str):
        found["model"] = filled_variant(model, FORMER)
    return found


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    moved = FORMER_MIXERS.get(str(values.get("mixer")))
    if moved is not None:
        given = _given(values)
        options = {moved.options.get(name, name): value for name, value in given.items()}
        values = _with_mixer(values, moved.name, {**moved.unasked, **options})
    return dict(_renamed(values, _TO_PRESENT))


def former(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a spec under former names, without former defaults, as ids are hashed."""
    values = _without_former_defaults(values)
    name = _former_mixer(values)
    if name is not None:
        moved = FORMER_MIXERS[name]
        back, given = _turned(moved.options), _given(values)
        options = {
            back.get(one, one): value
            for one, value in given.items()
            if moved.unasked.get(one) != value
        }
        values = _with_mixer(values, name, options)
    return dict(_renamed(values, _TO_FORMER))


def current_versions(versions: Mapping[str, Any]) -> dict[str, Any]:
    """Declared versions by present names."""
    names = {**FORMER_TASKS, **{former: moved.name for former, moved in FORMER_MIXERS.items()}}
    return {_got(names, name): version for name, version in versions.items()}


def former_versions(versions: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Declared versions of what was asked for by former names, as ids are hashed."""
    name = _former_mixer(asked)
    names = (
        _TO_FORMER.tasks if name is None else {**_TO_FORMER.tasks, FORMER_MIXERS[name].name: name}
    )
    return {_got(names, name): version for name, version in versions.items()}


def _given(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of a mixer; none where a record has something else there."""
    found = values.get("mixer_options")
    return found if isinstance(found, Mapping) else {}


def _with_mixer(
    values: Mapping[str, Any], mixer: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The same values with another mixer; no options are left out, as where a default is."""
    others = {key: value for key, value in values.items() if key != "mixer_options"}
    return {**others, "mixer": mixer, **({"mixer_options": options} if options else {})}


def _former_mixer(asked: Mapping[str, Any]) -> str | None:
    """The former name of the mixer with these options; None where it had none."""
    given = _given(asked).keys()
    for name, moved in FORMER_MIXERS.items():
        own = moved.unasked.keys()
        # What was asked for without a name was attention.
        if asked.get("mixer", "attention") == moved.name and own <= given <= own | moved.others:
            return name
    return None


def told(values: Any) -> Any:
    """What a user gave for a spec under present names, with a warning for each former one.

    Raises:
        ValueError: an option is given under both of its names.
    """
    if not isinstance(values, Mapping):
        return values
    found = _present(values)
    mixer, options = values.get("mixer"), values.get("mixer_options")
    _tell([key for key in values if isinstance(key, str)], FIELDS)
    _tell([values.get("task")], FORMER_TASKS, "task ")
    _tell([mixer], {former: moved.name for former, moved in FORMER_MIXERS.items()}, "mixer ")
    if isinstance(options, Mapping):
        for key in options:
            tell_option(str(mixer), key, options)
    text = values.get("model")
    if text != found.get("model"):
        warnings.warn(f"model {text!r} is now {found['model']!r}", RenamedWarning, stacklevel=3)
    return found


def tell_option(mixer: str, key: str, given: Iterable[str] = ()) -> str:
    """The present name of a mixer's option; a warning says it where a former one was given.

    Raises:
        ValueError: both names are among those `given`.
    """
    name = option(mixer, key)
    if name != key:
        if name in given:
            raise ValueError(f"option {key!r} is now {name!r}, and both are given; give {name!r}")
        line = f"option {key!r} of {mixer} is now {name!r}"
        warnings.warn(line, RenamedWarning, stacklevel=4)
    return name


def tell_field(name: str) -> str:
    """The present name of a value of a run's spec; a warning says it where a former was given."""
    _tell([name], FIELDS)
    return FIELDS.get(name, name)


def tell_task(name: str) -> str:
    """The present name of a task; a warning says it where a former one was given."""
    _tell([name], FORMER_TASKS, "task ")
    return FORMER_TASKS.get(name, name)


def tell_preset(name: str) -> str:
    """The present name of a preset; a warning says it where a former one was given."""
    _tell([name], FORMER_PRESETS, "preset ")
    return FORMER_PRESETS.get(name, name)


def option(mixer: str, key: str) -> str:
    """The present name of a mixer's option; of a hybrid `a.key`, or `key` for each that has it."""
    return str(_option(mixer, key, OPTIONS))


def filled_options(mixer: str, options: Mapping[str, Any], defaults: Defaults) -> dict[str, Any]:
    """Options of a mixer, and these defaults of those that are missing."""
    return {**options, **_missing(mixer, options, defaults)}


def filled_variant(text: str, defaults: Defaults) -> str:
    """The same of a mixer with its options as text, `sparse_delta[toll=0]`, under present names."""
    mixer, pairs = _parts(_variant(text, OPTIONS))
    given = [one.partition("=")[0].strip().replace("-", "_") for one in pairs]
    return _joined(mixer, [*pairs, *_texts(_missing(mixer.strip(), given, defaults))])


def _missing(mixer: str, given: Iterable[str], defaults: Defaults) -> dict[str, Any]:
    """These defaults of a mixer, or of each of a hybrid, but for the options that are given."""
    names, given = dict.fromkeys(mixer.split("+")), {*given}
    return {
        f"{name}.{option}" if len(names) > 1 else option: value
        for name in names
        for option, value in defaults.get(name, {}).items()
        # In a hybrid an option without a mixer's name is for each that has it.
        if not given & {option, f"{name}.{option}"}
    }


def _without_former_defaults(values: Mapping[str, Any]) -> Mapping[str, Any]:
    mixer, model = values.get("mixer"), values.get("model")
    if isinstance(mixer, str) and (left := _missing(mixer, (), FORMER).items()):
        kept = {key: value for key, value in _given(values).items() if (key, value) not in left}
        values = _with_mixer(values, mixer, kept)
    if isinstance(model, str):
        name, pairs = _parts(model)
        out = _texts(_missing(name.strip(), (), FORMER))
        values = {**values, "model": _joined(name, [one for one in pairs if one not in out])}
    return values


def _parts(text: str) -> tuple[str, list[str]]:
    """The mixer of a variant, and its options, each as text."""
    match = _VARIANT.fullmatch(text)
    return (text, []) if match is None else (match[1], match[2].split(","))


def _joined(mixer: str, pairs: list[str]) -> str:
    return f"{mixer}[{','.join(pairs)}]" if pairs else mixer


def _texts(options: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in options.items()]


def _tell(given: Iterable[Any], names: Mapping[str, str], what: str = "") -> None:
    for name in given:
        if _got(names, name) != name:
            line = f"{what}{name!r} is now {names[name]!r}"
            warnings.warn(line, RenamedWarning, stacklevel=4)


def _renamed(values: Mapping[str, Any], names: _Names) -> Iterator[tuple[str, Any]]:
    mixer = values.get("mixer")
    for key, value in values.items():
        if key == "task":
            yield key, _got(names.tasks, value)
        elif key == "model" and isinstance(value, str):
            yield key, _variant(value, names.options)
        elif key == "mixer_options" and isinstance(value, Mapping) and isinstance(mixer, str):
            options = {_option(mixer, one, names.options): given for one, given in value.items()}
            yield key, options
        else:
            yield _got(names.fields, key), value


def _got(names: Mapping[str, str], name: Any) -> Any:
    return names.get(name, name) if isinstance(name, str) else name


def _option(mixer: str, key: Any, options: Mapping[str, Mapping[str, str]]) -> Any:
    of, dot, name = str(key).rpartition(".")
    for one in [of] if dot else mixer.split("+"):
        if name in options.get(one, {}):
            return f"{of}{dot}{options[one][name]}"
    return key


def _variant(text: str, options: Mapping[str, Mapping[str, str]]) -> str:
    mixer, pairs = _parts(text)
    split = (pair.partition("=") for pair in pairs)
    named = [
        _option(mixer.strip(), key.strip(), options) + equals + value
        for key, equals, value in split
    ]
    return _joined(mixer, named)

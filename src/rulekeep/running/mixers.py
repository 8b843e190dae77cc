"""A mixer that a spec names, found and made: its class, its options, its constructor tried once.

Options are the keyword-only parameters of its class: the signature is the specification.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
)

from pydantic import create_model

from rulekeep.plugins import (
    choose,
    failure_line,
    find_class,
    takes_by_place,
)
from rulekeep.specs import (
    HYBRID,
    MixerSpec,
    Option,
    RunSpec,
    Spec,
    UsageError,
)

if TYPE_CHECKING:
    # Only who asks for a mixer loads torch.
    from rulekeep.mixers.base import Mixer


def options_of(kind: type[Any]) -> type[Spec]:
    """The options of a class as a spec: the keyword-only parameters of its constructor.

    The signature is the specification: another name is an error, and so is a value of another type.
    `serial` is left out: it chooses how to compute, not what.
    """
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(kind.__init__, eval_str=True).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "serial":
            annotation = parameter.annotation
            if annotation in (parameter.empty, Any):
                annotation = Option
            if hasattr(Spec, parameter.name):
                raise ValueError(f"{parameter.name!r} is a name that specs use; give it another")
            if not _can_be_given(annotation):
                raise ValueError(
                    f"{parameter.name}: {inspect.formatannotation(annotation)}, "
                    "must be a bool, a number, a text or None"
                )
            default = ... if parameter.default is parameter.empty else parameter.default
            if not _can_be_kept(default, annotation):
                raise ValueError(
                    f"{parameter.name}={default!r}: must be a bool, a finite number, a text or None"
                )
            fields[parameter.name] = (annotation, default)
    return create_model(f"{kind.__name__}Options", __base__=Spec, **fields)


def _can_be_given(annotation: Any) -> bool:
    """Whether a value of this type can be written on a command line, or passed as it is."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return all(_can_be_given(part) for part in parts)
    kind = parts[0] if origin is Annotated else annotation
    simple = isinstance(kind, type) and issubclass(kind, bool | int | float | str | NoneType)
    return simple or kind in (Any, None) or origin in (Literal, Callable)


def _can_be_kept(default: Any, annotation: Any) -> bool:
    """Whether a record can hold a default value; what is passed as it is may be a function."""
    if default is ... or (callable(default) and get_origin(annotation) is Callable):
        return True
    finite = not isinstance(default, float) or math.isfinite(default)
    return isinstance(default, bool | int | float | str | NoneType) and finite


def load_mixer(name: str) -> type[Any]:
    """A mixer of the catalogue, or any `nn.Module` from outside that meets the contract.

    Raises:
        UsageError: there is no such mixer, or it cannot be loaded.
    """
    from torch import nn

    from rulekeep.mixers import MIXERS
    from rulekeep.tasks import TASKS

    if name in TASKS:
        raise UsageError(f"mixer {name!r}: is a task, which goes to --task or rulekeep check-task")
    bare, _, options = name.partition("[")
    option, equals, value = options.rstrip("]").partition(",")[0].partition("=")
    if equals:
        raise UsageError(
            f"mixer {name!r}: brackets are for the mixers of a sweep; write {bare!r} and "
            f"--mixer-options.{option.strip()} {value.strip()!r}"
        )
    found = find_class(name, MIXERS, nn.Module, "mixer")
    parts = ("forward", "init_state")
    missing = [part for part in parts if getattr(found, part, None) in (None, nn.Module.forward)]
    if missing:
        raise UsageError(
            f"mixer {name!r}: define {' and '.join(missing)}, as rulekeep.mixers.base; "
            f"a layer without a state goes behind rulekeep.Stateless, {adapter(found.__name__)}"
        )
    return found


def adapter(name: str) -> str:
    """A line that makes a mixer of a layer without a state."""
    return (
        f"as in `class {name}Mixer(rulekeep.Stateless): "
        f"__init__ = lambda self, width: rulekeep.Stateless.__init__(self, {name}(width))`"
    )


class Mixers(NamedTuple):
    """What makes each layer's mixer, all options, and those that an id counts.

    `given` differ from their defaults, or have a default that has changed. `notes` say what a user
    should know before training.
    """

    makers: "tuple[Callable[[], Mixer], ...]"
    options: dict[str, Option]
    given: dict[str, Option]
    kinds: dict[str, type[Any]]
    notes: tuple[str, ...]


def mixers_of(spec: RunSpec) -> Mixers:
    """The mixers of a spec; each is tried once.

    Raises:
        UsageError: there is no such mixer, or an option is impossible.
    """
    names = list(dict.fromkeys(spec.mixers))
    several = len(names) > 1
    given: dict[str, dict[str, Option]] = {name: {} for name in names}
    kinds = {name: load_mixer(name) for name in names}
    allowed = {name: options_of_mixer(name, kind) for name, kind in kinds.items()}
    # What is said of one mixer holds over what is said of all, wherever it stands.
    for key, value in sorted(spec.mixer_options.items(), key=lambda pair: "." in pair[0]):
        one, dot, option = key.rpartition(".")
        takers = [name for name in names if option in allowed[name].model_fields]
        if dot:
            takers = [one]
        if not several and not dot:
            takers = names
        if not takers or any(name not in given for name in takers):
            known = {
                f"{n}.{o}" if several else o: 0 for n in names for o in allowed[n].model_fields
            }
            hint = next(filter(None, (_hint(kinds[name], option) for name in names)), None)
            raise UsageError(
                f"mixer option {key!r}: there is no such option; {hint or choose(key, known)}"
            )
        for name in takers:
            given[name][option] = value
    filled = {name: _filled(name, allowed[name], given[name], kinds[name]) for name in names}
    notes = list[str]()
    for name in names:
        if note := note_on_penalty(kinds[name], filled[name].model_dump(), spec.steps):
            if "gate_penalty" in filled[name].model_dump(exclude_defaults=True):
                raise UsageError(f"mixer {name!r}: {note}")
            notes.append(f"{kinds[name].__name__}: {note}")
    makers = {
        name: mixer_maker(name, kinds[name], spec.width, filled[name].model_dump())
        for name in names
    }

    def named(*, exclude_defaults: bool) -> dict[str, Option]:
        return {
            f"{name}.{option}" if several else option: value
            for name in names
            for option, value in filled[name].model_dump().items()
            if not exclude_defaults or value != allowed[name].model_fields[option].default
        }

    return Mixers(
        tuple(makers[name] for name in spec.mixers),
        named(exclude_defaults=False),
        named(exclude_defaults=True),
        kinds,
        tuple(notes),
    )


def note_on_penalty(kind: type[Any], options: Mapping[str, Any], steps: int) -> str | None:
    """A note that a training ends before a gate penalty starts; None if it does not."""
    from rulekeep.mixers.matrix import GatedMixer

    start = options.get("penalty_start", 0)
    if not issubclass(kind, GatedMixer) or not options.get("gate_penalty") or steps > start:
        return None
    return (
        f"penalty_start {start}: training ends after {steps} steps, so the gate "
        f"penalty never starts; give a penalty_start below {steps}, or gate_penalty=0"
    )


def own_options_first(one: MixerSpec, *, of_runs: tuple[str, ...] = ()) -> MixerSpec:
    """A mixer whose settings become its own options wherever its class has such an option.

    Only the class can tell: `steps` may belong to the run or to the mixer. `of_runs` are the
    settings that are offered beside its own options.

    Raises:
        UsageError: there is no such mixer, or no such option where settings are offered.
    """
    kinds = {name: load_mixer(name) for name in one.mixer.split(HYBRID)}
    own = [options_of_mixer(name, kind).model_fields for name, kind in kinds.items()]
    known = dict.fromkeys([*(key for of in own for key in of), *of_runs])
    for key in one.options if of_runs else ():
        hint = next(filter(None, (_hint(kind, key) for kind in kinds.values())), None)
        if key.rpartition(".")[2] not in known and not hint:
            raise UsageError(
                f"mixer {one.mixer!r}: {key!r}: there is no such option; {choose(key, known)}"
            )
    moved = {key: one.settings[key] for key in one.settings if any(key in of for of in own)}
    kept = {key: value for key, value in one.settings.items() if key not in moved}
    return one._replace(options={**one.options, **moved}, settings=kept)


def mixer_options(name: str, kind: type[Any], given: Mapping[str, Option]) -> Mapping[str, Option]:
    """Every option of a mixer class; the given ones are checked.

    Raises:
        UsageError: there is no such option, or a value is impossible.
    """
    return _filled(name, options_of_mixer(name, kind), given, kind).model_dump()


def options_of_mixer(name: str, kind: type[Any], *, all_named: bool = False) -> type[Spec]:
    """The options of a mixer as a spec.

    A run takes what a constructor has by its place at its default; with `all_named` it is refused.

    Raises:
        UsageError: a type cannot be given, or the constructor asks for more.
    """
    if not takes_by_place(kind):
        raise UsageError(f"mixer {name!r}: its constructor must take the width: (self, width)")
    try:
        found = options_of(kind)
    except Exception as error:
        raise UsageError(f"mixer {name!r}: its options cannot be: {failure_line(error)}") from None
    for parameter in _positional(kind):
        if all_named or parameter.default is parameter.empty:
            raise UsageError(f"mixer {name!r}: {_keyword_only(parameter.name)}")
    return found


def _positional(kind: type[Any]) -> list[inspect.Parameter]:
    """Positional parameters of a constructor besides `self` and the width."""
    parameters = inspect.signature(kind.__init__).parameters.values()
    return [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][2:]


def _hint(kind: type[Any], option: str) -> str | None:
    """Why an option of this name is not found in its constructor, if the constructor hides it."""
    if any(parameter.name == option for parameter in _positional(kind)):
        return _keyword_only(option)
    parameters = inspect.signature(kind.__init__).parameters
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD and option not in parameters:
            return f"**{parameter.name} names no option; name it: (self, width, *, {option})"
    return None


def _keyword_only(name: str) -> str:
    return f"its constructor takes {name} by its place; put a * before it: (self, width, *, {name})"


def _filled(name: str, allowed: type[Spec], given: Mapping[str, Option], kind: type[Any]) -> Spec:
    try:
        return allowed.parse_json(given)
    except UsageError as error:
        hint = next(filter(None, (_hint(kind, key) for key in given)), None)
        raise UsageError(f"mixer {name!r}: {hint or error}") from None


def mixer_maker(
    name: str, kind: type[Any], width: int, options: Mapping[str, Any]
) -> "Callable[[], Mixer]":
    """What makes a mixer of this class; it is tried once.

    Raises:
        UsageError: its constructor fails.
    """

    def make() -> "Mixer":
        from rulekeep.mixers.base import Mixer, Outside

        made = kind(width, **options)
        return made if isinstance(made, Mixer) else Outside(made)

    import torch

    try:
        with torch.random.fork_rng(devices=[]):
            make()
    except ValueError as error:
        raise UsageError(f"mixer {name!r}: {' '.join(str(error).split())}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UsageError(f"mixer {name!r}: {failure_line(error)}") from error
    return make

"""Names to classes: a name of the catalogue, `module:Class`, or `file.py:Class`.

>>> find_class("recite", catalogue, Task, "task")        # doctest: +SKIP
>>> find_class("my_file.py:MyMixer", catalogue, Module, "mixer")        # doctest: +SKIP
"""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import create_model

from rulekeep import sources
from rulekeep.specs import AnySpec, Option, PredictorSpec, RunSpec, Spec, UsageError

if TYPE_CHECKING:
    # Only who asks for a mixer loads torch.
    from rulekeep.mixers.base import Mixer
    from rulekeep.tasks.sampled import SampledTask

_T = TypeVar("_T")
# The code of a run beside its task and its mixers.
_SCORING = ("rulekeep.predicting", "rulekeep.evaluation")
_RUNNING = ("rulekeep.run", "rulekeep.training", "rulekeep.evaluation", "rulekeep.model")


def find_class(
    name: str, catalogue: Mapping[str, type[Any]], base: type[_T], kind: str
) -> type[_T]:
    """The class that a name stands for.

    Raises:
        UsageError: there is none, or it is no `base`.
    """
    if name in catalogue:
        found: Any = catalogue[name]
    elif ":" in name:
        found = _outside(name, kind)
    else:
        own = "bring your own as file.py:Class or module:Class"
        fix = f"{nearest(name, catalogue)}, or {own}" if catalogue else own
        raise UsageError(f"{kind} {name!r}: {fix}")
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{kind} {name!r}: must be a class derived from {base.__name__}")
    return found


def find_function(
    name: str, catalogue: Mapping[str, Any], default: str
) -> Callable[[], Sequence[Any]]:
    """The function that `FILE.py` (its function `default`) or `FILE.py:function` stands for.

    Raises:
        UsageError: there is none.
    """
    if not name.endswith(".py") and ":" not in name:
        raise UsageError(f"{default} {name!r}: {nearest(name, catalogue)}, or name a FILE.py")
    found = _outside(f"{name}:{default}" if name.endswith(".py") else name, default)
    if not callable(found):
        raise UsageError(f"{default} {name!r}: must be a function that returns specs")
    function: Callable[[], Sequence[Any]] = found
    return function


def nearest(name: str, known: Mapping[str, Any]) -> str:
    """`did you mean …?` where a known name is near, else `choose from …`."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known)}"


def plugin_file(name: str) -> Path | None:
    """The file that `file.py:Class` or `module:Class` names; None for one of the catalogue.

    Raises:
        UsageError: there is no such file or module.
    """
    place, colon, _ = name.rpartition(":")
    if not colon:
        return None
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise UsageError(f"{name!r}: there is no file {place}")
        return path
    try:
        spec = importlib.util.find_spec(place)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UsageError(f"{name!r}: there is no module {place} to import")
    return Path(spec.origin)


def options_of(kind: type[Any]) -> type[Spec]:
    """A class's options as a spec: the keyword-only parameters of its constructor.

    The signature is the specification: a name that is not in it is an error, and so is a value
    of another type. `serial`, which chooses a form and not a mechanism, is left out.
    """
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(kind.__init__, eval_str=True).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "serial":
            annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (annotation, default)
    return create_model(f"{kind.__name__}Options", __base__=Spec, **fields)


class Resolved(NamedTuple):
    """A run that can be made: its spec with every option filled in, and what it is made of."""

    spec: RunSpec
    task: "SampledTask"
    mixers: "tuple[Callable[[], Mixer], ...]"
    source: str


def resolve(spec: RunSpec) -> Resolved:
    """Finds the task and the mixers of a spec, and fills in their options.

    Raises:
        UsageError: a name is unknown, or a value cannot be.
    """
    task = load_task(spec.task)(spec.task_options)
    _long_enough(spec.task, task, context=(spec.context,), test_contexts=spec.tested)
    mixers, options = _mixers(spec)
    filled = spec.model_copy(
        update={
            "task_options": task.options.model_dump(),
            "mixer_options": options,
            "hidden": spec.hidden or 4 * spec.width,
            "test_contexts": spec.tested,
        }
    )
    modules, files = _code(spec.task, spec.mixers)
    return Resolved(filled, task, mixers, sources.digest(modules, files))


class ResolvedPredictor(NamedTuple):
    """An outside model that can be scored: its spec filled in, its class, and the task."""

    spec: PredictorSpec
    task: "SampledTask"
    kind: type[Any]
    source: str


def resolve_predictor(spec: PredictorSpec) -> ResolvedPredictor:
    """Finds an outside model and the task.

    Raises:
        UsageError: a name is unknown, or a value cannot be.
    """
    from rulekeep.evaluation import Predictor

    task = load_task(spec.task)(spec.task_options)
    _long_enough(spec.task, task, test_contexts=spec.test_contexts)
    kind = find_class(spec.predictor, {}, Predictor, "predictor")  # type: ignore[type-abstract]
    if inspect.isabstract(kind):
        lacking = ", ".join(sorted(kind.__abstractmethods__))
        raise UsageError(f"predictor {spec.predictor!r}: must define {lacking}")
    filled = spec.model_copy(update={"task_options": task.options.model_dump()})
    modules, files = _code(spec.task, (), spec.predictor)
    return ResolvedPredictor(filled, task, kind, sources.digest(modules, files))


def described(spec: AnySpec) -> tuple[AnySpec, str]:
    """A spec with every option filled in, and the digest of the code that it runs.

    Raises:
        UsageError: it cannot be.
    """
    if isinstance(spec, RunSpec):
        run = resolve(spec)
        return run.spec, run.source
    if isinstance(spec, PredictorSpec):
        predictor = resolve_predictor(spec)
        return predictor.spec, predictor.source
    return spec, sources.digest(spec.code, ())


def load_task(name: str) -> "Callable[[Mapping[str, Option]], SampledTask]":
    """What makes a task from its options.

    Raises:
        UsageError: there is no such task, or it is not one that examples are drawn from.
    """
    from rulekeep.tasks import TASKS
    from rulekeep.tasks.sampled import SampledTask

    drawn = {key: kind for key, kind in TASKS.items() if issubclass(kind, SampledTask)}
    if name in TASKS and name not in drawn:
        raise UsageError(
            f"task {name!r}: is a fixed table with a command of its own, rulekeep {name}; "
            f"choose from {', '.join(drawn)}"
        )
    kind: Any = find_class(name, drawn, SampledTask, "task")

    def make(options: Mapping[str, Option]) -> SampledTask:
        made: SampledTask = kind(kind.options_type.parse_json(options))
        return made

    return make


def mixer_class(name: str) -> type[Any]:
    """A mixer's class: any `nn.Module` that meets the contract will do.

    Raises:
        UsageError: there is no such mixer.
    """
    from torch import nn

    from rulekeep.mixers import MIXERS

    return find_class(name, MIXERS, nn.Module, "mixer")


def _mixers(spec: RunSpec) -> "tuple[tuple[Callable[[], Mixer], ...], dict[str, Option]]":
    names = list(dict.fromkeys(spec.mixers))
    several = len(names) > 1
    given: dict[str, dict[str, Option]] = {name: {} for name in names}
    kinds = {name: mixer_class(name) for name in names}
    allowed = {name: options_of(kind) for name, kind in kinds.items()}
    for key, value in spec.mixer_options.items():
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
            raise UsageError(
                f"mixer option {key!r}: there is no such option; {nearest(key, known)}"
            )
        for name in takers:
            given[name][option] = value
    filled = {name: allowed[name].parse_json(given[name]) for name in names}
    makers = {name: _maker(kinds[name], spec.width, filled[name]) for name in names}
    for name in names:
        _try_out(name, makers[name])
    options = {
        f"{name}.{option}" if several else option: value
        for name in names
        for option, value in filled[name].model_dump().items()
    }
    return tuple(makers[name] for name in spec.mixers), options


def _maker(kind: type[Any], width: int, options: Spec) -> "Callable[[], Mixer]":
    def make() -> "Mixer":
        from rulekeep.mixers.base import Mixer, Outside

        made = kind(width, **options.model_dump())
        return made if isinstance(made, Mixer) else Outside(made)

    return make


def _try_out(name: str, make: "Callable[[], Mixer]") -> None:
    import torch

    try:
        with torch.random.fork_rng(devices=[]):
            make()
    except Exception as error:
        said = " ".join(str(error).split())
        named = said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}"
        raise UsageError(f"mixer {name!r}: {named}") from error


def _long_enough(name: str, task: "SampledTask", **given: tuple[int, ...]) -> None:
    for option, contexts in given.items():
        for context in contexts:
            if context < task.shortest_context:
                raise UsageError(
                    f"{option} {context}: must be {task.shortest_context} or more for {name} "
                    "with these options"
                )


def _code(
    task: str, mixers: tuple[str, ...], predictor: str | None = None
) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    from rulekeep.mixers import MIXERS
    from rulekeep.tasks import TASKS

    modules, files = list(_RUNNING if predictor is None else _SCORING), list[Path]()
    places: list[tuple[str, Mapping[str, type[Any]]]] = [(task, TASKS)]
    places += [(name, MIXERS) for name in mixers]
    places += [] if predictor is None else [(predictor, {})]
    for name, catalogue in places:
        path = plugin_file(name)
        if path is None:
            modules.append(catalogue[name].__module__)
        elif path not in files:
            files.append(path)
    return tuple(modules), tuple(files)


def _outside(name: str, kind: str) -> Any:
    place, _, attribute = name.rpartition(":")
    path = plugin_file(name)
    assert path is not None
    try:
        module = _load(path.resolve()) if place.endswith(".py") else importlib.import_module(place)
    except UsageError:
        raise
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, MemoryError)):
            raise
        # An outsider's import may do anything, `sys.exit` included: it is the user's to mend.
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{kind} {name!r}: importing it failed with {said}") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        classes = {n: c for n, c in vars(module).items() if isinstance(c, type)}
        raise UsageError(
            f"{kind} {name!r}: {path.name} has no {attribute!r}; {nearest(attribute, classes)}"
        ) from None


@lru_cache(maxsize=32)
def _load(path: Path) -> ModuleType:
    # One module a file, whatever its name is: two plug-ins may be called alike.
    name = f"rulekeep_plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module

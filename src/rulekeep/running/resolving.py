"""Resolves a spec: finds task and mixers, fills in every option, declares the versions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
)

from rulekeep.plugins import (
    find_class,
    held_class,
    is_outside,
    plugin_file,
)
from rulekeep.records import provenance as sources
from rulekeep.records.identity import PROTOCOL, Identified
from rulekeep.running.mixers import (
    load_mixer,
    mixer_maker,
    mixer_options,
    mixers_of,
    note_on_penalty,
)
from rulekeep.running.tasks import build_task, load_task
from rulekeep.specs import (
    PUBLISHED_WIDTH,
    AnySpec,
    ArticleCell,
    Option,
    PredictorSpec,
    RunSpec,
    UsageError,
)

if TYPE_CHECKING:
    # Only who asks for a mixer loads torch.
    from rulekeep.mixers.base import Mixer
    from rulekeep.tasks.sampled import SampledTask


@dataclass(frozen=True)
class Resolved(Identified[RunSpec]):
    """A run that can be made: its task, and what makes the mixer of each layer.

    `notes` say what a user should know before training.
    """

    task: "SampledTask"
    mixers: "tuple[Callable[[], Mixer], ...]"
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ResolvedPredictor(Identified[PredictorSpec]):
    """An outside model that can be scored: its task and its class."""

    task: "SampledTask"
    kind: type[Any]


@dataclass(frozen=True)
class ResolvedCell(Identified[ArticleCell]):
    """A cell of the article's experiment; `make` makes the mixer that joins it, if one does."""

    make: "Callable[[], Mixer] | None"
    notes: tuple[str, ...]


def resolve(spec: RunSpec) -> Resolved:
    """Find the task and the mixers of a spec, and fill in their options.

    Raises:
        UsageError: a name is unknown, or a value is impossible.
    """
    task = _task(spec.task, spec.task_options)
    _long_enough(spec.task, task, context=(spec.context,), test_contexts=spec.tested)
    mixers, options, given, kinds, notes = mixers_of(spec)
    filled = spec.model_copy(
        update={
            "task_options": task.options.model_dump(),
            "mixer_options": options,
            "hidden": spec.hidden or 4 * spec.width,
            "test_contexts": spec.tested,
        }
    )
    # What a default stands for is held by the version, so that a new option changes no id.
    bare = filled.model_copy(
        update={
            "task_options": task.options.model_dump(exclude_defaults=True),
            "mixer_options": given,
            "hidden": None if filled.hidden == 4 * spec.width else filled.hidden,
            "test_contexts": () if spec.tested == (spec.context,) else spec.tested,
        }
    )
    versions: dict[str, int | str] = {PROTOCOL: spec.version}
    versions[spec.task] = _version(spec.task, type(task))
    versions |= {name: _version(name, kinds[name]) for name in spec.mixers}
    return Resolved(
        filled, _asked(bare), versions, _source((spec.task, *spec.mixers)), task, mixers, notes
    )


def resolve_predictor(spec: PredictorSpec) -> ResolvedPredictor:
    """Find an outside model and its task.

    Raises:
        UsageError: a name is unknown, or a value is impossible.
    """
    from rulekeep.running.evaluation import Predictor

    task = _task(spec.task, spec.task_options)
    _long_enough(spec.task, task, test_contexts=spec.test_contexts)
    kind = find_class(spec.predictor, {}, Predictor, "predictor")  # type: ignore[type-abstract]
    filled = spec.model_copy(update={"task_options": task.options.model_dump()})
    options = task.options.model_dump(exclude_defaults=True)
    versions = {
        PROTOCOL: spec.version,
        spec.task: _version(spec.task, type(task)),
        spec.predictor: _version(spec.predictor, kind),
    }
    asked = _asked(spec.model_copy(update={"task_options": options}))
    source = _source((spec.task, spec.predictor))
    return ResolvedPredictor(filled, asked, versions, source, task, kind)


def resolve_cell(cell: ArticleCell) -> ResolvedCell:
    """Resolve a cell of the article's experiment, with the mixer that joins it, if one does.

    Raises:
        UsageError: there is no such mixer, or an option is impossible.
    """
    versions: dict[str, int | str] = {PROTOCOL: cell.version}
    names, make, notes = list[str](), None, tuple[str, ...]()
    if asked := cell.joining_mixer:
        name, kind = asked.mixer, load_mixer(asked.mixer)
        options = mixer_options(name, kind, asked.options)
        make = mixer_maker(name, kind, PUBLISHED_WIDTH, options)
        names.append(name)
        versions[name] = _version(name, kind)
        if note := note_on_penalty(kind, options, cell.steps):
            notes = (f"{kind.__name__}: {note}",)
    return ResolvedCell(cell, _asked(cell), versions, _source(names), make, notes)


def _asked(spec: AnySpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude_defaults=True)


def _version(name: str, kind: type[Any]) -> int | str:
    """The declared version of a class; for a plug-in without one, a digest of its own files."""
    declared = vars(kind).get("version") if is_outside(name) else kind.version
    if isinstance(declared, int) and not isinstance(declared, bool):
        return declared
    if declared is not None:
        raise UsageError(f"{name!r}: its version is {declared!r}; declare a whole number")
    if held_class(name) is not None:
        return sources.text_digest(_text_of(name, kind))
    path = plugin_file(name)
    assert path is not None, f"{kind} of the catalogue declares no version"
    return sources.content_digest(path)


def _text_of(name: str, kind: type[Any]) -> str:
    try:
        return sources.class_text(kind)
    except OSError:
        raise UsageError(
            f"{name!r}: its source text cannot be read here; write it in a file and name "
            f"FILE.py:{kind.__name__}"
        ) from None


def check_device(device: str) -> None:
    """Raise if the device is unavailable.

    Raises:
        UsageError: this machine has no such device.
    """
    if device == "cpu":
        return
    import torch

    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise UsageError(f"device {device!r}: this machine has {count} CUDA devices; ask for cpu")


def _task(name: str, options: Mapping[str, Option]) -> "SampledTask":
    from rulekeep.tasks import TASKS
    from rulekeep.tasks.sampled import SampledTask

    kind: Any = load_task(name)
    if not issubclass(kind, SampledTask):
        drawn = [key for key, known in TASKS.items() if issubclass(known, SampledTask)]
        raise UsageError(
            f"task {name!r}: is a fixed table with a command of its own, rulekeep {name}; "
            f"choose from {', '.join(drawn)}"
        )
    made: SampledTask = build_task(name, kind, kind.options_type.parse_json(options))
    return made


def _long_enough(name: str, task: "SampledTask", **given: tuple[int, ...]) -> None:
    for option, contexts in given.items():
        for context in contexts:
            if context < task.shortest_context:
                raise UsageError(
                    f"{option} {context}: must be {task.shortest_context} or more for {name} "
                    "with these options"
                )


def _source(names: Iterable[str]) -> str:
    """A digest of this package, and of the parts of these names that are outside it."""
    files, texts = dict[Path, None](), list[str]()
    for name in names:
        if (kind := held_class(name)) is not None:
            texts.append(_text_of(name, kind))
        elif (path := plugin_file(name)) is not None:
            files[path] = None
    return sources.digest(files, texts)

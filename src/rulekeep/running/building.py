"""Builds a run from its spec: finds its classes, fills in every option, declares the versions.

    resolved = resolve(RunSpec(mixer="delta", mixer_options={"heads": 8}))
    resolved.spec       # every option filled in
    resolved.id         # of what was asked for and of the declared versions
    resolved.task, resolved.mixers

The process that plans a run resolves its spec before anything is written. The process that makes
it resolves what was planned, and must come to the same id. A run's machine is found here too: its
device, its versions and its processor.
"""

import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rulekeep.executors.local import SLOT
from rulekeep.mixers import MIXERS
from rulekeep.records.identity import PROTOCOL, Identified
from rulekeep.registry import Registry, make, options_of, source_of, version_of
from rulekeep.specs import (
    HYBRID,
    MODEL,
    PUBLISHED_WIDTH,
    AnySpec,
    ArticleCell,
    MixerSpec,
    Option,
    PredictorSpec,
    RunSpec,
    Spec,
    UsageError,
    choose,
    mixer_specs,
    usual,
)
from rulekeep.tasks import TASKS, SampledTask

if TYPE_CHECKING:
    # Only who asks for a mixer loads torch.
    from rulekeep.mixers.base import Mixer
    from rulekeep.running.evaluation import Predictor

PREDICTORS: "Registry[Predictor]" = Registry(
    "predictor", "", {}, base="rulekeep.running.evaluation.Predictor"
)


@dataclass(frozen=True)
class Resolved(Identified[RunSpec]):
    """A run that can be made: its task, and what makes the mixer of each layer."""

    task: SampledTask
    mixers: "tuple[Callable[[], Mixer], ...]"


@dataclass(frozen=True)
class ResolvedPredictor(Identified[PredictorSpec]):
    """An outside model that can be scored: its task and its class."""

    task: SampledTask
    kind: type[Any]


@dataclass(frozen=True)
class ResolvedCell(Identified[ArticleCell]):
    """A cell of the article's experiment; `make` makes the mixer that joins it, if one does."""

    make: "Callable[[], Mixer] | None"


class Mixers(NamedTuple):
    """What makes each layer's mixer, all options, and the `given` ones, which an id counts."""

    makers: "tuple[Callable[[], Mixer], ...]"
    options: dict[str, Option]
    given: dict[str, Option]
    kinds: "dict[str, type[Mixer]]"
    notes: tuple[str, ...]


def resolve(spec: RunSpec) -> Resolved:
    """Find the task and the mixers of a spec, and fill in their options."""
    task = _task(spec.task, spec.task_options)
    _long_enough(task, context=(spec.context,), test_contexts=spec.tested)
    mixers = mixers_of(spec)
    filled = spec.model_copy(
        update={
            "task_options": task.options.model_dump(),
            "mixer_options": mixers.options,
            "hidden": spec.hidden or 4 * spec.width,
            "test_contexts": spec.tested,
        }
    )
    # What a default stands for is held by the version, so that a new option changes no id.
    bare = filled.model_copy(
        update={
            "task_options": task.options.model_dump(exclude_defaults=True),
            "mixer_options": mixers.given,
            "hidden": None if filled.hidden == 4 * spec.width else filled.hidden,
            "test_contexts": () if spec.tested == (spec.context,) else spec.tested,
        }
    )
    versions: dict[str, int | str] = {PROTOCOL: spec.version}
    versions[spec.task] = version_of(spec.task, type(task))
    versions |= {name: version_of(name, mixers.kinds[name]) for name in spec.mixers}
    source = source_of((spec.task, *spec.mixers))
    notes = (*task.notes, *mixers.notes)
    return Resolved(filled, _asked(bare), versions, source, task, mixers.makers, notes=notes)


def resolve_predictor(spec: PredictorSpec) -> ResolvedPredictor:
    """Find an outside model and its task."""
    task = _task(spec.task, spec.task_options)
    _long_enough(task, test_contexts=spec.test_contexts)
    kind = PREDICTORS.find(spec.predictor)
    filled = spec.model_copy(update={"task_options": task.options.model_dump()})
    options = task.options.model_dump(exclude_defaults=True)
    versions = {
        PROTOCOL: spec.version,
        spec.task: version_of(spec.task, type(task)),
        spec.predictor: version_of(spec.predictor, kind),
    }
    asked = _asked(spec.model_copy(update={"task_options": options}))
    source = source_of((spec.task, spec.predictor))
    return ResolvedPredictor(filled, asked, versions, source, task, kind, notes=task.notes)


def resolve_cell(cell: ArticleCell) -> ResolvedCell:
    """Resolve a cell of the article's experiment, with the mixer that joins it, if one does."""
    versions: dict[str, int | str] = {PROTOCOL: cell.version}
    names, maker, notes = list[str](), None, tuple[str, ...]()
    if asked := cell.joining_mixer:
        name, kind = asked.mixer, MIXERS.find(asked.mixer)
        options = mixer_options(name, kind, asked.options)
        maker = mixer_maker(name, kind, PUBLISHED_WIDTH, options)
        names.append(name)
        versions[name] = version_of(name, kind)
        if note := _note_on_penalty(options, cell.steps):
            notes = (f"{kind.__name__}: {note}",)
    return ResolvedCell(cell, _asked(cell), versions, source_of(names), maker, notes=notes)


def _asked(spec: AnySpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude_defaults=True)


def check_device(device: str) -> None:
    """Raise if the device is unavailable."""
    if device == "cpu":
        return
    import torch

    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise UsageError(f"device {device!r}: this machine has {count} CUDA devices; ask for cpu")


def take_gpu(device: str) -> None:
    """Let `cuda` be a GPU of this process's own, where as many run side by side as there are."""
    if device == "cuda":
        import torch

        torch.cuda.set_device(int(os.environ.get(SLOT, 0)) % torch.cuda.device_count())


def prepare_process(threads: int = 1) -> None:
    """The settings of every measured process, whichever mixer it runs.

    Gradients through hundreds of gates become denormal numbers, which a CPU multiplies many times
    more slowly. So denormals are flushed to zero.
    """
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def environment() -> dict[str, Any]:
    """What a figure depends on besides its spec: versions, processor, threads."""
    import torch

    return {
        "rulekeep": version("rulekeep"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "device": "cpu",
        "threads": torch.get_num_threads(),
        **_commit(),
    }


def _commit() -> dict[str, Any]:
    """The commit of this package's source, and whether the source differs from it."""
    here = Path(__file__).parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *arguments],
                capture_output=True, text=True, check=True, timeout=10,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # An installed package may lie inside somebody else's repository: that commit says nothing.
    if git("ls-files", "--error-unmatch", "running/building.py") is None:
        return {"commit": None, "dirty": None}
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "."))}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _task(name: str, options: Mapping[str, Option]) -> SampledTask:
    kind: Any = TASKS.find(name)
    if not issubclass(kind, SampledTask):
        drawn = [key for key, known in TASKS.items() if issubclass(known, SampledTask)]
        raise UsageError(
            f"task {name!r}: is a fixed table with a command of its own, rulekeep {name}; "
            f"choose from {', '.join(drawn)}"
        )
    made: SampledTask = make(f"task {name!r}", kind, kind.options_type.parse(**options))
    return made


def _long_enough(task: SampledTask, **given: tuple[int, ...]) -> None:
    for option, contexts in given.items():
        for context in contexts:
            if context < task.shortest_context:
                raise UsageError(
                    f"{option} {context}: must be {task.shortest_context} or more for {task.name} "
                    "with these options"
                )


def mixers_of(spec: RunSpec) -> Mixers:
    """The mixers of a spec; each is tried once."""
    kinds = {name: MIXERS.find(name) for name in spec.mixers}
    filled = _filled(kinds, spec.mixer_options)
    options, given, notes, makers = dict[str, Option](), dict[str, Option](), [], {}
    for name, kind in kinds.items():
        every, asked = filled[name].model_dump(), filled[name].model_dump(exclude_defaults=True)
        if note := _note_on_penalty(every, spec.steps):
            if "gate_penalty" in asked:
                raise UsageError(f"mixer {name!r}: {note}")
            notes.append(f"{kind.__name__}: {note}")
        makers[name] = mixer_maker(name, kind, spec.width, every)
        before = f"{name}." if len(kinds) > 1 else ""
        options |= {f"{before}{key}": value for key, value in every.items()}
        given |= {f"{before}{key}": value for key, value in asked.items()}
    in_layers = tuple(makers[name] for name in spec.mixers)
    return Mixers(in_layers, options, given, kinds, tuple(notes))


def mixer_options(name: str, kind: type[Any], given: Mapping[str, Option]) -> Mapping[str, Option]:
    """Every option of a mixer class; the given ones are checked."""
    return _filled({name: kind}, given)[name].model_dump()


def _filled(kinds: Mapping[str, type[Any]], given: Mapping[str, Option]) -> dict[str, Spec]:
    """The options of each mixer: `a.key` of mixer a, `key` of each that has it."""
    allowed = {name: options_of(kind) for name, kind in kinds.items()}
    asked: dict[str, dict[str, Option]] = {name: {} for name in kinds}
    # What is said of one mixer holds over what is said of all, wherever it stands.
    for key, value in sorted(given.items(), key=lambda pair: "." in pair[0]):
        of, _, option = key.rpartition(".")
        takers = [n for n in kinds if of in ("", n) and option in allowed[n].model_fields]
        if not takers:
            known = [
                f"{name}.{option}" if len(kinds) > 1 else option
                for name in kinds
                for option in allowed[name].model_fields
            ]
            raise UsageError(f"mixer option {key!r}: there is no such option; {choose(key, known)}")
        for name in takers:
            asked[name][option] = value
    try:
        return {name: allowed[name].parse(**asked[name]) for name in kinds}
    except UsageError as error:
        raise UsageError(f"mixer {HYBRID.join(kinds)!r}: {error}") from None


def _note_on_penalty(options: Mapping[str, Any], steps: int) -> str | None:
    """A note that a training ends before a gate penalty starts; None if it does not."""
    start = options.get("penalty_start", 0)
    if not options.get("gate_penalty") or steps > start:
        return None
    return (
        f"penalty_start {start}: training ends after {steps} steps, so the gate "
        f"penalty never starts; give a penalty_start below {steps}, or gate_penalty=0"
    )


def mixer_maker(
    name: str, kind: type[Any], width: int, options: Mapping[str, Any]
) -> "Callable[[], Mixer]":
    """What makes a mixer of this class; it is tried once."""
    import torch

    from rulekeep.mixers.base import Mixer, Outside

    def maker() -> Mixer:
        made = kind(width, **options)
        return made if isinstance(made, Mixer) else Outside(made)

    with torch.random.fork_rng(devices=[]):
        make(f"mixer {name!r}", maker)
    return maker


def own_options_first(asked: MixerSpec, *, of_runs: tuple[str, ...] = ()) -> MixerSpec:
    """A mixer whose settings become its own options wherever its class has such an option.

    Only the class can tell: `steps` may belong to the run or to the mixer. `of_runs` are the
    settings that are offered beside its own options.
    """
    kinds = [MIXERS.find(name) for name in asked.mixer.split(HYBRID)]
    own = dict.fromkeys(key for kind in kinds for key in options_of(kind).model_fields)
    known = [*own, *of_runs]
    for key in asked.options if of_runs else ():
        if key.rpartition(".")[2] not in known:
            raise UsageError(
                f"mixer {asked.mixer!r}: {key!r}: there is no such option; {choose(key, known)}"
            )
    moved = {key: value for key, value in asked.settings.items() if key in own}
    kept = {key: value for key, value in asked.settings.items() if key not in own}
    return asked._replace(options={**asked.options, **moved}, settings=kept)


def run_spec(values: Mapping[str, Any]) -> RunSpec:
    """The spec of a run with these fields; its mixer may have options in brackets."""
    return RunSpec.parse(**usual(in_brackets(values)))


def in_brackets(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run, those in the brackets of its mixer among them."""
    mixer = values.get("mixer")
    if not isinstance(mixer, str) or "[" not in mixer:
        return dict(values)
    asked, *others = mixer_specs(mixer)
    if others:
        raise UsageError(f"mixer {mixer!r}: name one")
    asked, given = own_options_first(asked, of_runs=MODEL), values.get("mixer_options") or {}
    for name in (*(asked.options.keys() & given.keys()), *(asked.settings.keys() & values.keys())):
        raise UsageError(f"mixer {mixer!r}: {name} is given twice; give it once")
    options = {**asked.options, **given}
    return {**values, "mixer": asked.mixer, "mixer_options": options, **asked.settings}


def asked_mixer(
    mixer: str, options: Mapping[str, Option]
) -> "tuple[type[Mixer], Mapping[str, Option]]":
    """The class of a mixer, and its options, some of them in brackets."""
    values = in_brackets({"mixer": mixer, "mixer_options": options})
    for name in values.keys() - {"mixer", "mixer_options"}:
        raise UsageError(f"mixer {mixer!r}: {name} is no option of it; leave it out")
    return MIXERS.find(values["mixer"]), values["mixer_options"]

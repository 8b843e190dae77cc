"""The trained model of a finished run: from its kept weights, or trained again.

Its figures are compared with the last evaluation in the record. Other code, another processor or
another torch may give other bits; then a line says so.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rulekeep.records.identity import differing
from rulekeep.records.store import CorruptRecordError, Record, RunFolder, read_record
from rulekeep.running import costs
from rulekeep.running.building import Resolved, check_device, resolve
from rulekeep.running.model import LanguageModel
from rulekeep.running.model_figures import is_defined, validate
from rulekeep.running.training import Step, build, train_model
from rulekeep.running.weights import (
    WeightsError,
    digest,
    load_weights,
    save_weights,
    shapes,
    weights_of,
)
from rulekeep.specs import RunSpec, UsageError

# What the record says of each figure, and what the model gives now.
Differences: TypeAlias = dict[str, tuple[float | None, float | None]]


class Trained(NamedTuple):
    """The model of a finished run; figures that differ from its record; notes."""

    model: LanguageModel
    step: int
    differences: Differences
    notes: list[str]


def resolve_done(folder: RunFolder, record: Record) -> Resolved:
    """The parts of a finished run, in the folder and process settings in which it was made.

    Raises:
        UsageError: they cannot be had here, or are of another version.
    """
    _go_where_it_was_planned(folder)
    resolved = resolve(_asked(record))
    if others := differing(record.versions, resolved.versions):
        raise UsageError(f"run {record.id}: it was made with {others}; make the run again")
    check_device(resolved.spec.device)
    costs.prepare_process(resolved.spec.threads)
    return resolved


def check_length(resolved: Resolved, context: int) -> None:
    """Raise if the model of a run cannot read texts of this length, in tokens.

    Raises:
        UsageError: it cannot.
    """
    spec, shortest = resolved.spec, resolved.task.shortest_context
    if context < shortest:
        raise UsageError(
            f"--contexts {context}: must be {shortest} or more for {spec.task} with the run's "
            "options"
        )
    if not is_defined(spec, context):
        raise UsageError(
            f"--contexts {context}: learned positions end at {spec.context}; give a shorter one"
        )


def trained_model(
    folder: RunFolder, record: Record, resolved: Resolved, progress: Callable[[int], None]
) -> Trained:
    """The model of a finished run; if it is trained again, its weights are kept.

    `progress` is called with every training step, if there is any.

    Raises:
        DivergedError: it diverged this time.
    """
    notes: list[str] = []
    try:
        return kept_model(folder, record, resolved)
    except FileNotFoundError:
        pass
    except (OSError, WeightsError) as error:
        notes.append(f"{error}: trained again")
    step = _last_step(record)
    model = build(resolved).to(resolved.spec.device)
    as_made = shapes(model.state_dict())
    last = _train(model, resolved, step, progress)
    differences = _differences(record, {"train_loss": last.loss, **validate(model, resolved)})
    _keep(folder, record, model, as_made, step, notes)
    return Trained(model, step, differences, [*notes, *_said(differences)])


def kept_model(folder: RunFolder, record: Record, resolved: Resolved) -> Trained:
    """The model of a run from its kept weights.

    Raises:
        FileNotFoundError: none were kept.
        WeightsError: they are damaged, or of another run.
    """
    step = _last_step(record)
    model = build(resolved)
    load_weights(folder.weights, model, run=record.id, step=step, sha256=record.weights)
    model = model.to(resolved.spec.device)
    differences = _differences(record, validate(model, resolved))
    return Trained(model, step, differences, _said(differences))


def _asked(record: Record) -> RunSpec:
    spec = record.spec.parsed()
    if not isinstance(spec, RunSpec):
        raise UsageError(f"run {record.id}: trained no mixer of rulekeep run or sweep")
    return spec


def _last_step(record: Record) -> int:
    return int(record.history[-1]["step"])


def _train(
    model: LanguageModel, resolved: Resolved, steps: int, progress: Callable[[int], None]
) -> Step:
    # What a run does between its steps changes none of them.
    for step in train_model(resolved, model):
        progress(step.number)
        if step.number == steps:
            return step
    raise AssertionError("a record has no more steps than its spec")


def _keep(
    folder: RunFolder, record: Record, model: LanguageModel, as_made: Mapping[str, Any], step: int,
    notes: list[str],
) -> None:  # fmt: skip
    try:
        own = weights_of(model)
        if shapes(own) != as_made:
            raise WeightsError("a layer lengthens a buffer as it reads; make it persistent=False")
        # What the record is of, if it says so, or nothing.
        if record.weights not in (None, digest(own)):
            raise WeightsError("trained again, they are not those of the record")
        save_weights(folder.weights, model, run=record.id, step=step)
    except (OSError, WeightsError) as error:
        notes.append(f"weights could not be kept: {getattr(error, 'strerror', None) or error}")


def _differences(record: Record, figures: Mapping[str, Any]) -> Differences:
    recorded = record.history[-1]
    return {
        name: (recorded[name], figure)
        for name, figure in figures.items()
        if name in recorded and recorded[name] != figure
    }


def _said(differences: Differences) -> list[str]:
    if not differences:
        return []
    pairs = ", ".join(
        f"{name} {_number(before)}, now {_number(now)}"
        for name, (before, now) in differences.items()
    )
    return [
        "figures are not those of the record to the bit, as with other code, another processor or "
        f"version: {pairs}"
    ]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _go_where_it_was_planned(folder: RunFolder) -> None:
    """Change to the folder in which the run was planned: plug-ins are named from there."""
    try:
        place = Path(read_record(folder.plan)["working_folder"])
    except (OSError, CorruptRecordError, KeyError):
        return
    if place.is_dir():
        os.chdir(place)

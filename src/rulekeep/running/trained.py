"""The trained model of a finished run: from its kept weights, or trained again.

Its figures are compared with the last evaluation in the record. Other code, another processor or
another torch may give other bits; then a line says so.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

from rulekeep.records.identity import differing
from rulekeep.records.store import CorruptRecordError, Record, RunFolder, read_record
from rulekeep.running.building import Resolved, check_device, prepare_process, resolve
from rulekeep.running.model import LanguageModel
from rulekeep.running.model_figures import is_defined, validate
from rulekeep.running.training import build, train_model
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
    """The parts of a finished run, in the folder and process settings in which it was made."""
    # Plug-ins are named from the folder in which it was planned, where that is there still.
    with suppress(OSError, CorruptRecordError, KeyError):
        os.chdir(read_record(folder.plan)["working_folder"])
    spec = record.spec.parsed()
    if not isinstance(spec, RunSpec):
        raise UsageError(f"run {record.id}: trained no mixer of rulekeep run or sweep")
    resolved = resolve(spec)
    if others := differing(record.versions, resolved.versions):
        raise UsageError(f"run {record.id}: it was made with {others}; make the run again")
    check_device(resolved.spec.device)
    prepare_process(resolved.spec.threads)
    return resolved


def check_length(resolved: Resolved, context: int) -> None:
    """Raise if the model of a run cannot read texts of this length, in tokens."""
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


def kept_model(folder: RunFolder, record: Record, resolved: Resolved) -> Trained:
    """The model of a run from its kept weights.

    Raises:
        FileNotFoundError: none were kept.
        WeightsError: they are damaged, or of another run.
    """
    model = build(resolved)
    step = int(record.history[-1]["step"])
    load_weights(folder.weights, model, run=record.id, step=step, sha256=record.weights)
    model = model.to(resolved.spec.device)
    return _compared(model, record, validate(model, resolved))


def trained_model(
    folder: RunFolder, record: Record, resolved: Resolved, progress: Callable[[int], None]
) -> Trained:
    """The model of a finished run; if it is trained again, its weights are kept.

    `progress` is called with every training step, if there is any.
    """
    notes: list[str] = []
    try:
        return kept_model(folder, record, resolved)
    except FileNotFoundError:
        pass
    except (OSError, WeightsError) as error:
        notes.append(f"{error}: trained again")
    model = build(resolved).to(resolved.spec.device)
    as_made = shapes(model.state_dict())
    # What a run does between its steps changes none of them.
    for step in train_model(resolved, model):
        progress(step.number)
        if step.number == record.history[-1]["step"]:
            break
    made = _compared(model, record, {"train_loss": step.loss, **validate(model, resolved)})
    try:
        own = weights_of(model)
        if shapes(own) != as_made:
            raise WeightsError("a layer lengthens a buffer as it reads; make it persistent=False")
        # What the record is of, if it says so, or nothing.
        if record.weights not in (None, digest(own)):
            raise WeightsError("trained again, they are not those of the record")
        save_weights(folder.weights, model, run=record.id, step=step.number)
    except (OSError, WeightsError) as error:
        notes.append(f"weights could not be kept: {getattr(error, 'strerror', None) or error}")
    return made._replace(notes=[*notes, *made.notes])


def _compared(model: LanguageModel, record: Record, figures: Mapping[str, Any]) -> Trained:
    """A model beside the last evaluation of its record."""
    last, notes = record.history[-1], list[str]()
    differences: Differences = {
        name: (last[name], figure)
        for name, figure in figures.items()
        if name in last and last[name] != figure
    }
    if differences:
        pairs = ", ".join(
            f"{name} {before or 0:.6g}, now {'none' if now is None else f'{now:.6g}'}"
            for name, (before, now) in differences.items()
        )
        notes.append(
            "figures are not those of the record to the bit, as with other code, another "
            f"processor or version: {pairs}"
        )
    return Trained(model, int(last["step"]), differences, notes)

"""One spec, one record. Read this first.

    resolve ─ build ─ train ─┬─ every 25 steps: validation ─ history
                             └─ at the end: validation and test, once ─ evaluations, weights

`training` has a training step, `model_figures` has what is scored and measured.
"""

import hashlib
import io
import json
import time
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from rulekeep.executors.base import Log, Progress
from rulekeep.records.record import how_ended
from rulekeep.records.store import RunFolder, Values, set_aside, write_bytes
from rulekeep.running.building import Resolved, environment, prepare_process
from rulekeep.running.costs import peak_memory_bytes
from rulekeep.running.model import LanguageModel
from rulekeep.running.model_figures import (
    evaluations,
    history_row,
    is_defined,
    model_costs,
    validate,
)
from rulekeep.running.training import (
    DivergedError,
    Step,
    build,
    optimizer_of,
    tokens_per_second,
    train_model,
)
from rulekeep.running.weights import WeightsError, save_weights, shapes

SOLVED = 0.995
CHECKPOINT_SECONDS = 20.0
# Characters of the hash of a checkpoint, at its beginning.
_HASH = 64


class Checkpoint(NamedTuple):
    """What is known after a step; `step` is None at the start."""

    step: Step | None
    history: list[dict[str, Any]]
    steps_to_solve: int | None


def run(resolved: Resolved, folder: RunFolder, progress: Progress, log: Log) -> Values:
    """Run a spec, from its last checkpoint if there is one.

    `progress` is called with every step, `log` with the figures of every evaluation.

    Raises:
        MixerError: the mixer breaks its contract.
    """
    spec, notes = resolved.spec, [*resolved.notes]
    prepare_process(spec.threads)
    # They are of a record that is gone.
    folder.weights.unlink(missing_ok=True)
    model = build(resolved).to(spec.device)
    (last, history, solved), diverged = _train(model, resolved, folder, notes, progress, log)
    rows = []
    if diverged is None:
        rows = evaluations(model, resolved)
        notes += [
            f"test at {context}: not defined, learned positions end at {spec.context}"
            for context in spec.tested
            if not is_defined(spec, context)
        ]
    return {
        **({"status": "diverged", "reason": diverged} if diverged else how_ended(rows)),
        "spec": spec.model_dump(mode="json"),
        "source": resolved.source,
        "history": history,
        "evaluations": rows,
        "costs": {
            "train_seconds": last.train_seconds if last else 0.0,
            "steps": last.number if last else 0,
            "steps_to_solve": solved,
            "tokens_per_second": tokens_per_second(resolved, last) if last else None,
            **model_costs(model, resolved),
            "peak_memory_bytes": peak_memory_bytes(),
        },
        "environment": {**environment(), "device": spec.device},
        "weights": _keep(model, folder, last.number, notes) if last and not diverged else None,
        "notes": notes,
    }


def _train(
    model: LanguageModel, resolved: Resolved, folder: RunFolder, notes: list[str],
    progress: Progress, log: Log,
) -> tuple[Checkpoint, str | None]:  # fmt: skip
    """The state at the end of training, and why it diverged, if it did."""
    spec = resolved.spec
    optimizer = optimizer_of(model, spec.training)
    known = load_checkpoint(folder, model, optimizer, notes)
    saved = time.monotonic()
    try:
        for step in train_model(resolved, model, optimizer=optimizer, after=known.step):
            known = known._replace(step=step)
            progress(step.number)
            if step.number % spec.evaluate_every == 0 or step.number in (1, spec.steps):
                scores = validate(model, resolved)
                known.history.append(history_row(step, scores))
                log(step.number, {k: v for k, v in known.history[-1].items() if v is not None})
                if known.steps_to_solve is None and (scores["exact"] or 0) >= SOLVED:
                    known = known._replace(steps_to_solve=step.number)
                    if spec.stop_when_solved:
                        break
            if time.monotonic() - saved > CHECKPOINT_SECONDS and step.number < spec.steps:
                save_checkpoint(folder, known, model, optimizer, notes)
                saved = time.monotonic()
    except DivergedError as error:
        return known, str(error)
    return known, None


def _keep(model: LanguageModel, folder: RunFolder, step: int, notes: list[str]) -> str | None:
    """Keep the weights in the run's folder, unless told not to; their hash, if they are kept."""
    if not folder.keeps_weights:
        return None
    try:
        return save_weights(folder.weights, model, run=folder.id, step=step)
    except (OSError, WeightsError) as error:
        notes.append(f"its weights were not kept: {getattr(error, 'strerror', None) or error}")
        return None


def save_checkpoint(
    folder: RunFolder, checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer,
    notes: list[str],
) -> None:  # fmt: skip
    """Write weights, optimiser and history in one file; a full disk costs only the checkpoint.

    The file is a SHA-256 in hexadecimal, then the output of `torch.save`.
    """
    body = io.BytesIO()
    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({"about": json.dumps(checkpoint), **states}, body)
    digest = hashlib.sha256(body.getbuffer()).hexdigest()
    try:
        write_bytes(folder.checkpoint, digest.encode() + body.getvalue())
    except OSError as error:
        note = f"a checkpoint could not be written: {error.strerror}"
        if note not in notes:
            notes.append(note)


def load_checkpoint(
    folder: RunFolder, model: nn.Module, optimizer: Optimizer, notes: list[str]
) -> Checkpoint:
    """Restore model and optimiser from the last checkpoint, if there is a whole one.

    One that does not match its hash, or holds anything but tensors and plain values, is set aside
    and never executed.
    """
    start = Checkpoint(None, [], None)
    if not folder.checkpoint.exists():
        return start
    try:
        content = folder.checkpoint.read_bytes()
        digest, body = content[:_HASH], content[_HASH:]
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise ValueError("its hash does not match its content")
        state = torch.load(io.BytesIO(body), weights_only=True)
        step, history, solved = json.loads(state["about"])
        found = Checkpoint(Step(*step), history, solved)
        # All or nothing: what fits in part must not leave the model half changed.
        if shapes(model.state_dict()) != shapes(state["model"]):
            raise ValueError("it is of another model")
        optimizer.load_state_dict(state["optimizer"])
        model.load_state_dict(state["model"])
    # Whatever is wrong with it, the run can start anew.
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        aside = set_aside(folder.checkpoint)
        notes.append(f"checkpoint not usable ({said}): {aside}, begun anew")
        return start
    return found

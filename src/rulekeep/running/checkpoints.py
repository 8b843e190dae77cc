"""Checkpoints: weights, optimiser and history after a step, in one file.

The file is a SHA-256 in hexadecimal, then the output of `torch.save`. A file that does not match
its hash, or holds anything but tensors and plain values, is set aside and never executed.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from rulekeep.records.store import RunFolder, set_aside, write_bytes
from rulekeep.running.training import Step
from rulekeep.running.weights import shapes

_HASH = 64


class Checkpoint(NamedTuple):
    """What is known after a step; `step` is None at the start."""

    step: Step | None
    history: list[dict[str, Any]]
    steps_to_solve: int | None


def save_checkpoint(
    folder: RunFolder,
    checkpoint: Checkpoint,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    notes: list[str],
) -> None:
    """Write a checkpoint, whole or not at all; a full disk costs only the checkpoint."""
    values = {
        "about": json.dumps(checkpoint),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    body = io.BytesIO()
    torch.save(values, body)
    digest = hashlib.sha256(body.getbuffer()).hexdigest()
    content = digest.encode() + body.getvalue()
    try:
        write_bytes(folder.checkpoint, content)
    except OSError as error:
        note = f"a checkpoint could not be written: {error.strerror}"
        if note not in notes:
            notes.append(note)


def load_checkpoint(
    folder: RunFolder, model: nn.Module, optimizer: torch.optim.Optimizer, notes: list[str]
) -> Checkpoint:
    """Restore model and optimiser from the last checkpoint, if there is a whole one."""
    start = Checkpoint(None, [], None)
    if not folder.checkpoint.exists():
        return start
    try:
        state = _read(folder.checkpoint)
        step, history, solved = json.loads(state["about"])
        found = Checkpoint(Step(*step), history, solved)
        _load_all(state, model, optimizer)
    # Whatever is wrong with it, the run can start anew.
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        aside = set_aside(folder.checkpoint)
        notes.append(f"checkpoint not usable ({said}): {aside}, begun anew")
        return start
    return found


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    digest, body = content[:_HASH], content[_HASH:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("its hash does not match its content")
    state: dict[str, Any] = torch.load(io.BytesIO(body), weights_only=True)
    return state


def _load_all(state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    # All or nothing: what fits in part must not leave the model half changed.
    if shapes(model.state_dict()) != shapes(state["model"]):
        raise ValueError("it is of another model")
    optimizer.load_state_dict(state["optimizer"])
    model.load_state_dict(state["model"])

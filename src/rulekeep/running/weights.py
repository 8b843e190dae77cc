"""The weights of a trained model beside its record, in safetensors: numbers, and no code.

saved = save_weights(folder.weights, model, run=folder.id, step=600)      # their SHA-256
load_weights(folder.weights, model, run=folder.id, step=600, sha256=saved)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from rulekeep.records import weights as records
from rulekeep.records.pack import CorruptRecordError
from rulekeep.records.store import write_bytes
from rulekeep.records.weights import check_weights


class WeightsError(ValueError):
    """Weights that are not those asked for, or that cannot be kept; the message says why."""


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of everything in the state dictionary of a model."""
    found = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise WeightsError(f"{name} is a {type(value).__name__}, and a file holds tensors only")
        # A copy each: tensors that share their memory cannot be written.
        found[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return found


def shapes(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of each part of a state dictionary; None of extra state, which may be anything."""
    return {name: getattr(part, "shape", None) for name, part in parts.items()}


def save_weights(path: Path, model: nn.Module, *, run: str, step: int) -> str:
    """Write the weights of a model, whole or not at all; their SHA-256.

    Raises:
        OSError: they cannot be written.
        WeightsError: a file cannot hold them.
    """
    weights = weights_of(model)
    try:
        sha256 = digest(weights)
        content = save(weights, {"run": run, "step": str(step), "sha256": sha256})
    # A type that the format has not.
    except (KeyError, ValueError, SafetensorError) as error:
        raise WeightsError(" ".join(str(error).split())[:200]) from None
    write_bytes(path, content)
    return sha256


def load_weights(
    path: Path, model: nn.Module, *, run: str, step: int, sha256: str | None = None
) -> None:
    """Load the weights of a run after a step into a model; `sha256` is the one in its record.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: they are damaged, or of another run or model; the model stays as it was.
    """
    try:
        content, said = check_weights(path, sha256)
    except CorruptRecordError as error:
        raise WeightsError(str(error)) from None
    if said.get("run") != run or said.get("step") != str(step):
        of = f"run {said.get('run', 'unknown')[:40]!a} after {said.get('step', '?')[:20]!a}"
        raise WeightsError(f"{path.name}: of {of} steps, not of {run!a} after {step}")
    weights = load(content)
    if shapes(weights) != shapes(model.state_dict()):
        raise WeightsError(f"{path.name}: does not fit the model in the run's spec")
    model.load_state_dict(weights)


def digest(weights: Mapping[str, Tensor]) -> str:
    """A SHA-256 of named tensors: that of a file of them."""
    return records.digest(save(dict(weights)))

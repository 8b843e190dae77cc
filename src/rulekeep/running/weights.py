"""The weights of a trained model beside its record, in safetensors: numbers, and no code.

    saved = save_weights(folder.weights, model, run=folder.id, step=600)      # their SHA-256
    load_weights(folder.weights, model, run=folder.id, step=600, sha256=saved)

The hash covers names, types, shapes and numbers. The same weights have the same hash, whatever else
the file holds. It stands in the file and in the record of the run.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from rulekeep.records.store import write_bytes
from rulekeep.specs import UsageError


class WeightsError(ValueError):
    """Weights that are not those asked for, or that cannot be kept; the message says why."""


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of everything in the state dictionary of a model.

    Raises:
        WeightsError: something in it is no tensor.
    """
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
    sha256 = digest(weights)
    try:
        content = save(weights, {"run": run, "step": str(step), "sha256": sha256})
    # A type that the format has not.
    except (KeyError, ValueError, SafetensorError) as error:
        raise WeightsError(_line(error)) from None
    write_bytes(path, content)
    return sha256


def load_weights(
    path: Path, model: nn.Module, *, run: str, step: int, sha256: str | None = None
) -> None:
    """Load the weights of a run after a step into a model; `sha256` is the one in its record.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: they are damaged, or of another run or model; the model stays as it was.
        UsageError: the path is no UTF-8, which safetensors needs.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{str(path.parent)!a}: is no UTF-8; rename the folder to read weights in it"
        ) from None
    # A named pipe would be waited for in vain.
    if path.exists() and not path.is_file():
        raise WeightsError(f"{path.name}: not a file")
    try:
        with safe_open(path, framework="pt") as file:
            said: Mapping[str, str] = file.metadata() or {}
            if said.get("run") != run or said.get("step") != str(step):
                of = f"run {said.get('run', 'unknown')[:40]!a} after {said.get('step', '?')[:20]!a}"
                raise WeightsError(f"{path.name}: of {of} steps, not of {run!a} after {step}")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OverflowError, ValueError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path.name}: damaged ({_line(error)})") from None
    found = digest(weights)
    if found != said.get("sha256"):
        raise WeightsError(f"{path.name}: damaged (its hash does not match its content)")
    if sha256 is not None and found != sha256:
        raise WeightsError(f"{path.name}: its hash is not the one in the record")
    if shapes(weights) != shapes(model.state_dict()):
        raise WeightsError(f"{path.name}: does not fit the model in the run's spec")
    model.load_state_dict(weights)


def digest(weights: Mapping[str, Tensor]) -> str:
    """A SHA-256 of named tensors, in the order of their names."""
    total = hashlib.sha256()
    for name, value in sorted(weights.items()):
        total.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

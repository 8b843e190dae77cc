"""The trained model of a run, which keeps a record and no weights: trained again, to the bit.

What comes is held against the record's last look at dev: another processor or version gives other
bits. The weights are kept beside the record, so that a second call trains nothing.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from rulekeep import run as running
from rulekeep.checkpoints import read_tensors, tensors_as_bytes
from rulekeep.model import LanguageModel
from rulekeep.resolving import Resolved
from rulekeep.store import Record, RunFolder, write_bytes
from rulekeep.training import Step, train

WEIGHTS = "explain.weights"
# The clock's, not the model's.
_TIMES = ("train_seconds",)


class Remade(NamedTuple):
    """A run's model, after as many steps as the run had, and what its record says otherwise."""

    model: LanguageModel
    step: int
    differences: dict[str, tuple[float | None, float | None]]
    notes: list[str]


def remade(
    folder: RunFolder, record: Record, resolved: Resolved, progress: Callable[[int], None]
) -> Remade:
    """The model of a run that is done, from kept weights or trained again.

    Raises:
        DivergedError: it diverged this time.
    """
    recorded = record.history[-1]
    made = Remade(running.build(resolved).to(resolved.spec.device), int(recorded["step"]), {}, [])
    about = {"run": record.id, "source": resolved.source, "step": made.step}
    row = _kept(folder, about, made)
    if row is None:
        row = trained(made.model, resolved, made.step, progress)
        content = {"about": about, "row": row, "model": made.model.state_dict()}
        try:
            write_bytes(folder.path / WEIGHTS, tensors_as_bytes(content))
        except OSError as error:
            made.notes.append(f"weights could not be kept: {error.strerror}")
    for name in recorded:
        if name not in _TIMES and recorded[name] != row.get(name):
            made.differences[name] = (recorded[name], row.get(name))
    if made.differences:
        said = ", ".join(
            f"{k} {_said(a)}, now {_said(b)}" for k, (a, b) in made.differences.items()
        )
        made.notes.append(
            f"not the recorded model to the bit, as on another processor or version: {said}"
        )
    return made


def trained(
    model: LanguageModel, resolved: Resolved, steps: int, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Trains a model as its run was, and looks at dev once, at the end: the row of its history."""
    spec = resolved.spec
    # The very steps of a run, from run.py; looks at dev in between change nothing.
    optimizer = running._adamw(model, spec.training)
    loss, batches = running._loss(model, spec), running._batches(resolved, None)
    last: Step | None = None
    for step in train(model, loss, batches, spec.training, optimizer=optimizer):
        last = step
        progress(step.number)
        if step.number == steps:
            break
    assert last is not None, "a run has a step"
    look = running._look(model, resolved, "dev", spec.context, spec.dev_examples)
    return running._history_row(last, look)


def _kept(folder: RunFolder, about: dict[str, Any], made: Remade) -> dict[str, Any] | None:
    """The row of weights that were kept, once they are in the model; None if there are none."""
    path = folder.path / WEIGHTS
    if not path.exists():
        return None
    try:
        content = read_tensors(path)
        # Of other code: no fault, but not this model.
        if content["about"] != about:
            return None
        made.model.load_state_dict(content["model"])
        row: dict[str, Any] = content["row"]
        return row
    except MemoryError:
        raise
    # Whatever is wrong with it, the run can be trained again.
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        made.notes.append(f"{WEIGHTS} not usable ({said}): trained again")
        with suppress(OSError):
            path.unlink()
        return None


def _said(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"

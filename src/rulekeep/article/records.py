"""What the article's tables read of a record: checked once, relied on after.

Pure reading: torch is not loaded here.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rulekeep.printable import one_line
from rulekeep.records import Record
from rulekeep.specs import ArticleCell, UsageError

_SHARES = ("token_accuracy", "rule_accuracy", "item_accuracy", "retention", "exact",
           "second_mention_accuracy")  # fmt: skip
_SCORES = ("val_loss", *_SHARES)
_LOOK = ("step", "train_loss", "train_seconds", "elapsed_seconds", *_SCORES)
_COSTS = ("train_seconds", "steps", "parameters", "peak_memory_bytes")
_ENVIRONMENT = ("rulekeep", "python", "torch", "cpu", "cpu_capability", "device", "threads")


def flaw(record: Record, cell: ArticleCell) -> str | None:
    """What is wrong inside a cell's finished record, in one line; None if nothing is."""
    try:
        is_of_cell = record.spec.parsed() == cell
    except UsageError as error:
        return f"spec: {error}"
    if not is_of_cell:
        return "spec: it is of another cell"
    if lacking := [name for name in _COSTS if not record.costs.get(name, -1.0) >= 0]:
        return f"costs.{lacking[0]}: none"
    if cell.context not in record.state_bytes:
        return f"costs.state_bytes: none at {cell.context}"
    if lacking := [name for name in _ENVIRONMENT if not record.environment.get(name)]:
        return f"environment.{lacking[0]}: none"
    if not record.environment["threads"].isdecimal():
        return f"environment.threads: {record.environment['threads']}, no whole number"
    if record.status == "diverged":
        return None
    if not record.predictions:
        return "predictions: none"
    if not record.history or record.history[-1].get("step") != cell.steps:
        return f"history: it does not end at step {cell.steps}"
    for place, look in enumerate(record.history):
        if wrong := _odd(look, _LOOK):
            return f"history.{place}.{wrong}"
    if [row.context for row in record.evaluations] != [cell.context]:
        return f"evaluations: not one at {cell.context}"
    for row in record.evaluations:
        if wrong := _odd(row.figures, (*_SCORES, "n")):
            return f"evaluations.0.{wrong}"
        if row.split != "test":
            return f"evaluations.0.split: {one_line(row.split)}, not test"
    return None if record.costs.get("tokens_per_second") else "costs.tokens_per_second: none"


def _odd(found: Mapping[str, float], names: Iterable[str]) -> str | None:
    """The first of these figures that is none or out of its range."""
    for name in names:
        if name not in found:
            return f"{name}: none"
        if not 0 <= found[name] <= (1 if name in _SHARES else math.inf):
            return f"{name}: {found[name]:g} is out of its range"
    return None


def cell_of(record: Record) -> ArticleCell:
    """The cell that a record is of.

    Raises:
        UsageError: it is of none.
    """
    found = record.spec.parsed()
    if not isinstance(found, ArticleCell):
        raise UsageError(f"run {record.id}: is no cell of rulekeep article")
    return found


def scores(record: Record) -> Mapping[str, float] | None:
    """Loss and scores on the published validation examples; None for a cell that diverged."""
    return record.evaluations[0].figures if record.evaluations else None


def published_history(
    cell: ArticleCell, record: Record, *, with_seed: bool
) -> list[dict[str, Any]]:
    """A cell's evaluations under the keys of the published `history.json`.

    The seed is added where a run has several, since the published file has one only.
    """
    return [
        {
            "benchmark": f"ctx{cell.context}",
            "model": cell.model,
            "step": int(row["step"]),
            "train_loss": row["train_loss"],
            "val_loss": row["val_loss"],
            "val_acc": row["token_accuracy"],
            "rule_acc": row["rule_accuracy"],
            "item_acc": row["item_accuracy"],
            "elapsed_sec": row["elapsed_seconds"],
            **({"seed": cell.seed} if with_seed else {}),
        }
        for row in record.history
    ]


def device_label(records: Iterable[Record]) -> str:
    """What the records were made on, in a few words."""
    labels = set()
    for record in records:
        made = record.environment
        processor = made["cpu"].replace("(R)", "").replace("(TM)", "")
        labels.add(f"{made['device'].upper()}: {processor}, {made['threads']} thread a cell")
    return "; ".join(sorted(labels))

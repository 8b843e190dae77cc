"""The records of an article run: one a finished cell, taken over when the command is repeated.

Pure reading: torch is not loaded here.
"""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rulekeep.specs import ArticleCell
from rulekeep.store import CorruptRecordError, read_record, set_aside

_PACKAGE = Path(__file__).parent.parent
# What a figure comes out of: a record made by other code, or by another torch, than this is
# not taken over.
_SOURCES = (
    "tasks/base.py",
    "tasks/article.py",
    "mixers/base.py",
    "mixers/attention.py",
    "mixers/slots.py",
    "feed_forward.py",
    "training.py",
    "evaluation.py",
    "metrics.py",
    "costs.py",
    "article/models.py",
    "article/streams.py",
    "article/cell.py",
)

Record = dict[str, Any]


class Found(NamedTuple):
    """Records found on disk by cell, and a line for each one that was not taken over."""

    records: dict[ArticleCell, Record]
    notes: list[str]


_Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Scores(_Shape):
    val_loss: float = Field(ge=0)
    token_accuracy: _Share
    rule_accuracy: _Share
    item_accuracy: _Share
    retention: _Share
    second_mention_accuracy: _Share
    exact: _Share


class _Evaluation(_Scores):
    step: int
    train_loss: float
    train_seconds: float
    elapsed_seconds: float


class _Costs(_Shape):
    train_seconds: float = Field(gt=0)
    tokens_per_second: float
    state_bytes: int
    parameters: int
    peak_memory_bytes: int


class _Prediction(_Shape):
    prefix: str
    target: str
    prediction: str


class _Environment(_Shape):
    rulekeep: str
    python: str
    torch: str
    platform: str
    cpu: str
    cpu_capability: str
    cpu_count: int | None
    device: str
    threads: int


class _RecordShape(_Shape):
    cell: dict[str, Any]
    source: str
    history: list[_Evaluation] = Field(min_length=1)
    metrics: _Scores
    costs: _Costs
    predictions: list[_Prediction]
    environment: _Environment


def _source() -> str:
    digest = hashlib.sha256(version("torch").encode())
    for name in _SOURCES:
        digest.update(name.encode() + b"\0" + (_PACKAGE / name).read_bytes() + b"\0")
    return digest.hexdigest()[:12]


SOURCE = _source()


def record_path(folder: Path, cell: ArticleCell) -> Path:
    """Where a cell's record stands."""
    return folder / f"{cell.label}.json"


def finished_cells(folder: Path, cells: Iterable[ArticleCell]) -> Found:
    """The records of these cells that stand in a folder, whole and made by this code.

    A corrupt one is set aside; one made by other code is left to be overwritten.
    """
    found = Found({}, [])
    for cell in cells:
        path = record_path(folder, cell)
        try:
            record = read_record(path)
            _check_shape(path, record, cell)
        except FileNotFoundError:
            continue
        except CorruptRecordError as error:
            aside = set_aside(path)
            found.notes.append(f"{error}: set aside as {aside.name}, run again")
            continue
        if record["source"] != SOURCE:
            found.notes.append(f"{path.name}: made by other code than this, run again")
            continue
        found.records[cell] = record
    return found


def _check_shape(path: Path, record: Record, cell: ArticleCell) -> None:
    try:
        _RecordShape.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise CorruptRecordError(f"{path.name}: {place}: {first['msg'].lower()}") from None
    if record["cell"] != cell.model_dump() or record["history"][-1]["step"] != cell.steps:
        raise CorruptRecordError(f"{path.name}: it holds another cell than its name says")


def published_history(cell: ArticleCell, record: Record, *, with_seed: bool) -> list[Record]:
    """A cell's evaluations under the keys of the published `history.json`.

    The seed is added where a run has several, since the published file has one only.
    """
    return [
        {
            "benchmark": f"ctx{cell.context}",
            "model": cell.model,
            "step": row["step"],
            "train_loss": row["train_loss"],
            "val_loss": row["val_loss"],
            "val_acc": row["token_accuracy"],
            "rule_acc": row["rule_accuracy"],
            "item_acc": row["item_accuracy"],
            "elapsed_sec": row["elapsed_seconds"],
            **({"seed": cell.seed} if with_seed else {}),
        }
        for row in record["history"]
    ]


def device_label(records: Iterable[Record]) -> str:
    """What the records were made on, in a few words."""
    labels = set()
    for record in records:
        made = record["environment"]
        processor = made["cpu"].replace("(R)", "").replace("(TM)", "")
        labels.add(f"{made['device'].upper()}: {processor}, {made['threads']} thread a cell")
    return "; ".join(sorted(labels))

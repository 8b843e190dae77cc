"""What the article's tables read of a record: checked once, relied on after.

Pure reading: torch is not loaded here.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rulekeep.specs import ArticleCell
from rulekeep.store import Record

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


class _Look(_Scores):
    step: int
    train_loss: float
    train_seconds: float
    elapsed_seconds: float


class _Test(_Scores):
    split: Literal["test"]
    context: int
    n: int
    chance: dict[str, _Share]


class _Costs(_Shape):
    train_seconds: float = Field(ge=0)
    steps: int = Field(ge=0)
    tokens_per_second: float | None
    state_bytes: dict[str, int]
    parameters: int
    peak_memory_bytes: int


class _Prediction(_Shape):
    prefix: str
    target: str
    prediction: str


class _Environment(BaseModel):
    # What else is known of a machine is no flaw.
    model_config = ConfigDict(strict=True, extra="ignore")

    rulekeep: str
    python: str
    torch: str
    cpu: str
    cpu_capability: str
    device: str
    threads: int


class _RecordShape(_Shape):
    id: str
    status: Literal["done", "diverged"]
    reason: str | None
    spec: dict[str, Any]
    source: str
    history: list[_Look]
    evaluations: list[_Test]
    costs: _Costs
    predictions: list[_Prediction]
    environment: _Environment
    notes: list[str]
    attempt: int


def flaw(record: Record, cell: ArticleCell) -> str | None:
    """What is wrong inside a cell's finished record, in one line; None if nothing is."""
    try:
        _RecordShape.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
    if record["spec"] != cell.as_recorded:
        return "spec: it is of another cell"
    if str(cell.context) not in record["costs"]["state_bytes"]:
        return f"costs.state_bytes: none at {cell.context}"
    if record["status"] == "diverged":
        return None
    if not record["history"] or record["history"][-1]["step"] != cell.steps:
        return f"history: it does not end at step {cell.steps}"
    if [row["context"] for row in record["evaluations"]] != [cell.context]:
        return f"evaluations: not one at {cell.context}"
    if not record["costs"]["tokens_per_second"]:
        return "costs.tokens_per_second: none"
    return None


def cell_of(record: Record) -> ArticleCell:
    """The cell that a record is of."""
    spec = record["spec"]
    # An earlier version's spec may lack what has come since, always with a default.
    known = ArticleCell.model_fields.keys() & spec.keys()
    return ArticleCell.parse_json({name: spec[name] for name in known})


def scores(record: Record) -> Record | None:
    """Loss and scores on the published validation examples; None for a cell that diverged."""
    evaluations: list[Record] = record["evaluations"]
    return evaluations[0] if evaluations else None


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

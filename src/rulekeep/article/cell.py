"""One cell of the article: replay its streams, train, evaluate, measure, record."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rulekeep.article.records import SOURCE, record_path
from rulekeep.article.streams import BATCH_SIZE, replay
from rulekeep.costs import environment, peak_memory_bytes, prepare_process, state_bytes
from rulekeep.evaluation import answer_loss, evaluate
from rulekeep.specs import ArticleCell, TrainingSpec
from rulekeep.store import write_record
from rulekeep.tasks import Article
from rulekeep.training import train

EVALUATE_EVERY = 25
SHOWN_PREDICTIONS = 5


def run_cell(cell: ArticleCell, folder: Path, progress: Callable[[int], None]) -> dict[str, Any]:
    """Runs a cell and writes its record to `folder`; `progress` hears of every step."""
    prepare_process()
    start = time.perf_counter()
    streams = replay(cell)
    answer = streams.train.answers.shape[1]
    train_tokens = torch.from_numpy(streams.train.tokens)

    def answer_logits(tokens: Tensor) -> Tensor:
        # The last token predicts nothing that is supervised.
        logits: Tensor = streams.model(tokens[:, :-1], last=answer)
        return logits

    def batch_loss(rows: list[int]) -> Tensor:
        batch = train_tokens[rows]
        return answer_loss(answer_logits(batch), batch)

    spec = TrainingSpec(
        steps=cell.steps,
        batch_size=BATCH_SIZE,
        learning_rate=3e-3,
        weight_decay=0.01,
        max_gradient_norm=1.0,
    )
    history = []
    for step in train(streams.model, batch_loss, streams.batches, spec):
        progress(step.number)
        if step.number in (1, cell.steps) or step.number % EVALUATE_EVERY == 0:
            evaluation = evaluate(answer_logits, streams.validation, BATCH_SIZE)
            history.append(
                {
                    "step": step.number,
                    "train_loss": step.loss,
                    "val_loss": evaluation.loss,
                    **evaluation.scores.as_dict(),
                    "train_seconds": step.train_seconds,
                    "elapsed_seconds": time.perf_counter() - start,
                }
            )
    one_sequence = torch.from_numpy(streams.validation.tokens[:1])
    with torch.no_grad():
        states = streams.model.states(one_sequence)
    record = {
        "cell": cell.model_dump(),
        "source": SOURCE,
        "history": history,
        "metrics": {"val_loss": evaluation.loss, **evaluation.scores.as_dict()},
        "costs": {
            "train_seconds": step.train_seconds,
            "tokens_per_second": cell.steps * BATCH_SIZE * cell.context / step.train_seconds,
            "state_bytes": state_bytes(states),
            "parameters": sum(parameter.numel() for parameter in streams.model.parameters()),
            "peak_memory_bytes": peak_memory_bytes(),
        },
        "predictions": _shown(
            streams.validation.tokens, streams.validation.answer_start, evaluation.predictions
        ),
        "environment": environment(),
    }
    write_record(record_path(folder, cell), record)
    return record


def _shown(tokens: np.ndarray, answer_start: int, predictions: np.ndarray) -> list[dict[str, str]]:
    words = Article().words
    return [
        {
            "prefix": words(row[:answer_start]),
            "target": words(row[answer_start:]),
            "prediction": words(predicted),
        }
        for row, predicted in zip(
            tokens[:SHOWN_PREDICTIONS], predictions[:SHOWN_PREDICTIONS], strict=True
        )
    ]

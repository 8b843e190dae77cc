"""One cell of the article: replay its streams, train, evaluate, measure, record.

    spec ─ replay ─ model ─ train ─ every 25 steps: validation ─ history
                                  └ at the end: the same, as the test split ─ evaluations

The article evaluates on one set of examples only: for its curves and as its test.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rulekeep.article.models import ArticleModel
from rulekeep.article.scores import article_scores
from rulekeep.article.streams import replay
from rulekeep.executors.base import Log, Progress
from rulekeep.records.store import RunFolder, Values
from rulekeep.running.building import ResolvedCell, environment, prepare_process
from rulekeep.running.causality import AnswerCheck, causality_error
from rulekeep.running.costs import peak_memory_bytes, state_bytes
from rulekeep.running.evaluation import answering
from rulekeep.running.training import DivergedError, Step, answer_loss, train
from rulekeep.specs import ArticleCell
from rulekeep.tasks.sampled import Sample

EVALUATE_EVERY = 25


def run(resolved: ResolvedCell, _folder: RunFolder, progress: Progress, log: Log) -> Values:
    """Run a cell; its record.

    `progress` is called with every step, `log` with the figures of every evaluation.

    The folder stays unchanged: a cell takes a minute, and starts again if it is interrupted.
    """
    prepare_process()
    start, cell, spec = time.perf_counter(), resolved.spec, resolved.spec.training
    streams = replay(cell)
    answer = streams.train.answers.shape[1]
    model = streams.model.to(cell.device)
    train_tokens = torch.from_numpy(streams.train.tokens).to(cell.device)

    def answer_logits(tokens: Tensor) -> Tensor:
        # The last token predicts nothing that is supervised.
        logits: Tensor = model(tokens[:, :-1].to(cell.device), last=answer)
        return logits

    def batch_loss(rows: list[int]) -> Tensor:
        batch = train_tokens[rows]
        return answer_loss(answer_logits(batch), batch)

    history: list[dict[str, Any]] = []
    last: Step | None = None
    test: dict[str, Any] = {}
    status, reason = "done", None
    try:
        for last in train(model, batch_loss, streams.batches, spec):
            progress(last.number)
            if last.number in (1, cell.steps) or last.number % EVALUATE_EVERY == 0:
                with answering(model):
                    test = evaluate(answer_logits, streams.validation, spec.batch_size)
                if not np.isfinite(test["val_loss"]):
                    raise DivergedError("validation loss", last.number, last.loss)
                row = {"step": last.number, "train_loss": last.loss, **test}
                del row["chance"]
                row |= {
                    "train_seconds": last.train_seconds,
                    "elapsed_seconds": time.perf_counter() - start,
                }
                history.append(row)
                log(last.number, row)
    except DivergedError as error:
        status, reason, test = "diverged", str(error), {}
    first = torch.from_numpy(streams.validation.tokens[: spec.batch_size]).to(cell.device)
    if cell.joining_mixer is not None and test:
        # One batch, as it was scored: a mixer from elsewhere may see what follows.
        _check_causality(cell, model, first, answer_logits)
    with torch.no_grad():
        states = model.states(first[:1])
    tokens = last.number * spec.batch_size * cell.context if last else 0
    of_test = {"split": "test", "context": cell.context, "n": len(streams.validation.tokens)}
    return {
        "status": status,
        "reason": reason,
        "spec": cell.as_recorded,
        "source": resolved.source,
        "history": history,
        "evaluations": [{**of_test, **test}] if test else [],
        "costs": {
            "train_seconds": last.train_seconds if last else 0.0,
            "steps": last.number if last else 0,
            "tokens_per_second": tokens / last.train_seconds if last else None,
            "state_bytes": {str(cell.context): state_bytes(states)},
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "peak_memory_bytes": peak_memory_bytes(),
        },
        "environment": {**environment(), "device": cell.device},
        "notes": list(resolved.notes),
    }


@torch.no_grad()
def evaluate(
    answer_logits: Callable[[Int[Tensor, "batch context"]], Float[Tensor, "batch answer v"]],
    sample: Sample,
    batch_size: int,
) -> dict[str, Any]:
    """Scores a predictor as the article does, teacher-forced, the examples taken in order.

    `answer_logits` maps whole sequences to the logits of their answer tokens, each predicted from
    the tokens before it. `val_loss` is the mean over batches, in nats per supervised token.
    """
    losses, predictions = [], []
    for batch in torch.from_numpy(sample.tokens).split(batch_size):
        logits = answer_logits(batch).cpu()
        losses.append(answer_loss(logits, batch).item())
        predictions.append(logits.argmax(dim=-1).numpy())
    scores = article_scores(np.concatenate(predictions), sample)
    return {"val_loss": float(np.mean(losses)), **scores}


def _check_causality(
    cell: ArticleCell, model: ArticleModel, batch: Tensor, answer_logits: Callable[[Tensor], Tensor]
) -> None:
    """Compare teacher-forced answers with those of ever longer texts.

    Raises:
        MixerError: they differ.
    """
    check = AnswerCheck("article", cell.context, cell.seed, exact=True)
    with torch.no_grad(), answering(model):
        told = answer_logits(batch)
        places = range(batch.shape[1] - told.shape[1], batch.shape[1])
        read = torch.cat([model(batch[:, :place], last=1) for place in places], dim=1)
    answers = batch[:, places.start :]
    check.add(told, read, answers, torch.ones_like(answers, dtype=torch.bool), whole=True)
    if said := check.fault():
        raise causality_error(f"at {cell.context} tokens: {said}")

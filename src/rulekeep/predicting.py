"""An outside model on a task, one record: what `rulekeep run --predictor` runs.

The class is made with the task, whose `vocabulary` and `words` turn tokens into text, and
scored as it is on the test split: see `Predictor` and its two simpler forms. Two examples go
first: a model whose logits know what follows would score 1 without having kept anything.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from rulekeep import costs
from rulekeep.evaluation import (
    GeneratingPredictor,
    LogitsPredictor,
    Predictor,
    evaluate_samples,
)
from rulekeep.resolving import resolve_predictor
from rulekeep.specs import PredictorSpec
from rulekeep.store import Record, RunFolder
from rulekeep.tasks.sampled import Sample, SampledTask

LONG_CONTEXT = 1028
# Of the span of log-probabilities: low precision changes less, what follows changes more.
_SAME, _LEAST = 0.05, 1e-3


class PredictorError(ValueError):
    """An outside model breaks the contract of its kind of predictor."""


def run(
    spec: PredictorSpec,
    folder: RunFolder,
    progress: Callable[[int], None],
    log: Callable[[int, Mapping[str, float]], None],
) -> Record:
    """Scores an outside model at each context; `progress` hears of every one.

    Raises:
        PredictorError: its logits or its answers cannot be scored, or know what follows.
    """
    del folder, log
    costs.prepare_process()
    resolved = resolve_predictor(spec)
    spec, task = resolved.spec, resolved.task
    predictor = resolved.kind(task)
    check(predictor, task, min(spec.test_contexts), spec.seed)
    rows = []
    for number, context in enumerate(spec.test_contexts, start=1):
        examples = spec.test_examples if context <= LONG_CONTEXT else spec.long_test_examples
        rows.append(evaluate_samples(predictor, task, "test", context, examples, spec.seed))
        progress(number)
    notes = list(task.notes)
    if isinstance(predictor, GeneratingPredictor):
        notes.append("only generates: every score is of its own text, none is teacher-forced")
    return {
        "status": "done",
        "reason": None,
        "spec": {
            **spec.model_dump(mode="json"),
            "mixer": spec.predictor,
            "context": max(spec.test_contexts),
        },
        "source": resolved.source,
        "history": [],
        "evaluations": rows,
        "costs": {"train_seconds": 0.0, "peak_memory_bytes": costs.peak_memory_bytes()},
        "environment": costs.environment(),
        "notes": notes,
    }


def check(predictor: Predictor, task: SampledTask, context: int, seed: int) -> None:
    """Tries a predictor on two examples.

    Raises:
        PredictorError: what it gives has another shape or type, or depends on later tokens.
    """
    sample = task.sample("test", context, 2, seed=seed)
    if isinstance(predictor, LogitsPredictor):
        _check_logits(predictor, sample, len(task.vocabulary))
    elif isinstance(predictor, GeneratingPredictor):
        said = predictor.read(sample).generated
        assert said is not None, "what a generating predictor reads it has generated"
        if not np.issubdtype(said.dtype, np.integer):
            raise PredictorError(
                f"{type(predictor).__name__} generated {said.dtype}: give token ids, whole numbers"
            )


def _check_logits(predictor: LogitsPredictor, sample: Sample, words: int) -> None:
    name = f"{type(predictor).__name__}.logits"
    tokens = torch.from_numpy(sample.tokens)[:, :-1]
    known = sample.answer_start
    with torch.no_grad():
        whole, cut = predictor.logits(tokens), predictor.logits(tokens[:, :known])
    for given, made in ((tokens, whole), (tokens[:, :known], cut)):
        if not isinstance(made, torch.Tensor):
            raise PredictorError(f"{name} gave a {type(made).__name__}: give a torch tensor")
        if made.ndim != 3 or made.shape[:2] != given.shape or made.shape[2] < words:
            raise PredictorError(
                f"{name} gave {tuple(made.shape)} for tokens {tuple(given.shape)}: "
                f"give [batch, time, vocabulary], here {(*given.shape, words)}"
            )
        if made.isnan().any():
            raise PredictorError(f"{name} gave NaN: give numbers")
    before, after = (made[:, :known].float().log_softmax(dim=2) for made in (cut, whole))
    # Words that cannot be, by a logit of minus infinity, are to be the same ones.
    finite = before.isfinite() & after.isfinite()
    change = torch.where(before == after, 0.0, torch.inf)
    change[finite] = (before - after)[finite].abs()
    changed = change > max(_LEAST, _SAME * float(before[finite].max() - before[finite].min()))
    if changed.any():
        place = int(changed.any(dim=2).any(dim=0).nonzero()[0, 0])
        raise PredictorError(
            f"{name} at token {place} changes by up to {change[:, place].max():.3g} when tokens "
            f"after {known - 1} are there: only earlier ones may count, and nothing at random"
        )

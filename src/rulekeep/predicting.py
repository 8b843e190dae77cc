"""An outside model on a task, one record: what `rulekeep run --predictor` runs.

The class is made with the task, whose `vocabulary` and `words` turn tokens into text, and
scored as it is on the test split: see `Predictor` and its two simpler forms. Two examples of each
length go first: a model whose logits know what follows would score 1 without having kept
anything. What it reads is held to its form, since what is no answer would be scored as a wrong one.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from rulekeep import costs
from rulekeep.evaluation import (
    GeneratingPredictor,
    LogitsPredictor,
    Predictor,
    Reading,
    evaluate_samples,
)
from rulekeep.registry import takes_by_place
from rulekeep.resolving import resolve_predictor
from rulekeep.specs import PredictorSpec
from rulekeep.store import RunFolder, Values
from rulekeep.tasks.sampled import Sample, SampledTask

LONG_CONTEXT = 1028
# Of the span of log-probabilities: low precision changes less, what follows changes more.
_SAME, _LEAST = 0.05, 1e-3
# As many tokens as are read at once where they are scored.
_TOKENS_AT_ONCE = 2**16
# A generated word that the task does not have.
_NO_WORD = -1


class PredictorError(ValueError):
    """An outside model breaks the contract of its kind of predictor."""


def run(
    spec: PredictorSpec,
    folder: RunFolder,
    progress: Callable[[int], None],
    log: Callable[[int, Mapping[str, float]], None],
) -> Values:
    """Scores an outside model at each context; `progress` hears of every one.

    Raises:
        PredictorError: its logits or its answers cannot be scored, or know what follows.
    """
    del folder, log
    costs.prepare_process()
    resolved = resolve_predictor(spec)
    spec, task = resolved.spec, resolved.task
    if not takes_by_place(resolved.kind):
        raise PredictorError(f"{resolved.kind.__name__}: must be made with the task: (self, task)")
    predictor = resolved.kind(task)
    for context in spec.test_contexts:
        check(predictor, task, context, spec.seed)
    rows, held = [], _Held(predictor, len(task.vocabulary))
    for number, context in enumerate(spec.test_contexts, start=1):
        examples = spec.test_examples if context <= LONG_CONTEXT else spec.long_test_examples
        rows.append(evaluate_samples(held, task, "test", context, examples, spec.seed))
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


class _Held(Predictor):
    """A predictor whose every reading is held to its form."""

    def __init__(self, predictor: Predictor, words: int) -> None:
        self._predictor, self._words = predictor, words

    def read(self, sample: Sample) -> Reading:
        """What the predictor reads.

        Raises:
            PredictorError: it is no answer, right or wrong.
        """
        reading = self._predictor.read(sample)
        # Logits may be of more words than the task has, and then one of them is said.
        words = None if isinstance(self._predictor, LogitsPredictor) else self._words
        if said := _said_of_reading(reading, sample, words):
            name, length = type(self._predictor).__name__, sample.tokens.shape[1]
            raise PredictorError(f"{name} at {length} tokens: {said}")
        return reading


def _said_of_reading(reading: object, sample: Sample, words: int | None) -> str | None:
    """What is wrong with the form of a reading; None where nothing is."""
    if not isinstance(reading, Reading):
        return f"read gave a {type(reading).__name__}: give Reading(loss, predictions, generated)"
    loss, *answers = reading
    if loss is not None and not (isinstance(loss, (int, float)) and loss > -_LEAST):
        return f"its loss is {loss!r}: must be nats, a float of 0 or more; are its logits numbers?"
    if all(part is None for part in answers):
        return "it neither predicts nor generates: give predictions or generated"
    for what, part in zip(Reading._fields[1:], answers, strict=True):
        if part is None:
            continue
        if not isinstance(part, np.ndarray) or not np.issubdtype(part.dtype, np.integer):
            kind = part.dtype if isinstance(part, np.ndarray) else f"a {type(part).__name__}"
            return f"{what} is {kind}: give token ids, an array of whole numbers"
        if part.shape != sample.answers.shape:
            return f"{what} is {part.shape}: give answers, here {sample.answers.shape}"
        if words is None:
            continue
        odd = part[sample.supervised & ((part < _NO_WORD) | (part >= words))]
        if len(odd):
            return (
                f"{what} has {odd[0]}: give token ids from 0 to {words - 1}, or {_NO_WORD} for "
                "what is no word of the task"
            )
    return None


def check(predictor: Predictor, task: SampledTask, context: int, seed: int) -> None:
    """Tries a predictor on two examples, or on one where two are too long.

    Raises:
        PredictorError: what it gives has another shape or type, or depends on later tokens.
    """
    rows = min(2, max(1, _TOKENS_AT_ONCE // context))
    sample = task.sample("test", context, rows, seed=seed)
    if isinstance(predictor, LogitsPredictor):
        _check_logits(predictor, sample, len(task.vocabulary))
    else:
        _Held(predictor, len(task.vocabulary)).read(sample)


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
        if made.is_complex() or made.isnan().any():
            odd = "complex numbers" if made.is_complex() else "NaN"
            raise PredictorError(f"{name} gave {odd} at {made.shape[1]} tokens: give real numbers")
        if made.isinf().all(dim=2).any():
            raise PredictorError(f"{name} gave no finite logit at {made.shape[1]} tokens: give one")
    before, after = (made[:, :known].detach().float().log_softmax(2) for made in (cut, whole))
    # Words that cannot be, by a logit of minus infinity, are to be the same ones.
    finite = before.isfinite() & after.isfinite()
    change = torch.where(finite, (before - after).abs(), torch.inf)
    change = torch.where(before == after, 0.0, change)
    least, most = (torch.where(finite, before, end) for end in (torch.inf, -torch.inf))
    changed = change > max(_LEAST, _SAME * float(most.max() - least.min()))
    if changed.any():
        place = int(changed.any(dim=2).any(dim=0).nonzero()[0, 0])
        raise PredictorError(
            f"{name} at token {place} changes by up to {change[:, place].max():.3g} when tokens "
            f"after {known - 1} are there: only earlier ones may count, and nothing at random; "
            "what looks at a whole prompt is a GeneratingPredictor"
        )

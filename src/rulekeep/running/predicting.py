"""An outside model on a task, one record: what `rulekeep run --predictor` runs.

The class is made with the task, whose `vocabulary` and `words` turn tokens into text. It is scored
on the test split (`Predictor` and its two simpler forms). Two examples of each length come first,
so that a failure is reported before hours of reading.

Its form is checked while it is scored: malformed answers would count as wrong ones. Causality is
checked too: a model whose logits use later tokens would score 1 without keeping anything.
"""

from copy import deepcopy

from rulekeep.executors.base import Log, Progress
from rulekeep.records.record import how_ended
from rulekeep.records.store import RunFolder, Values
from rulekeep.running.building import ResolvedPredictor, environment, prepare_process
from rulekeep.running.causality import AnswerCheck
from rulekeep.running.costs import peak_memory_bytes
from rulekeep.running.evaluation import (
    TOKENS_AT_ONCE,
    NotFiniteError,
    OutsideReader,
    Predictor,
    evaluate_samples,
)
from rulekeep.running.model_figures import test_examples
from rulekeep.tasks.sampled import SampledTask


def run(resolved: ResolvedPredictor, folder: RunFolder, progress: Progress, log: Log) -> Values:
    """Score an outside model at each context; `progress` is called with each.

    Raises:
        PredictorError: its logits or answers cannot be scored, or use later tokens.
    """
    del folder, log
    prepare_process()
    spec, task = resolved.spec, resolved.task
    # Of its own, so that nothing it does to it reaches what is scored.
    predictor = resolved.kind(deepcopy(task))
    odd = list[NotFiniteError]()
    for context in spec.test_contexts:
        try:
            check(predictor, task, context, spec.seed)
        except NotFiniteError as error:
            odd.append(error)
            if len(odd) == len(spec.test_contexts):
                # At no length is there anything to score.
                raise odd[0] from None
    rows = []
    for number, context in enumerate(spec.test_contexts, start=1):
        examples = test_examples(spec, context)
        rows.append(evaluate_samples(predictor, task, "test", context, examples, spec.seed))
        progress(number)
    notes = [*resolved.notes]
    if all(row.get("val_loss", 0) is None for row in rows):
        notes.append("only generates: every score is of its own text, none is teacher-forced")
    return {
        **how_ended(rows),
        "spec": {
            **spec.model_dump(mode="json"),
            "mixer": spec.predictor,
            "context": max(spec.test_contexts),
        },
        "source": resolved.source,
        "history": [],
        "evaluations": rows,
        "costs": {"train_seconds": 0.0, "peak_memory_bytes": peak_memory_bytes()},
        "environment": environment(),
        "notes": notes,
    }


def check(predictor: Predictor, task: SampledTask, context: int, seed: int) -> None:
    """Try a predictor on two examples, or on one if two are too long.

    Raises:
        PredictorError: its output has a wrong form, or depends on later tokens.
    """
    rows = min(2, max(1, TOKENS_AT_ONCE // context))
    sample = task.sample("test", context, rows, seed=seed)
    reader = OutsideReader(predictor, len(task.vocabulary))
    answers = AnswerCheck("before", context, seed, exact=reader.exact)
    reader.read(sample, answers)
    if said := answers.fault():
        raise reader.error(f"at {context} tokens: {said}")

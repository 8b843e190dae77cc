"""An outside model on a task, one record: what `rulekeep run --predictor` runs.

The class is made with the task, whose `vocabulary` and `words` turn tokens into text, and
scored as it is on the test split: see `Predictor` and its two simpler forms.
"""

from collections.abc import Callable, Mapping

from rulekeep import costs
from rulekeep.evaluation import GeneratingPredictor, evaluate_samples
from rulekeep.registry import resolve_predictor
from rulekeep.specs import PredictorSpec
from rulekeep.store import Record, RunFolder

LONG_CONTEXT = 1028


def run(
    spec: PredictorSpec,
    folder: RunFolder,
    progress: Callable[[int], None],
    log: Callable[[int, Mapping[str, float]], None],
) -> Record:
    """Scores an outside model at each context; `progress` hears of every one."""
    del folder, log
    costs.prepare_process()
    resolved = resolve_predictor(spec)
    spec, task = resolved.spec, resolved.task
    predictor = resolved.kind(task)
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

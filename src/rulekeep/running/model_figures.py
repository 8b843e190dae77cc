"""What a record says of its model: scores on the validation and test splits, and costs.

Example i of a split depends on its name alone. So the figure of the first 1,000 examples is the
same in the run and later, from its kept weights.
"""

import statistics
import time
from collections.abc import Iterable
from typing import Any

import torch

from rulekeep.running import costs
from rulekeep.running.building import Resolved
from rulekeep.running.evaluation import ModelPredictor, answering, evaluate_samples
from rulekeep.running.model import LanguageModel
from rulekeep.running.training import Step
from rulekeep.specs import PredictorSpec, RunSpec
from rulekeep.tasks.base import Split

LONG_CONTEXT = 1028
# Tokens that are read one by one: the median of so many times is noted.
_DECODED = 16
_VALIDATED = ("val_loss", "token_accuracy", "rule_accuracy", "item_accuracy", "retention", "exact")


def validate(model: LanguageModel, resolved: Resolved) -> dict[str, Any]:
    """The figures of an evaluation on the validation split, at the training length."""
    spec = resolved.spec
    row = row_of(model, resolved, "validation", spec.context, spec.validation_examples)
    return {name: row.get(name) for name in _VALIDATED}


def history_row(step: Step, scores: dict[str, Any]) -> dict[str, Any]:
    """A step and the evaluation after it, as a row of a record's history."""
    return {
        "step": step.number, "train_loss": step.loss, **scores, "train_seconds": step.train_seconds,
    }  # fmt: skip


def evaluations(model: LanguageModel, resolved: Resolved) -> list[dict[str, Any]]:
    """The rows of a trained model: validation up to the training length, then each test."""
    spec, tested = resolved.spec, defined_tests(resolved.spec)
    validated = sorted({spec.context, *(at for at in tested if at <= spec.context)})
    return [
        *(row_of(model, resolved, "validation", at, spec.validation_examples) for at in validated),
        *(row_of(model, resolved, "test", at, test_examples(spec, at)) for at in tested),
    ]


def row_of(
    model: LanguageModel, resolved: Resolved, split: Split, context: int, examples: int
) -> dict[str, Any]:
    """The scores of a model on the first examples of a split at a length."""
    seed = resolved.spec.seed
    return evaluate_samples(ModelPredictor(model), resolved.task, split, context, examples, seed)


def test_examples(spec: RunSpec | PredictorSpec, context: int) -> int:
    """The number of test examples of a run at a length."""
    return spec.test_examples if context <= LONG_CONTEXT else spec.long_test_examples


def is_defined(spec: RunSpec, context: int) -> bool:
    """Whether a model has outputs at a length: learned positions end."""
    return spec.added_positions != "learned" or context <= spec.context


def defined_tests(spec: RunSpec) -> tuple[int, ...]:
    """The tested lengths at which the model has an output."""
    return tuple(context for context in spec.tested if is_defined(spec, context))


def model_costs(model: LanguageModel, resolved: Resolved) -> dict[str, Any]:
    """What a record says of a model's size and speed.

    Floating-point operations are those of a forward pass at the training length.
    """
    tokens = _one_text(resolved, resolved.spec.context)
    with answering(model):
        operations = costs.flops(lambda: model(tokens))
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "flops_per_token": operations / tokens.shape[1],
        **decoding(model, resolved, defined_tests(resolved.spec)),
    }


def decoding(
    model: LanguageModel, resolved: Resolved, contexts: Iterable[int]
) -> dict[str, dict[str, Any]]:
    """What it costs to go on after each context: one sequence, one token at a time."""
    sizes, times = dict[str, int](), dict[str, float]()
    for context in contexts:
        text = _one_text(resolved, context)
        with torch.no_grad(), answering(model):
            _, state = model(text[:, :-_DECODED])
            seconds = []
            for token in text[:, -_DECODED:].split(1, dim=1):
                start = time.perf_counter()
                _, state = model(token, state)
                seconds.append(time.perf_counter() - start)
        sizes[str(context)] = costs.state_bytes(state.layers)
        times[str(context)] = 1000 * statistics.median(seconds)
    return {"state_bytes": sizes, "decode_ms_per_token": times}


def _one_text(resolved: Resolved, context: int) -> torch.Tensor:
    sample = resolved.task.sample("validation", context, 1, seed=resolved.spec.seed)
    return torch.from_numpy(sample.tokens).to(resolved.spec.device)

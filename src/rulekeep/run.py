"""One spec, one record: build, train, evaluate, measure, record. Read this first.

    spec ─ resolve ─ model ─ train ─┬─ every 25 steps: a look at dev ─ history
                                    └─ at the end: dev, then test, once ─ evaluations

Nothing here depends on which other runs happen: every random consumer has a stream named
after the seed and what it is for, and example i of a batch is a function of its name alone.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rulekeep import costs
from rulekeep.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from rulekeep.evaluation import ModelPredictor, answer_loss, evaluate_samples
from rulekeep.mixers.base import MixerError, training_notes
from rulekeep.model import LanguageModel
from rulekeep.resolving import Resolved, resolve
from rulekeep.seeds import named_seed
from rulekeep.specs import RunSpec, TrainingSpec
from rulekeep.store import RunFolder, Values
from rulekeep.tasks.sampled import Sample
from rulekeep.training import DivergedError, Step, train

SOLVED = 0.995
LONG_CONTEXT = 1028
_SHORTEST_LENGTH = 64
_CHECKPOINT_SECONDS = 20.0


def run(
    spec: RunSpec,
    folder: RunFolder,
    progress: Callable[[int], None],
    log: Callable[[int, Mapping[str, float]], None],
) -> Values:
    """Runs a spec from its last checkpoint, if there is one.

    `progress` hears of every step, `log` of the figures at every look at dev.

    Raises:
        MixerError: the mixer breaks its contract.
    """
    costs.prepare_process(spec.threads)
    resolved = resolve(spec)
    spec = resolved.spec
    model = build(resolved).to(spec.device)
    half_lives = [getattr(m, "memory_half_life_tokens", None) for m in _mixers(model)]
    notes = [*resolved.task.notes, *training_notes(model, spec.steps)]
    optimizer = _adamw(model, spec.training)
    begun = load_checkpoint(folder, model, optimizer, notes)
    history, solved = list(begun.history), begun.steps_to_solve
    status, reason, last = "done", None, begun.step
    saved = time.monotonic()
    try:
        for step in train(
            model, _loss(model, spec), _batches(resolved, begun.step), spec.training,
            optimizer=optimizer, after=begun.step,
        ):  # fmt: skip
            last = step
            progress(step.number)
            if step.number % spec.evaluate_every == 0 or step.number in (1, spec.steps):
                look = _look(model, resolved, "dev", spec.context, spec.dev_examples)
                history.append(_history_row(step, look))
                log(step.number, {k: v for k, v in history[-1].items() if v is not None})
                if solved is None and look["exact"] >= SOLVED:
                    solved = step.number
                    if spec.stop_when_solved:
                        break
            if time.monotonic() - saved > _CHECKPOINT_SECONDS and step.number < spec.steps:
                save_checkpoint(folder, Checkpoint(step, history, solved), model, optimizer, notes)
                saved = time.monotonic()
    except DivergedError as error:
        status, reason = "diverged", str(error)
    evaluations = _evaluations(model, resolved, notes) if status == "done" else []
    return {
        "status": status,
        "reason": reason,
        "spec": spec.model_dump(mode="json"),
        "source": resolved.source,
        "history": history,
        "evaluations": evaluations,
        "costs": {
            "train_seconds": last.train_seconds if last else 0.0,
            "steps": last.number if last else 0,
            "steps_to_solve": solved,
            "tokens_per_second": _tokens_per_second(resolved, last),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "memory_half_life_tokens": half_lives,
            "flops_per_token": _flops_per_token(model, resolved),
            **_decoding(model, resolved),
            "peak_memory_bytes": costs.peak_memory_bytes(),
        },
        "environment": {**costs.environment(), "device": spec.device},
        "notes": notes,
    }


def build(resolved: Resolved) -> LanguageModel:
    """The model of a run, before its first step."""
    spec = resolved.spec
    assert spec.hidden is not None, "filled in by resolve"
    return LanguageModel(
        len(resolved.task.vocabulary), resolved.mixers, width=spec.width, hidden=spec.hidden,
        positions=spec.added_positions, context=spec.context, seed=spec.seed,
    )  # fmt: skip


def lengths(spec: RunSpec, shortest: int) -> Iterator[int]:
    """The length of each training batch, in order: log-uniform up to the longest, or fixed.

    The longest is the context, after a first share of the steps, `length_growth`, in which it
    grows from the shortest, by equal factors: what needs two steps to be found is found sooner
    where there is less to look through.
    """
    stream = np.random.default_rng(named_seed("training lengths", spec.seed))
    low = min(max(_SHORTEST_LENGTH, shortest), spec.context)
    growing = spec.length_growth * spec.steps
    for number in count():
        longest = low * (spec.context / low) ** min(1.0, number / growing if growing else 1.0)
        draw = low * (longest / low) ** stream.random()
        yield round(draw if spec.mixed_lengths else longest)


def _batches(resolved: Resolved, done: Step | None) -> Iterator[Sample]:
    spec, task = resolved.spec, resolved.task
    for number, length in enumerate(lengths(spec, task.shortest_context)):
        if done is None or number >= done.number:
            start = number * spec.batch_size
            yield task.sample("train", length, spec.batch_size, seed=spec.seed, start=start)


def _loss(model: LanguageModel, spec: RunSpec) -> Callable[[Sample], Tensor]:
    def loss_of(sample: Sample) -> Tensor:
        before = _global_streams()
        tokens = torch.from_numpy(sample.tokens).to(spec.device)
        supervised = torch.from_numpy(sample.supervised).to(spec.device)
        kind = torch.device(spec.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=spec.precision == "bfloat16"):
            # The last token predicts nothing that is supervised.
            logits = model.last_logits(tokens[:, :-1], supervised.shape[1])
        if _global_streams() != before:
            raise MixerError(
                f"{spec.mixer} draws from a global random stream: give it a generator of its own"
            )
        return answer_loss(logits.float(), tokens, supervised)

    return loss_of


def _global_streams() -> tuple[Any, ...]:
    state: Any = np.random.get_state()
    return (
        torch.get_rng_state().numpy().tobytes(), state[1].tobytes(), state[2], random.getstate(),
    )  # fmt: skip


def _adamw(model: nn.Module, spec: TrainingSpec) -> torch.optim.AdamW:
    """AdamW: weights of linear layers decay, and nothing that a mixer initialises itself."""
    decaying = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if id(p) in decaying]},
        {"params": [p for p in parameters if id(p) not in decaying], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, weight_decay=spec.weight_decay)


def _look(
    model: LanguageModel, resolved: Resolved, split: Any, context: int, examples: int
) -> dict[str, Any]:
    spec = resolved.spec
    return evaluate_samples(
        ModelPredictor(model), resolved.task, split, context, examples, spec.seed
    )


def _history_row(step: Step, look: dict[str, Any]) -> dict[str, Any]:
    scores = ("val_loss", "token_accuracy", "rule_accuracy", "item_accuracy", "retention", "exact")
    return {
        "step": step.number,
        "train_loss": step.loss,
        **{name: look[name] for name in scores},
        "train_seconds": step.train_seconds,
    }


def _evaluations(model: LanguageModel, resolved: Resolved, notes: list[str]) -> list[Any]:
    spec = resolved.spec
    dev = sorted({spec.context, *(c for c in spec.tested if c <= spec.context)})
    rows = [_look(model, resolved, "dev", context, spec.dev_examples) for context in dev]
    for context in spec.tested:
        if spec.added_positions == "learned" and context > spec.context:
            notes.append(f"test at {context}: not defined, learned positions end at {spec.context}")
            continue
        examples = spec.test_examples if context <= LONG_CONTEXT else spec.long_test_examples
        rows.append(_look(model, resolved, "test", context, examples))
    return rows


def _tokens_per_second(resolved: Resolved, last: Step | None) -> float | None:
    if last is None:
        return None
    spec = resolved.spec
    drawn = lengths(spec, resolved.task.shortest_context)
    tokens = sum(spec.batch_size * next(drawn) for _ in range(last.number))
    return tokens / last.train_seconds


def _decoding(model: LanguageModel, resolved: Resolved) -> dict[str, Any]:
    """Bytes of the state and milliseconds a token after each tested context, batch 1."""
    spec = resolved.spec
    bytes_by, ms_by = {}, {}
    for context in spec.tested:
        if spec.added_positions == "learned" and context > spec.context:
            continue
        sample = resolved.task.sample("dev", context, 1, seed=spec.seed)
        tokens = torch.from_numpy(sample.tokens).to(spec.device)
        measured = costs.decoding(model, tokens)
        bytes_by[str(context)] = measured.state_bytes
        ms_by[str(context)] = measured.ms_per_token
    return {"state_bytes": bytes_by, "decode_ms_per_token": ms_by}


def _flops_per_token(model: LanguageModel, resolved: Resolved) -> float:
    sample = resolved.task.sample("dev", resolved.spec.context, 1, seed=resolved.spec.seed)
    tokens = torch.from_numpy(sample.tokens).to(resolved.spec.device)
    return costs.flops(lambda: model(tokens)) / tokens.shape[1]


def _mixers(model: LanguageModel) -> list[Any]:
    return [block.mixer for block in model.blocks]

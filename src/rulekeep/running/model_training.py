"""The training of one run: its model, its batches, its loss and its optimiser.

    model = build(resolved)
    for step in train_model(resolved, model):
        ...     # evaluate, log, save, stop: none of it is timed

Nothing here depends on other runs. Every random consumer has a stream named after the seed and its
purpose, and example i of a batch depends on its name alone. So the same spec gives the same
weights, to the bit, whenever it is trained on the same machine.
"""

import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rulekeep.mixers.base import MixerError
from rulekeep.running.evaluation import answer_loss
from rulekeep.running.model import LanguageModel
from rulekeep.running.resolving import Resolved
from rulekeep.running.training import Step, train
from rulekeep.seeds import named_seed
from rulekeep.specs import RunSpec, TrainingSpec
from rulekeep.tasks.sampled import Sample

_SHORTEST_LENGTH = 64


def build(resolved: Resolved) -> LanguageModel:
    """The model of a run, before its first step."""
    spec = resolved.spec
    assert spec.hidden is not None, "filled in by resolve"
    return LanguageModel(
        len(resolved.task.vocabulary), resolved.mixers, width=spec.width, hidden=spec.hidden,
        added_positions=spec.added_positions, context=spec.context, seed=spec.seed,
    )  # fmt: skip


def train_model(
    resolved: Resolved,
    model: LanguageModel,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    after: Step | None = None,
) -> Iterator[Step]:
    """Train the model of a run in place, yielding after every step; continues `after` a step if
    given.

    `optimizer` is that of `optimizer_of`; a caller that saves checkpoints holds it.

    Raises:
        DivergedError: a loss or a gradient is not finite.
        MixerError: the mixer breaks its contract.
    """
    spec = resolved.spec.training
    return train(
        model, _loss(model, resolved.spec), _batches(resolved, after), spec,
        optimizer=optimizer or optimizer_of(model, spec), after=after,
    )  # fmt: skip


def optimizer_of(model: nn.Module, spec: TrainingSpec) -> torch.optim.AdamW:
    """AdamW with weight decay on the weights of linear layers alone."""
    decaying = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if id(p) in decaying]},
        {"params": [p for p in parameters if id(p) not in decaying], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, weight_decay=spec.weight_decay)


def lengths(spec: RunSpec, shortest: int) -> Iterator[int]:
    """The length of each training batch, in order: log-uniform up to the longest, or fixed.

    The longest is the context. Over the first fraction `length_growth` of the steps it grows from
    the shortest, by equal factors. A rule is found sooner in a short text, and then kept in a long
    one.
    """
    stream = np.random.default_rng(named_seed("training lengths", spec.seed))
    low = min(max(_SHORTEST_LENGTH, shortest), spec.context)
    growing = spec.length_growth * spec.steps
    for number in count():
        longest = low * (spec.context / low) ** min(1.0, number / growing if growing else 1.0)
        draw = low * (longest / low) ** stream.random()
        yield round(draw if spec.mixed_lengths else longest)


def tokens_per_second(resolved: Resolved, last: Step) -> float:
    """Tokens of all batches so far, divided by the seconds of their steps."""
    spec = resolved.spec
    drawn = lengths(spec, resolved.task.shortest_context)
    tokens = sum(spec.batch_size * next(drawn) for _ in range(last.number))
    return tokens / last.train_seconds


def _batches(resolved: Resolved, done: Step | None) -> Iterator[Sample]:
    spec, task = resolved.spec, resolved.task
    for number, length in enumerate(lengths(spec, task.shortest_context)):
        if done is None or number >= done.number:
            start = number * spec.batch_size
            yield task.sample("train", length, spec.batch_size, seed=spec.seed, start=start)


def _loss(model: LanguageModel, spec: RunSpec) -> Callable[[Sample], Tensor]:
    def loss_of(sample: Sample) -> Tensor:
        before = global_streams()
        tokens = torch.from_numpy(sample.tokens).to(spec.device)
        answers = torch.from_numpy(sample.answers).to(spec.device)
        supervised = torch.from_numpy(sample.supervised).to(spec.device)
        kind = torch.device(spec.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=spec.precision == "bfloat16"):
            # The last token predicts nothing that is supervised.
            logits = model.last_logits(tokens[:, :-1], supervised.shape[1])
        if global_streams() != before:
            raise MixerError(
                f"{spec.mixer} draws from a global random stream: give it a generator of its own, "
                "seeded in start_step(step)"
            )
        return answer_loss(logits.float(), answers, supervised)

    return loss_of


def global_streams() -> dict[str, object]:
    """The states of the global random streams, by library."""
    state: Any = np.random.get_state()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (state[1].tobytes(), *state[2:]),
        "random": random.getstate(),
    }

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional as F

from rulekeep.mixers import Mixer
from rulekeep.mixers.base import Outside, auxiliary_loss
from rulekeep.running.building import resolve
from rulekeep.running.model import ModelState
from rulekeep.running.training import (
    DivergedError,
    build,
    learning_rate,
    lengths,
    train,
    train_model,
)
from rulekeep.specs import TrainingSpec

SPEC = TrainingSpec(
    steps=4, batch_size=2, learning_rate=0.1, weight_decay=0.01, max_gradient_norm=1.0
)


def batches():
    number = 0
    while True:
        number += 1
        yield torch.full((2, 3), float(number))


def test_the_loop_is_clipped_adamw_and_the_warm_up_changes_nothing() -> None:
    torch.manual_seed(1)
    ours, plain = nn.Linear(3, 1), nn.Linear(3, 1)
    plain.load_state_dict(ours.state_dict())
    steps = list(train(ours, lambda x: ours(x).square().mean(), batches(), SPEC))
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.1, weight_decay=0.01)
    losses = []
    for _, x in zip(range(4), batches(), strict=False):
        loss = plain(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert [step.loss for step in steps] == losses
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True)
    )


class Counting(Mixer):
    """Updates a buffer and a count as it reads, and draws noise that the step decides."""

    def __init__(self) -> None:
        super().__init__()
        self.write = nn.Linear(3, 1)
        self.register_buffer("seen", torch.zeros(()))
        self.calls = 0

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": self.calls}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]

    def start_step(self, step: int) -> None:
        self.noise = torch.Generator().manual_seed(step)

    def init_state(self, batch_size: int) -> tuple[()]:
        return ()

    def forward(self, x: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        self.seen = self.seen + 1
        self.calls += 1
        # Made at the first call, as tables of angles are.
        self.register_buffer("table", torch.arange(len(x)))
        return self.write(x) + torch.rand((), generator=self.noise) + self.seen, ()

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        return self(x)[0].square().mean()


def test_a_training_that_goes_on_is_the_one_that_never_stopped() -> None:
    losses = []
    for ends in ([4], [2, 4]):
        torch.manual_seed(1)
        model, after, drawn = Counting(), None, batches()
        optimizer = torch.optim.AdamW(model.parameters())
        for end in ends:
            # Each part warms up anew.
            part = train(model, model.loss, drawn, SPEC, optimizer=optimizer, after=after)
            after = next(step for step in part if step.number == end)
        assert model.seen == model.calls == 4
        losses.append(after.loss)
    assert losses[0] == losses[1]


def test_time_spent_between_steps_is_not_under_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    model, now = nn.Linear(3, 1), 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)

    def drawn():
        nonlocal now
        for batch in batches():
            now += 100
            yield batch

    def loss(x: torch.Tensor) -> torch.Tensor:
        nonlocal now
        now += 1
        return model(x).square().mean()

    seconds = []
    for step in train(model, loss, drawn(), SPEC):
        now += 1000
        seconds.append(step.train_seconds)
    # A loss a step; neither the one that warms up, nor data, nor what is done between steps.
    assert seconds == [1, 2, 3, 4]


def test_a_loss_that_is_not_finite_is_an_error_not_a_nan_weight() -> None:
    model = nn.Linear(3, 1)
    with pytest.raises(DivergedError, match="loss not finite at step 1"):
        list(train(model, lambda x: (model(x) * float("inf")).sum(), batches(), SPEC))
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_gradient_that_is_not_finite_is_one_too_though_the_loss_is_finite() -> None:
    model = nn.Linear(3, 1)

    def loss(x: torch.Tensor) -> torch.Tensor:
        # Zero, and infinitely steep there.
        return (model.weight - model.weight.detach()).sqrt().sum() + model.bias.sum() * 0

    one = SPEC.model_copy(update={"steps": 1})
    said = "gradient not finite at step 1; last finite loss: 0"
    with pytest.raises(DivergedError, match=said):
        list(train(model, loss, batches(), one))
    assert all(p.isfinite().all() for p in model.parameters())


WARMED = TrainingSpec(
    steps=10, batch_size=2, learning_rate=0.2, weight_decay=0.0, max_gradient_norm=1.0,
    warmup_steps=4, final_share=0.1,
)  # fmt: skip
# Up to 0.2 in four steps; then 0.02 + 0.18 (1 + cos(pi * (step - 4) / 6)) / 2.
RATES = [
    0.05, 0.1, 0.15, 0.2,
    0.02 + 0.09 * 1.8660254, 0.02 + 0.09 * 1.5, 0.02 + 0.09, 0.02 + 0.09 * 0.5,
    0.02 + 0.09 * 0.1339746, 0.02,
]  # fmt: skip


def test_the_rate_warms_up_linearly_and_falls_by_half_a_cosine_to_its_last_share() -> None:
    assert [learning_rate(WARMED, step) for step in range(1, 11)] == pytest.approx(RATES)
    kept = WARMED.model_copy(update={"final_share": 1.0})
    assert [learning_rate(kept, step) for step in (1, 4, 5, 10)] == [0.05, 0.2, 0.2, 0.2]
    at_once = WARMED.model_copy(update={"warmup_steps": 0, "final_share": 0.0})
    assert learning_rate(at_once, 1) == pytest.approx(0.2 * (1 + 0.9510565) / 2)
    assert learning_rate(at_once, 10) == pytest.approx(0)


class Taxed(Mixer):
    """A bias that training asks to be zero, from the third step on."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(3))

    def init_state(self, batch_size: int) -> tuple[()]:
        return ()

    def forward(self, x: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        return x + 0 * self.bias, state

    def auxiliary_loss(self, step: int) -> torch.Tensor | None:
        return self.bias.square().sum() if step > 2 else None


def test_what_mixers_add_to_the_loss_is_trained_and_not_told() -> None:
    mixer, biases = Taxed(), []
    model = nn.Sequential(Outside(nn.Linear(3, 3)), mixer)
    loss_of = lambda x: mixer(x)[0].mean()  # noqa: E731
    spec = SPEC.model_copy(update={"weight_decay": 0.0})
    steps = []
    for step in train(model, loss_of, batches(), spec):
        steps.append(step.loss)
        biases.append(mixer.bias.max().item() < 1)
    assert steps == [1.0, 2.0, 3.0, 4.0]
    assert biases == [False, False, True, True]


def test_penalties_are_summed_over_the_mixers_of_a_model_those_from_outside_too() -> None:
    class Foreign(nn.Module):
        def auxiliary_loss(self, step: int) -> torch.Tensor:
            return torch.tensor(float(step))

    inner = nn.Sequential(Taxed(), Taxed(), Outside(Foreign()), Outside(nn.Linear(3, 3)))
    assert auxiliary_loss(nn.ModuleDict({"inner": inner}), 5).item() == 3 + 3 + 5
    assert auxiliary_loss(nn.Linear(3, 3), 5) is None


PASSING: dict[str, Any] = {
    "mixer": "delta", "mixer_options": {"heads": 2, "short_convolution": True}, "layers": 2,
    "steps": 4, "state_steps": 2,
}  # fmt: skip


def losses(**options: Any) -> list[float]:
    resolved = resolve(tiny.tiny(**{**PASSING, **options}))
    return [step.loss for step in train_model(resolved, build(resolved))]


def test_the_last_steps_begin_from_the_states_that_the_batch_before_leaves() -> None:
    resolved = resolve(tiny.tiny(**PASSING, initial_states="passed"))
    model, task, spec = build(resolved), resolved.task, resolved.spec
    drawn = lengths(spec, task.shortest_context)
    batches = [
        task.sample("train", next(drawn), spec.batch_size, seed=spec.seed, start=at * 4)
        for at in range(4)
    ]
    at_step = train_model(resolved, model)
    next(at_step), next(at_step)
    before, (earlier, sample) = deepcopy(model), batches[1:3]
    loss = next(at_step).loss
    # The same, a token at a time.
    with torch.no_grad():
        state = None
        for token in torch.from_numpy(earlier.tokens).split(1, dim=1):
            _, state = before(token, state)
        assert state is not None
        state, logits = ModelState(0, state.layers), []
        for token in torch.from_numpy(sample.tokens)[:, :-1].split(1, dim=1):
            found, state = before(token, state)
            logits.append(found)
    shown = torch.from_numpy(sample.supervised)
    last_logits = torch.cat(logits, dim=1)[:, -shown.shape[1] :]
    answers = torch.from_numpy(sample.answers)
    assert loss == pytest.approx(F.cross_entropy(last_logits[shown], answers[shown]).item(), 1e-5)


def test_states_change_the_last_steps_alone_and_noise_is_not_what_is_passed() -> None:
    plain, passed, noise = (losses(initial_states=of) for of in ("zero", "passed", "noise"))
    assert plain[:2] == passed[:2] == noise[:2]
    assert len({plain[2], passed[2], noise[2]}) == 3
    assert losses(initial_states="noise") == noise


@pytest.mark.parametrize("task", ["recite", "override"])
def test_the_answers_of_the_text_before_tell_nothing_of_those_asked_for(task: str) -> None:
    made = resolve(
        tiny.tiny(task=task, task_options={"placement": "marked", "rules": 4}, context=256)
    ).task
    count = 2000
    batches = [made.sample("train", 128, count, seed=1, start=at * count) for at in range(2)]
    first, second = (batch.answers[batch.supervised].reshape(count, -1) for batch in batches)
    # Against the text before, and against any other: two shares of the same chance.
    before, other = ((first == np.roll(second, by, axis=0)).mean(axis=0) for by in (0, 7))
    spread = np.sqrt(np.maximum(other * (1 - other), 0.01) / count)
    assert (np.abs(before - other) < 5 * spread).all()

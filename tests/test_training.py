import pytest
import torch
from torch import nn

from rulekeep.specs import TrainingSpec
from rulekeep.training import DivergedError, train

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


def test_steps_are_numbered_from_one_and_the_clock_only_grows() -> None:
    model = nn.Linear(3, 1)
    steps = list(train(model, lambda x: model(x).square().mean(), batches(), SPEC))
    assert [step.number for step in steps] == [1, 2, 3, 4]
    seconds = [step.train_seconds for step in steps]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_time_spent_between_steps_is_not_under_the_clock() -> None:
    import time

    model = nn.Linear(3, 1)
    seconds = 0.0
    for step in train(model, lambda x: model(x).square().mean(), batches(), SPEC):
        time.sleep(0.2)
        seconds = step.train_seconds
    assert seconds < 0.2


def test_a_gradient_that_is_not_finite_is_an_error_not_a_nan_weight() -> None:
    model = nn.Linear(3, 1)
    with pytest.raises(DivergedError, match="not finite at step 1"):
        list(train(model, lambda x: (model(x) * float("inf")).sum(), batches(), SPEC))
    assert all(p.isfinite().all() for p in model.parameters())

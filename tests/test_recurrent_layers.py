"""torch's recurrent layers: how long they remember at the start, hard cases, precision."""

import pytest
import torch

from rulekeep.checks.numerics import trace_half_life
from rulekeep.mixers import GRU, LSTM


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_torch_starts_with_a_half_life_of_a_token_and_a_longer_one_can_be_asked_for(
    kind: type,
) -> None:
    assert 1 < kind(64).memory_half_life_tokens < 2
    for asked in (3.0, 1024.0):
        mixer = kind(16, half_life_tokens=asked)
        assert mixer.memory_half_life_tokens == pytest.approx(asked, rel=1e-3)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_a_longer_half_life_is_a_longer_trace_in_the_state(kind: type) -> None:
    short, long = kind(16), kind(16, half_life_tokens=256.0)
    assert trace_half_life(short, 16) <= 4
    # Inputs open and close the gate around where it starts: it is no exact figure.
    assert trace_half_life(long, 16) > 64


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("case", ["repeated", "large", "long memory"])
def test_hard_cases_in_float32(kind: type, case: str) -> None:
    mixer = kind(16, half_life_tokens=1e5 if case == "long memory" else None)
    x = torch.randn(1, 4096 if case == "long memory" else 512, 16)
    if case != "long memory":
        x = x[:, :1].expand_as(x).clone() if case == "repeated" else x * 1e3
    x.requires_grad_()
    y = mixer(x)[0]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()
    assert torch.allclose(y.double(), mixer.double()(x.double())[0], rtol=0, atol=2e-4)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_under_autocast_the_state_keeps_its_precision(kind: type) -> None:
    mixer, x = kind(16), torch.randn(2, 70, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, state = mixer(x.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert all(part.dtype == torch.float32 for part in state)
    assert (mixer(x)[0] - rough).norm() < 0.05 * rough.norm()

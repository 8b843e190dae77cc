"""torch's recurrent layers: against the formula, and how long they remember at the start."""

import pytest
import torch

from rulekeep.mixers import GRU, LSTM

LENGTHS = [1, 2, 15, 16, 17, 63, 64, 65, 130, 257]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_the_layer_is_the_formula(kind: type, batch: int) -> None:
    fast, slow = kind(8).double(), kind(8, serial=True).double()
    slow.load_state_dict(fast.state_dict())
    for length in LENGTHS:
        x = torch.randn(batch, length, 8, dtype=torch.float64, requires_grad=True)
        state = [torch.randn_like(part).requires_grad_() for part in fast.init_state(batch)]
        pairs = []
        for mixer in (fast, slow):
            y, after = mixer(x, type(fast.init_state(1))(*state))
            stream = torch.Generator().manual_seed(5)
            weights = [
                torch.randn(out.shape, generator=stream, dtype=out.dtype) for out in (y, *after)
            ]
            leaves = [x, *state, *mixer.parameters()]
            pairs.append([y, *after, *torch.autograd.grad((y, *after), leaves, weights)])
        for a, b in zip(*pairs, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-9), length


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_torch_starts_with_a_half_life_of_a_token_and_a_longer_one_can_be_asked_for(
    kind: type,
) -> None:
    assert 1 < kind(64).memory_half_life_tokens < 2
    for asked in (3.0, 1024.0):
        mixer = kind(16, half_life_tokens=asked)
        assert mixer.memory_half_life_tokens == pytest.approx(asked, rel=1e-3)
    with pytest.raises(ValueError, match="half_life_tokens 0"):
        kind(16, half_life_tokens=0)


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

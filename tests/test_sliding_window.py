"""The window with sinks: what is seen, what is kept, hard cases, precision."""

import pytest
import torch

from rulekeep.mixers import SlidingWindow
from rulekeep.running.costs import state_bytes


def test_a_token_sees_the_window_and_the_sinks_and_nothing_else() -> None:
    mixer = SlidingWindow(16, window=5, sinks=2).double()
    x = torch.randn(1, 70, 16, dtype=torch.float64, requires_grad=True)
    for t in (0, 3, 6, 7, 40, 69):
        (gradient,) = torch.autograd.grad(mixer(x)[0][0, t].sum(), x)
        seen = gradient[0].abs().sum(-1).nonzero().flatten().tolist()
        assert seen == sorted({i for i in (0, 1) if i <= t} | set(range(max(0, t - 4), t + 1)))


def test_the_cache_grows_to_its_budget_and_no_further() -> None:
    mixer = SlidingWindow(16, window=5, sinks=2)
    sizes = [state_bytes([mixer(torch.randn(1, time, 16))[1]]) for time in (1, 6, 7, 8, 300)]
    assert sizes == [128, 6 * 128, 7 * 128, 7 * 128, 7 * 128]


@pytest.mark.parametrize("case", ["repeated", "large"])
def test_hard_cases_in_float32(case: str) -> None:
    mixer = SlidingWindow(16, window=20, sinks=2, positions="rotary")
    x = torch.randn(1, 512, 16)
    x = x[:, :1].expand_as(x).clone() if case == "repeated" else x * 1e3
    x.requires_grad_()
    y = mixer(x)[0]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    exact = mixer.double()(x.double())[0]
    assert gradient.isfinite().all()
    # Scores of 1e6 are a hard maximum: float32 may choose another of two that are nearly equal.
    error = ((y - exact).abs().amax(-1) / exact.abs().max() > 2e-4).double().mean()
    assert error <= (0.01 if case == "large" else 0)


def test_under_autocast_the_cache_keeps_its_precision() -> None:
    mixer, x = SlidingWindow(16, positions="rotary"), torch.randn(2, 70, 16)
    y = mixer(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, cache = mixer(x)
    assert all(part.dtype == torch.float32 for part in cache)
    assert (y - rough).norm() < 0.05 * y.norm()

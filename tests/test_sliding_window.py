"""The window with sinks: blocks against the published loop, what is seen, and what is kept."""

import pytest
import torch
from small_pieces import pieces_of

from rulekeep.mixers import SlidingWindow
from rulekeep.mixers.sliding_window import WindowCache
from rulekeep.running.costs import state_bytes

LENGTHS = [1, 2, 17, 64, 130]
# Window and sinks: as the default, shorter than a block, nothing but the token; longer than it all.
SIZES = [(60, 4), (7, 3), (1, 0), (1, 2), (33, 0)]
LONG = (300, 2)


@pytest.mark.parametrize(("positions", "batch"), [("none", 3), ("rotary", 1), ("rotary", 3)])
@pytest.mark.parametrize(("window", "sinks"), [*SIZES, pytest.param(*LONG, marks=pytest.mark.slow)])
def test_blocks_are_the_loop(
    window: int, sinks: int, batch: int, positions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces_of(128, monkeypatch)
    options = {"heads": 2, "window": window, "sinks": sinks, "positions": positions}
    fast, slow = (SlidingWindow(8, serial=serial, **options).double() for serial in (False, True))
    slow.load_state_dict(fast.state_dict())
    budget = window + sinks
    for length in LENGTHS:
        x = torch.randn(batch, length, 8, dtype=torch.float64, requires_grad=True)
        # The cache before it: empty, with a few tokens, one short of full, full.
        for past in {0, min(sinks + 1, budget), budget - 1, budget} if length in (2, 17) else {0}:
            cache = [
                torch.randn(batch, 2, past, 4, dtype=torch.float64, requires_grad=True)
                for _ in range(2)
            ]
            pairs = []
            for mixer in (fast, slow):
                y, after = mixer(x, WindowCache(*cache))
                leaves = [x, *cache, *mixer.parameters()]
                stream = torch.Generator().manual_seed(5)
                weights = [
                    torch.randn(out.shape, generator=stream, dtype=out.dtype) for out in (y, *after)
                ]
                found = torch.autograd.grad(
                    (y, *after), leaves, weights, allow_unused=True, materialize_grads=True
                )
                pairs.append([y, *after, *found])
            for a, b in zip(*pairs, strict=True):
                assert a.shape == b.shape
                assert torch.allclose(a, b, rtol=0, atol=1e-9), (length, past)


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

"""Slots with gates: the cases that break chunked forms, and slots that stand still exactly."""

import math

import pytest
import torch
from test_catalogue import results

from rulekeep.kernels.slot_chunks import slot_chunks, slot_loop
from rulekeep.mixers import GatedSlots, RoutedSlots

# In float32 against the loop in float64: the largest error, as a share of the largest value of the
# same tensor (of 1e-2, if all are smaller).
TOLERANCE = 5e-4


@pytest.mark.parametrize(
    "case",
    [
        "repeated keys",
        pytest.param("near zero", marks=pytest.mark.slow),
        pytest.param("near one", marks=pytest.mark.slow),
        "mixed",
        "frozen",
        "large",
    ],
)
def test_hard_cases_in_float32(case: str) -> None:
    time = 1024 if case.startswith("near") else 256
    shape = 1, time, 1, 8
    queries, keys, values = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    if case == "repeated keys":
        keys, values = (part[:, :1].expand(shape).contiguous() for part in (keys, values))
    if case == "large":
        # Scores of a thousand: a softmax of all or nothing.
        keys, values = keys * 30, values * 1e3
        queries = queries * 30
    gates = -torch.randn(1, time, 1, 6, dtype=torch.float64).exp()
    if case == "near zero":
        gates = gates - 50
    elif case == "near one":
        gates = gates * 1e-6
    elif case == "frozen":
        gates = gates * (torch.rand_like(gates) < 0.1)
    elif case == "mixed":
        choices = torch.tensor([-math.inf, -120.0, -1e-7, -0.5], dtype=torch.float64)
        gates = choices[torch.randint(4, gates.shape)]
    slots = [torch.randn(1, 1, 6, 8, dtype=torch.float64) for _ in range(2)]
    pairs = []
    for form, dtype in ((slot_chunks, torch.float32), (slot_loop, torch.float64)):
        leaves = [
            part.to(dtype).requires_grad_() for part in (queries, keys, values, gates, *slots)
        ]
        found = form(*leaves, **({"chunk": 16} if form is slot_chunks else {}))
        pairs.append(results(found, leaves))
    for (what, a), (_, b) in zip(*pairs, strict=True):
        assert a.isfinite().all(), what
        if what == "gradient 3":
            # Where nothing is left, clamping has no gradient and the loop, at −inf, has NaN.
            b = torch.where(gates < -60, 0, b)
        error = (a.double() - b).abs().max() / b.abs().max().clamp(min=1e-2)
        assert error < TOLERANCE, (what, error)


@pytest.mark.parametrize("serial", [True, False])
def test_a_slot_that_is_not_routed_stands_still(serial: bool) -> None:
    mixer = RoutedSlots(16, slots=6, top_k=2, half_life_tokens=2.0, serial=serial)
    x = torch.randn(3, 1, 16).expand(3, 50, 16)
    routed = mixer._log_decay(x)[:, 0] < 0
    assert (routed.sum(-1) == 2).all()
    before = type(mixer.init_state(3))(*(torch.randn_like(part) for part in mixer.init_state(3)))
    _, after = mixer(x, before)
    for a, b in zip(after, before, strict=True):
        # The same tokens route to the same slots: the others are never written.
        if serial:
            assert torch.equal(a[~routed], b[~routed])
        assert torch.allclose(a[~routed], b[~routed], rtol=0, atol=1e-6)
        assert (a[routed] != b[routed]).any(-1).all()


def test_routing_is_finite_of_logits_far_below_zero() -> None:
    mixer = RoutedSlots(16, slots=6, top_k=2)
    with torch.no_grad():
        mixer.router.weight.copy_(-mixer.router.weight.abs() * 1e4)
    assert mixer._log_decay(torch.rand(2, 9, 16)).isfinite().all()


def test_the_published_gate_is_within_reach() -> None:
    # No bias, which is sigmoid(0)^(1/8).
    mixer = GatedSlots(16, half_life_tokens=8.0)
    assert torch.allclose(mixer.gate.bias, torch.zeros(()), rtol=0, atol=1e-6)

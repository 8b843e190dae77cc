"""The gate penalty of every mixer with a gate: its formula, its gradient, and when it acts."""

from typing import Any

import pytest
import torch
from small_pieces import pieces_of
from test_formulas import affine, decays, softplus, strengths
from torch import Tensor

from rulekeep.mixers import MIXERS
from rulekeep.registry import parameters_of

WIDTH, HEADS, LENGTH, BATCH = 16, 2, 40, 3
# What makes the gate: the penalty moves nothing else.
GATES: dict[str, set[str]] = {
    "delta": {"write.weight", "write.bias", "write_before.weight"},
    "gated_delta": {"write.weight", "write.bias"},
    "kda": {"write.weight", "write.bias"},
    "gated_slots": {"gate.weight", "gate.bias"},
    "routed_slots": {"router.weight", "step.weight", "step.bias", "log_rate"},
    "ssd": {"step.weight", "step.bias"},
    "gated_linear": {"decay.0.weight", "decay.1.weight", "decay.1.bias"},
    "sparse_delta": {"write.weight", "write.bias", "write_before.weight"},
}
# A few small, so that a token has several gates.
OPTIONS: dict[str, dict[str, Any]] = {
    "delta": {"gate_kernel": 3},
    "gated_slots": {"slots": 6}, "routed_slots": {"slots": 6, "top_k": 2},
}  # fmt: skip


def made(name: str, penalty: float = 0.25, **options: Any) -> Any:
    torch.manual_seed(1)
    own = {**OPTIONS.get(name, {}), "gate_penalty": penalty, "penalty_start": 0, **options}
    mixer: Any = MIXERS[name](WIDTH, heads=HEADS, **own).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer


def drawn(batch: int = BATCH, length: int = LENGTH) -> Tensor:
    stream = torch.Generator().manual_seed(2)
    return torch.randn(batch, length, WIDTH, dtype=torch.float64, generator=stream)


def penalty_of(mixer: Any, x: Tensor, state: Any = None) -> Tensor:
    mixer(x, state)
    found: Tensor = mixer.auxiliary_loss(1)
    return found


def gates(name: str, m: Any, x: Tensor) -> Tensor:
    """Every gate of a text, from its formula."""
    if name == "ssd":
        return softplus(affine(m.step, x))
    if name in ("gated_slots", "gated_linear", "routed_slots"):
        return 1 - decays(name, m, x, {})
    return strengths(m, x)[0]


def test_every_mixer_with_a_penalty_has_its_gate_here() -> None:
    assert {name for name, kind in MIXERS.items() if "gate_penalty" in parameters_of(kind)} == {
        *GATES
    }


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("name", sorted(GATES.keys() - {"sparse_delta"}))
def test_the_penalty_is_the_sum_of_the_gates(
    name: str, serial: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces_of(16 * BATCH, monkeypatch)
    mixer, x = made(name, serial=serial), drawn()
    expected = x.new_zeros(())
    for text in x:
        expected = expected + 0.25 * gates(name, mixer, text).sum() / BATCH
    torch.testing.assert_close(penalty_of(mixer, x), expected, rtol=1e-12, atol=0)
    parameters = dict(mixer.named_parameters())
    own = [parameters[key] for key in sorted(GATES[name])]
    found = torch.autograd.grad(penalty_of(mixer, x), own)
    torch.testing.assert_close(found, torch.autograd.grad(expected, own), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", GATES)
def test_the_penalty_moves_the_gate_and_nothing_else(name: str) -> None:
    mixer = made(name, short_convolution=True)
    penalty_of(mixer, drawn()).backward()
    moved = {
        key for key, p in mixer.named_parameters() if p.grad is not None and p.grad.abs().max() > 0
    }
    assert moved == GATES[name]


@pytest.mark.parametrize("name", GATES)
def test_the_penalty_leaves_outputs_states_and_the_gradient_of_the_loss_as_they_are(
    name: str,
) -> None:
    found = []
    for penalty in (0.0, 0.25):
        mixer, x = made(name, penalty, short_convolution=True), drawn().requires_grad_()
        y, state = mixer(x)
        loss = y.square().sum() + sum(part.square().sum() for part in state)
        weights = [p for p in mixer.parameters() if p.requires_grad]
        found.append([y, *state, *torch.autograd.grad(loss, [x, *weights])])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("name", GATES)
def test_a_text_read_in_parts_has_the_penalty_of_the_whole(name: str) -> None:
    mixer, x, state = made(name, short_convolution=True), drawn(), None
    whole = penalty_of(mixer, x).item()
    for part in x.split([17, 20, 3], dim=1):
        _, state = mixer(part, state)
    assert mixer.auxiliary_loss(1).item() == pytest.approx(whole, rel=1e-12)

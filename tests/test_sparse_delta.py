"""The sparse delta memory: its formula, exact zeros, and what a shut gate still learns."""

import math
from typing import Any

import pytest
import torch

from rulekeep.mixers import Delta, SparseDelta

WIDTH = 8


def drawn(time: int, *, seed: int = 1) -> torch.Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(1, time, WIDTH, dtype=torch.float64, generator=stream)


def shut(mixer: SparseDelta, bias: float = -5.0) -> SparseDelta:
    """Gates that no input of this size opens."""
    with torch.no_grad():
        mixer.write.bias.fill_(bias)
        mixer.write.weight.mul_(0.1)
        mixer.write_before.weight.mul_(0.1)
    return mixer


@pytest.mark.parametrize("taps", [1, 2, 8])
def test_what_the_gate_sees_of_the_tokens_before_has_its_true_gradient(taps: int) -> None:
    mixer = SparseDelta(
        WIDTH, heads=2, gate_kernel=taps, zero_init_kernel=False, gate_penalty=0
    ).double()
    weights = [mixer.write.weight, mixer.write.bias]
    weights += [mixer.write_before.weight] if taps > 1 else []
    for time in (1, 5, 11):
        x = drawn(time).requires_grad_()
        pending = drawn(taps - 1)[..., :2].clone().requires_grad_()

        def sums(*_: torch.Tensor, x: torch.Tensor = x, pending: torch.Tensor = pending) -> Any:
            return mixer._gate_sums(x, pending)

        assert torch.autograd.gradcheck(sums, (x, pending, *weights))


@pytest.mark.parametrize("serial", [True, False])
@pytest.mark.parametrize("convolved", [True, False])
def test_it_reads_and_writes_as_its_formula_says(serial: bool, convolved: bool) -> None:
    mixer = SparseDelta(
        WIDTH, heads=1, zero_init_kernel=False, short_convolution=convolved, serial=serial
    ).double()
    x = drawn(40)
    memory, outputs, gates = torch.zeros(8, 8).double(), [], []
    taps = [mixer.write.weight, *mixer.write_before.weight.split(1)]
    assert len(taps) == 8
    parts = x[0] @ mixer.in_projection.weight.T
    for t in range(len(parts)):
        q, k, v = parts[t].split(8)
        if convolved:
            seen = zip(mixer.convolution, range(t - 3, t + 1), strict=True)
            q, k, v = sum(tap * parts[at] for tap, at in seen if at >= 0).split(8)
            v = v * v.sigmoid()
        q, k = (part * part.sigmoid() for part in (q, k))
        q, k = q / q.norm(), k / k.norm()
        read = memory.T @ q
        outputs.append(
            mixer.out_projection.weight @ (read / (read.square().mean() + 1e-5 / 8).sqrt())
            + mixer.out_projection.bias
        )
        z = mixer.write.bias + sum(tap @ x[0, t - j] for j, tap in enumerate(taps) if j <= t)
        gates.append((1.2 * z.sigmoid() - 0.1).clamp(0, 1).item())
        memory = memory + gates[-1] * torch.outer(k, v - memory.T @ k)
    y, state = mixer(x)
    # The layer's norms add a little under their roots.
    assert torch.allclose(y[0], torch.stack(outputs), rtol=0, atol=1e-3)
    assert torch.allclose(state.memory[0, 0], memory, rtol=0, atol=1e-4)
    assert mixer.write_strength(x)[0, :, 0].tolist() == pytest.approx(gates, abs=1e-12)


def test_with_every_change_undone_it_is_the_delta_rule() -> None:
    options = {
        "gate_stretch": 0.0,
        "gate_kernel": 1,
        "read_first": False,
        "gate_penalty": 0,
        "short_convolution": False,
    }
    mixer, delta = SparseDelta(WIDTH, heads=2, **options).double(), Delta(WIDTH, heads=2).double()
    mixer.load_state_dict(delta.state_dict())
    x = drawn(70)
    assert torch.equal(mixer(x)[0], delta(x)[0])
    assert torch.equal(mixer(x)[1].memory, delta(x)[1].memory)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_shut_gate_leaves_the_memory_as_it_was_bit_for_bit(dtype: torch.dtype) -> None:
    mixer = SparseDelta(WIDTH, heads=2, zero_init_kernel=False).to(dtype)
    _, state = mixer(drawn(30).to(dtype))
    assert state.memory.abs().max() > 0.1
    _, later = shut(mixer)(drawn(1000, seed=2).to(dtype), state)
    assert torch.equal(later.memory, state.memory)
    with torch.no_grad():
        mixer.write.bias.fill_(50.0)
    assert torch.equal(mixer.write_strength(drawn(30).to(dtype)).unique(), torch.ones(1).to(dtype))


@pytest.mark.parametrize("straight_through", [True, False])
def test_a_shut_gate_still_learns_unless_the_clip_stops_it(straight_through: bool) -> None:
    mixer = shut(
        SparseDelta(
            WIDTH, heads=2, zero_init_kernel=False, straight_through=straight_through
        ).double()
    )
    y, _ = mixer(drawn(40))
    (y * drawn(40, seed=3)).sum().backward()
    assert bool(mixer.write.bias.grad.abs().min() > 0) == straight_through


def test_backward_is_that_of_the_gate_without_its_clip() -> None:
    mixer = SparseDelta(
        WIDTH, heads=2, gate_kernel=2, zero_init_kernel=False, gate_penalty=0
    ).double()
    x = drawn(40).mul_(4).requires_grad_()
    gate = mixer.write_strength(x)
    assert {0.0, 1.0} < set(gate.flatten().tolist())
    direction = torch.randn_like(gate)
    (found,) = torch.autograd.grad((gate * direction).sum(), x)
    z = mixer.write(x) + mixer.write_before(torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1))
    (expected,) = torch.autograd.grad((1.2 * z.sigmoid() * direction).sum(), x)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tap", [1, 2, 3])
def test_a_cue_opens_the_gate_of_a_token_after_it_across_pieces_too(tap: int) -> None:
    mixer = shut(SparseDelta(WIDTH, heads=2).double())
    cue = torch.zeros(WIDTH, dtype=torch.float64)
    cue[0] = 1
    with torch.no_grad():
        # Taps 1, 2 and 3 in turn, a row for each head.
        mixer.write_before.weight.zero_()
        mixer.write_before.weight[2 * tap - 2 : 2 * tap].copy_(20 * cue.expand(2, -1))
    x = drawn(9).clamp(-0.1, 0.1)
    x[0, 4] = cue
    opened = mixer.write_strength(x)[0].min(dim=-1).values
    assert opened.gt(0).nonzero().flatten().tolist() == [4 + tap]
    state = None
    for t in range(9):
        _, state = mixer(x[:, t : t + 1], state)
        assert bool(state.memory.abs().max() > 0) == (t >= 4 + tap)
    # Cut after the cue.
    _, state = mixer(x[:, :5])
    torch.testing.assert_close(
        mixer.write_strength(x[:, 5:], state), mixer.write_strength(x)[:, 5:]
    )


@pytest.mark.parametrize("zero_init_kernel", [True, False])
def test_at_first_a_gate_sees_its_own_token_alone_unless_its_taps_are_drawn(
    zero_init_kernel: bool,
) -> None:
    mixer = SparseDelta(WIDTH, heads=2, zero_init_kernel=zero_init_kernel).double()
    x = drawn(40)
    alone = mixer.write_strength(x.transpose(0, 1)).transpose(0, 1)
    assert torch.equal(mixer.write_strength(x), alone) == zero_init_kernel
    mixer.write_strength(x).sum().backward()
    assert mixer.write_before.weight.grad.abs().min() > 0


@pytest.mark.parametrize("margin", [0.0, 0.8])
@pytest.mark.parametrize("straight_through", [True, False])
def test_a_penalty_is_the_gradient_of_the_sum_of_the_gates_down_to_the_margin(
    straight_through: bool, margin: float
) -> None:
    options = {
        "heads": 2,
        "zero_init_kernel": False,
        "straight_through": straight_through,
        "penalty_margin": margin,
    }
    plain = SparseDelta(WIDTH, gate_penalty=0, **options).double()
    penalised = SparseDelta(WIDTH, gate_penalty=0.01, penalty_start=0, **options).double()
    penalised.load_state_dict(plain.state_dict())
    x = torch.cat([drawn(40), drawn(40, seed=2), drawn(40, seed=3)]).mul_(3)
    z = plain._gate_sums(x, None)[0]
    # What is clipped to give the gate: 1.2 sigmoid(z) - 0.1. It is 1 at z = log(11), where its
    # slope is 1.2 * 11/12 * 1/12, and goes on by that slope.
    unclipped = 1.2 * z.sigmoid() - 0.1
    open_at = math.log(11)
    assert 0 < (z > open_at).sum() < z.numel()
    charged = torch.where(z > open_at, 1 + 1.1 / 12 * (z - open_at), unclipped)
    paying = unclipped > -0.1 * margin
    assert not paying.all()
    assert (unclipped[paying] > 0).all() == (margin == 0)
    penalty = 0.01 * charged[paying].sum() / len(x)
    outputs = []
    for mixer in (plain, penalised):
        outputs.append(mixer(x)[0])
        term = penalty if mixer is plain else mixer.auxiliary_loss(1)
        (outputs[-1].square().sum() + term).backward()
    assert torch.equal(*outputs)
    for mine, expected in zip(penalised.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine.grad, expected.grad, rtol=0, atol=1e-12)


def taught(mixer: SparseDelta, x: torch.Tensor, step: int = 1, **options: Any) -> torch.Tensor:
    """The penalty of a forward pass, for which there must be one."""
    mixer(x, **options)
    penalty = mixer.auxiliary_loss(step)
    assert penalty is not None
    return penalty


def bias_gradient(mixer: SparseDelta, loss: torch.Tensor) -> torch.Tensor:
    (found,) = torch.autograd.grad(loss, mixer.write.bias)
    return found


def test_a_penalty_is_its_own_slope() -> None:
    mixer = SparseDelta(WIDTH, heads=2, zero_init_kernel=False, penalty_start=0).double()
    x = drawn(12).mul_(3).requires_grad_()

    def penalty(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return taught(mixer, x)

    assert torch.autograd.gradcheck(penalty, (x, mixer.write.weight, mixer.write.bias))


def test_a_penalty_is_a_mean_over_the_batch_and_a_sum_over_tokens() -> None:
    mixer = SparseDelta(WIDTH, heads=2, zero_init_kernel=False, penalty_start=0).double()
    one, other = drawn(40), drawn(40, seed=2)
    both = taught(mixer, torch.cat([one, other])).item()
    assert both == pytest.approx((taught(mixer, one) + taught(mixer, other)).item() / 2)
    assert taught(mixer, torch.cat([one] * 4)).item() == pytest.approx(taught(mixer, one).item())


@pytest.mark.parametrize("pieces", [[40], [1] * 40, [17, 20, 3]])
def test_a_text_that_is_read_in_pieces_pays_as_the_whole_does(pieces: list[int]) -> None:
    mixer = SparseDelta(WIDTH, heads=2, zero_init_kernel=False, penalty_start=0).double()
    whole = taught(mixer, drawn(40))
    expected, state = bias_gradient(mixer, whole), None
    for piece in drawn(40).split(pieces, dim=1):
        _, state = mixer(piece, state)
    found = mixer.auxiliary_loss(1)
    assert found.item() == pytest.approx(whole.item(), rel=1e-12)
    assert torch.allclose(bias_gradient(mixer, found), expected, rtol=1e-12, atol=0)


def test_a_text_that_another_one_is_read_after_pays_no_more() -> None:
    mixer = SparseDelta(WIDTH, heads=2, penalty_start=0).double()
    expected = taught(mixer, drawn(40)).item()
    _, state = mixer(drawn(30, seed=2))
    assert taught(mixer, drawn(40)).item() == expected
    # Nor one whose state was cut off from the graph, as truncated backpropagation does.
    cut = type(state)(*(part.detach() for part in state))
    assert taught(mixer, drawn(9), state=cut).item() < expected


def test_the_first_steps_are_free_of_penalty() -> None:
    mixer = SparseDelta(WIDTH, heads=2, penalty_start=3).double()
    mixer(drawn(40))
    assert [mixer.auxiliary_loss(step) is None for step in range(1, 6)] == [True] * 3 + [False] * 2


def test_there_is_no_penalty_in_evaluation_and_none_without_gradients() -> None:
    mixer = SparseDelta(WIDTH, heads=2, penalty_start=0).double().eval()
    (0 * mixer(drawn(40))[0].sum()).backward()
    assert mixer.write.bias.grad.abs().max() == 0
    assert mixer.auxiliary_loss(1) is None
    with torch.no_grad():
        mixer.train()(drawn(40))
    assert mixer.auxiliary_loss(1) is None

"""The published layers, written a token at a time from their papers and code: `published=true`.

Outputs, states and every gradient in float64. Where the package fla is installed, its plain-torch
recurrences take the place of those written here.
"""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_pieces import pieces_of
from torch import Tensor
from torch.nn import functional as F

from rulekeep.mixers import MIXERS
from rulekeep.mixers.base import start_step
from rulekeep.mixers.published import PUBLISHED

WIDTH, HEADS, TIME = 16, 2, 43
# Channels of a key and of a head's values at this width.
KEYS = {"ssd": 32, "retnet": 8, "gated_linear": 4, "gated_delta": 6, "kda": 8, "gated_delta_2": 8}
VALUES = {"ssd": 16, "retnet": 16, "gated_delta": 12}
CHANNELS = ("kda", "gated_delta_2")
DELTA = ("gated_delta", *CHANNELS)
SLOTS = ("gated_slots", "routed_slots")
OPTIONS: dict[str, dict[str, Any]] = {
    "gated_slots": {"slots": 6},
    "routed_slots": {"slots": 6, "top_k": 3},
}
Core = Callable[..., tuple[Tensor, list[Tensor]]]


def made(name: str, **options: Any) -> Any:
    """A published mixer with weights of no particular value."""
    torch.manual_seed(2)
    m = MIXERS[name](WIDTH, heads=HEADS, published=True, **OPTIONS.get(name, {}), **options)
    with torch.no_grad():
        for parameter in m.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return m.double()


def rms(x: Tensor) -> Tensor:
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-5)


def convolved(m: Any, x: Tensor) -> Tensor:
    """silu of a causal depthwise convolution of 4 places, through torch's own."""
    y = F.conv1d(
        F.pad(x.mT, (3, 0)), m.convolution.T.unsqueeze(1), m.convolution_bias, groups=x.shape[-1]
    )
    return F.silu(y.mT)


def parts_of(name: str, m: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Queries, keys and values `[batch, time, heads, k]` before the recurrence, and the gate."""
    heads = 1 if name == "ssd" else HEADS
    keys, values = KEYS.get(name, WIDTH // HEADS), HEADS * VALUES.get(name, WIDTH // HEADS)
    both = x @ m.in_projection.weight.T
    qkv, gate = both[..., : 2 * heads * keys + values], both[..., 2 * heads * keys + values :]
    if name == "ssd" or name in DELTA:
        qkv = convolved(m, qkv)
    q, k, v = qkv.split([heads * keys, heads * keys, values], -1)
    q, k = (part.unflatten(-1, (heads, keys)).expand(-1, -1, HEADS, -1) for part in (q, k))
    v = v.unflatten(-1, (HEADS, -1))
    if name in SLOTS:
        q, k, v = F.silu(q), F.silu(k), F.silu(v)
    if name == "routed_slots":
        q, k = (
            rms(part) * weight / math.sqrt(keys)
            for part, weight in zip((q, k), m.key_norm_weight, strict=True)
        )
    if name in DELTA:
        q, k = (part * torch.rsqrt(part.square().sum(-1, keepdim=True) + 1e-6) for part in (q, k))
    if name == "retnet":
        q, k = turned(q, 1), turned(k, 1)
    return q, k, v, gate if gate.shape[-1] else None


def turned(x: Tensor, sign: int, places: Tensor | None = None) -> Tensor:
    """Pairs of channels as complex numbers, turned by 10,000^(−c / (half − 1)) a token."""
    half = x.shape[-1] // 2
    angle = 10_000 ** -(torch.arange(half, dtype=torch.float64) / (half - 1))
    places = torch.arange(x.shape[1]) if places is None else places
    turn = torch.polar(torch.ones(1, dtype=torch.float64), sign * places[:, None] * angle)
    z = torch.complex(x[..., :half], x[..., half:]) * turn[:, None]
    return torch.cat([z.real, z.imag], -1)


def log_decays(name: str, m: Any, x: Tensor) -> Tensor:
    """g of each token, `[batch, time, heads, 1, key width or slots]`."""
    if name == "retnet":
        g = torch.log(1 - 2.0 ** -(5.0 + torch.arange(HEADS, dtype=torch.float64)))
        return g.view(1, 1, HEADS, 1).expand(*x.shape[:2], -1, -1)
    if name == "gated_linear":
        return F.logsigmoid(m.decay(x)).unflatten(-1, (HEADS, -1)) / 16
    if name == "gated_slots":
        return F.logsigmoid(x @ m.gate.weight.T).unflatten(-1, (HEADS, -1)) / 8
    step = F.softplus(m.step(x))
    if name in CHANNELS:
        return -m.log_rate.exp() * step.unflatten(-1, (HEADS, -1))
    g = -(m.log_rate.exp() * step).unsqueeze(-1)
    if name == "routed_slots":
        scores = torch.sigmoid(x @ m.router.weight.T).unflatten(-1, (HEADS, -1))
        chosen = torch.zeros_like(scores).scatter(-1, scores.topk(3, -1).indices, 1.0)
        return g * scores * chosen / (scores * chosen).sum(-1, keepdim=True)
    return g


def layer(name: str, m: Any, x: Tensor, core: Core) -> tuple[Tensor, list[Tensor]]:
    """The published layer: outputs, and the state after the last token."""
    q, k, v, gate = parts_of(name, m, x)
    g = log_decays(name, m, x)
    beta = torch.sigmoid(x @ m.write.weight.T) if name in DELTA else None
    if name == "gated_delta_2":
        assert beta is not None
        v, beta = v * beta.view_as(v), torch.sigmoid(x @ m.erase.weight.T).view_as(k)
    written = F.softplus(m.step(x)).unsqueeze(-1) * v if name == "ssd" else v
    read, state = core(name, q, k, written, g, beta)
    weight = m.norm_weight / math.sqrt(v.shape[-1])
    if name == "ssd":
        read = rms(((read + m.skip * v).flatten(-2)) * F.silu(gate))
        read = read * m.norm_weight.flatten() / math.sqrt(read.shape[-1])
    elif name == "gated_slots":
        read = rms(F.silu(read).flatten(-2)) * m.norm_weight.flatten() / math.sqrt(WIDTH)
    else:
        read = (rms(F.silu(read) if name == "routed_slots" else read) * weight).flatten(-2)
        if name in CHANNELS:
            gate = m.low_rank_gate[1](x @ m.low_rank_gate[0].weight.T)
        assert gate is not None
        read = read * (torch.sigmoid(gate) if name == "kda" else F.silu(gate))
    if name == "retnet" and state:
        # Ours is turned to the place of the next token.
        state = [turned(state[0].mT.transpose(1, 2), -1, torch.tensor([x.shape[1]]))]
        state = [state[0].transpose(1, 2).mT]
    return read @ m.out_projection.weight.T, state


def loop(
    name: str, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """The recurrence of each layer, from its paper."""
    shape = (len(q), HEADS, g.shape[-1] if name in SLOTS else k.shape[-1])
    first = q.new_zeros(*shape, k.shape[-1] if name in SLOTS else v.shape[-1])
    second, reads = q.new_zeros(*shape, v.shape[-1]), []
    scale = 1.0 if name in ("ssd", *SLOTS) else q.shape[-1] ** -0.5
    for t in range(q.shape[1]):
        a, query, key, value = g[:, t].exp().unsqueeze(-1), q[:, t], k[:, t], v[:, t]
        if name in SLOTS:
            first = a * first + (1 - a) * key.unsqueeze(-2)
            second = a * second + (1 - a) * value.unsqueeze(-2)
            weights = torch.softmax((first @ query.unsqueeze(-1)).squeeze(-1), -1)
            reads.append((weights.unsqueeze(-2) @ second).squeeze(-2))
            continue
        first = a * first
        if beta is not None:
            erased = beta[:, t] * key if name == "gated_delta_2" else key
            held = (first.mT @ erased.unsqueeze(-1)).squeeze(-1)
            strength = 1 if name == "gated_delta_2" else beta[:, t].unsqueeze(-1)
            value = strength * (value - held)
        first = first + key.unsqueeze(-1) * value.unsqueeze(-2)
        reads.append(scale * (first.mT @ query.unsqueeze(-1)).squeeze(-1))
    return torch.stack(reads, 1), [first, second] if name in SLOTS else [first]


def compared(name: str, m: Any, core: Core) -> None:
    """Outputs, states and gradients of a mixer are those of the published layer."""
    x = torch.randn(2, TIME, WIDTH, dtype=torch.float64, requires_grad=True)
    y, after = m(x)
    expected, state = layer(name, m, x, core)
    # The decays of retnet are kept in float32.
    near = {"rtol": 1e-4, "atol": 1e-6} if name == "retnet" else {"rtol": 1e-8, "atol": 1e-10}
    torch.testing.assert_close(y, expected, **near)
    for found, wanted in zip(after, state, strict=False):
        torch.testing.assert_close(found, wanted, **near)
    leaves = {"x": x, **dict(m.named_parameters())}
    weight = torch.randn_like(y)
    found, wanted = (
        torch.autograd.grad((out * weight).sum(), [*leaves.values()], materialize_grads=True)
        for out in (y, expected)
    )
    for leaf, one, other in zip(leaves, found, wanted, strict=True):
        torch.testing.assert_close(one, other, **near, msg=lambda said, n=leaf: f"{n}: {said}")


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("serial", [False, True])
def test_a_published_layer_is_that_of_its_paper(
    name: str, serial: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces_of(64, monkeypatch)
    compared(name, made(name, serial=serial), loop)


FLA = {
    "ssd": ("simple_gla", "naive_recurrent_simple_gla"),
    "retnet": ("retention", "naive_retention"),
    "gated_linear": ("gla", "naive_recurrent_gla"),
    "gated_delta": ("gated_delta_rule", "naive_recurrent_gated_delta_rule"),
    "kda": ("kda", "naive_recurrent_kda"),
    "gated_slots": ("gsa", "naive_recurrent_gsa"),
    "routed_slots": ("gsa", "naive_recurrent_gsa"),
}


def of_fla(
    name: str, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """The same recurrences in the plain torch of fla, loaded without the rest of it."""
    found = importlib.util.find_spec("fla")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package fla is not installed")
    pytest.importorskip("einops")
    folder, function = FLA[name]
    path = Path(found.submodule_search_locations[0]) / "ops" / folder / "naive.py"
    spec = importlib.util.spec_from_file_location(f"fla_{folder}_naive", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = getattr(module, function)
    if name == "retnet":
        read = run(*(part.transpose(1, 2) for part in (q, k, v)))
        return read.transpose(1, 2), []
    if name in SLOTS:
        read, (keys, values) = run(q, k, v, 1 - g.exp(), g, scale=1.0, output_final_state=True)
        return read, [keys.mT, values]
    if name == "ssd":
        read, memory = run(q, k, v, g.squeeze(-1), scale=1.0)
    elif name == "gated_linear":
        read, memory = run(q, k, v, g, output_final_state=True)
    elif name == "gated_delta":
        read, memory = run(q, k, v, beta, g.squeeze(-1), output_final_state=True)
    else:
        read, memory = run(q, k, v, g, beta, output_final_state=True)
    return read, [memory]


@pytest.mark.parametrize("name", FLA)
def test_a_published_layer_has_the_recurrence_of_fla(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = made(name)
    # Their functions go to float32: here to float64.
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(torch, "float", torch.float64)
    monkeypatch.setattr(torch, "float32", torch.float64)
    compared(name, m, of_fla)


def noisy(**options: Any) -> Any:
    m = made("routed_slots", **options)
    start_step(m, 1)
    return m


def test_routes_have_noise_in_training_alone() -> None:
    m, x = noisy(), torch.randn(2, TIME, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        still = m(x)[0]
    trained = m(x)[0]
    assert not torch.equal(trained, still)
    # A step that is begun again, as after a resumption, draws the same.
    assert torch.equal(m(x)[0], trained)
    start_step(m, 2)
    assert not torch.equal(m(x)[0], trained)
    m.eval()
    torch.testing.assert_close(m(x)[0], still)


def test_noise_is_gumbels() -> None:
    noise = noisy()._noise(torch.Size([40, 500]), 0)
    # Euler's constant and pi squared over 6, four standard errors of 240,000 draws around.
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.011)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.03)


def test_noise_differs_between_layers_and_places() -> None:
    one, other, size = noisy(), noisy(), torch.Size([2, 16])
    other._stream += 1
    assert not torch.equal(one._noise(size, 0), other._noise(size, 0))
    assert not torch.equal(one._noise(size, 0), one._noise(size, 16))


def test_the_backward_pass_meets_the_noise_of_the_forward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces_of(64, monkeypatch)
    m, step = noisy(), 1e-6
    x, weight = (torch.randn(2, TIME, WIDTH, dtype=torch.float64) for _ in range(2))
    leaf = m.step.weight
    direction = torch.randn_like(leaf)
    (gradient,) = torch.autograd.grad((m(x)[0] * weight).sum(), leaf)
    moved = []
    for sign in (1, -1):
        with torch.no_grad():
            leaf.add_(sign * step * direction)
        moved.append((m(x)[0] * weight).sum().item())
        with torch.no_grad():
            leaf.sub_(sign * step * direction)
    measured = (moved[0] - moved[1]) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(measured, rel=1e-6)


@pytest.mark.parametrize("name", ["ssd", *DELTA, "routed_slots"])
def test_steps_start_as_published(name: str) -> None:
    options = {} if name in CHANNELS else {"heads": 64}
    torch.manual_seed(1)
    m: Any = MIXERS[name](64, published=True, **options)
    bias = (m.step[1] if name in CHANNELS else m.step).bias
    steps, rates = F.softplus(bias), m.log_rate.exp()
    assert 1e-3 <= steps.min() < 2e-3 < 0.05 < steps.max() <= 0.1
    assert (0 if name in ("gated_delta", "routed_slots") else 1) < rates.min()
    assert 8 < rates.max() <= 16


def test_a_start_stands_without_the_other_parts_and_the_parts_without_it() -> None:
    m: Any = MIXERS["gated_slots"](64, decay_start="published")
    assert m.memory_half_life_tokens < 40
    assert m.gate.bias is None
    m = MIXERS["gated_slots"](64, published=True, decay_start="half_life")
    assert m.memory_half_life_tokens == pytest.approx(1024, rel=1e-3)
    m = MIXERS["routed_slots"](64, published=True, decay_start="half_life")
    assert m.memory_half_life_tokens == pytest.approx(1024, rel=1e-3)
    assert m.step.bias.max() < -2
    m = MIXERS["retnet"](64, published=True)
    # 1 - 2^-8 of the last of four heads.
    assert m.memory_half_life_tokens == pytest.approx(177.1, rel=1e-3)

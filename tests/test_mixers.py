"""The contract of every mixer, and each fast form against the loop written from the formula."""

from functools import partial

import pytest
import torch

from rulekeep.mixers import MIXERS, Attention, Mixer, Slots
from rulekeep.mixers import attention as attention_module
from rulekeep.mixers.attention import alibi_attention, causal_attention, causal_attention_loop
from rulekeep.mixers.slots import SlotState
from rulekeep.positions import rotate

LENGTHS = [1, 7, 8, 9, 64, 257, 1028]
GATES = ["drawn", "zero", "one", "mixed"]


def values_and_gradients(function, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    stream = torch.Generator().manual_seed(5)
    loss = sum(
        (out * torch.randn(out.shape, generator=stream, dtype=out.dtype)).sum() for out in outputs
    )
    gradients = torch.autograd.grad(loss, inputs)
    return [*outputs, *gradients]


# With a batch of 700, a piece of what is computed at once is a single round.
@pytest.mark.parametrize(
    ("batch", "length"), [*((3, length) for length in LENGTHS), (700, 7), (700, 9), (700, 64)]
)
@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_parallel_slots_are_the_loop(
    length: int, gates: str, dtype: torch.dtype, batch: int
) -> None:
    fast, slow = Slots(16).to(dtype), Slots(16, serial=True).to(dtype)
    if gates != "drawn":
        # Logits so large that the sigmoid is exactly 0 or 1.
        sign = {"zero": -1.0, "one": 1.0}.get(gates)
        with torch.no_grad():
            fast.in_projection.weight[:16] *= 0 if sign else 1e6
            fast.in_projection.bias[:16] = 1e6 * (sign or 0)
    slow.load_state_dict(fast.state_dict())
    x = torch.randn(batch, length, 16, dtype=dtype)
    slots = torch.randn(batch, 8, 16, dtype=dtype)
    results = []
    for mixer in (fast, slow):
        leaves = [x.clone().requires_grad_(), slots.clone().requires_grad_()]
        y, state = mixer(leaves[0], SlotState(leaves[1]))
        stream = torch.Generator().manual_seed(5)
        loss = sum(
            (out * torch.randn(out.shape, generator=stream, dtype=dtype)).sum()
            for out in (y, state.slots)
        )
        gradients = torch.autograd.grad(loss, [*leaves, *mixer.parameters()])
        results.append([y, state.slots, *gradients])
    for a, b in zip(*results, strict=True):
        # A logit of 1e6 is rounded by 1e-10, and the gradient multiplies that by 1e6 where the
        # gate happens to be open by half.
        exact = 1e-6 if gates == "mixed" else 1e-9
        largest = max(b.abs().max().item(), 1e-30)
        atol = exact if dtype == torch.float64 else 1e-5 * largest
        assert torch.allclose(a, b, rtol=0, atol=atol), ((a - b).abs().max(), largest)


@pytest.mark.parametrize(("time", "total"), [(1, 1), (9, 9), (64, 64), (1, 33), (7, 33)])
def test_fused_attention_is_the_loop(time: int, total: int) -> None:
    queries = torch.randn(2, 4, time, 8, dtype=torch.float64, requires_grad=True)
    keys, values = (
        torch.randn(2, 4, total, 8, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    fast = values_and_gradients(causal_attention, [queries, keys, values])
    slow = values_and_gradients(causal_attention_loop, [queries, keys, values])
    for a, b in zip(fast, slow, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-9)


def turned(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    total = keys.shape[2]
    places = torch.arange(total)
    return causal_attention(
        rotate(queries, places[total - queries.shape[2] :], 100.0),
        rotate(keys, places, 100.0),
        values,
    )


@pytest.mark.parametrize("biases_at_once", [2**22, 500])
@pytest.mark.parametrize(("time", "total"), [(1, 1), (9, 9), (64, 64), (1, 33), (7, 33), (40, 50)])
def test_attention_with_positions_is_the_loop(
    time: int, total: int, biases_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_module, "_BIASES_AT_ONCE", biases_at_once)
    queries = torch.randn(2, 4, time, 8, dtype=torch.float64, requires_grad=True)
    keys, values = (
        torch.randn(2, 4, total, 8, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    for fast, options in ((turned, {"rotary_base": 100.0}), (alibi_attention, {"alibi": True})):
        slow = partial(causal_attention_loop, **options)
        pairs = (values_and_gradients(form, [queries, keys, values]) for form in (fast, slow))
        for a, b in zip(*pairs, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-9)


def test_rotary_scores_depend_on_distance_alone_even_far_into_a_text() -> None:
    x, y = torch.randn(2, 1, 1, 1, 16).unbind()
    scores = [
        (rotate(x, torch.tensor([t]), 1e4) * rotate(y, torch.tensor([t - 5]), 1e4)).sum()
        for t in (5, 1_000, 1_000_000)
    ]
    assert torch.allclose(torch.stack(scores), scores[0].expand(3), rtol=0, atol=1e-5)


# Options that change what a mixer computes: each such mixer meets the contract as well.
VARIANTS: dict[str, tuple[str, dict]] = {
    "slots serial": ("slots", {"serial": True}),
    "attention rotary": ("attention", {"positions": "rotary"}),
    "attention alibi": ("attention", {"positions": "alibi"}),
    **{
        f"{name} convolved": (name, {"short_convolution": True})
        for name in ("linear_attention", "ssd", "delta", "routed_slots")
    },
    "window": ("sliding_window", {"window": 5, "sinks": 2, "positions": "rotary"}),
    "window without sinks": ("sliding_window", {"window": 50, "sinks": 0}),
}


@pytest.fixture(params=[*MIXERS, *VARIANTS])
def mixer(request: pytest.FixtureRequest) -> Mixer:
    name, options = VARIANTS.get(request.param, (request.param, {}))
    return MIXERS[name](16, **options).double()


@pytest.mark.parametrize("split", [[33], [1] * 33, [8, 8, 17], [13, 20], [32, 1]])
def test_any_split_gives_what_the_whole_gives(mixer: Mixer, split: list[int]) -> None:
    x = torch.randn(3, 33, 16, dtype=torch.float64, requires_grad=True)
    whole, whole_state = mixer(x)
    state, pieces = None, []
    for piece in x.split(split, dim=1):
        y, state = mixer(piece, state)
        pieces.append(y)
    joined = torch.cat(pieces, dim=1)
    assert torch.allclose(joined, whole, rtol=0, atol=1e-10)
    for a, b in zip(state, whole_state, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-10)
    leaves = [x, *mixer.parameters()]
    for a, b in zip(
        torch.autograd.grad(joined.square().sum(), leaves),
        torch.autograd.grad(whole.square().sum(), leaves),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=0, atol=1e-9)


def test_no_state_means_the_initial_state(mixer: Mixer) -> None:
    x = torch.randn(3, 11, 16, dtype=torch.float64)
    assert torch.equal(mixer(x)[0], mixer(x, mixer.init_state(3))[0])


@pytest.mark.parametrize("last", [1, 7, 8, 21])
def test_tail_is_the_end_of_the_whole(mixer: Mixer, last: int) -> None:
    x = torch.randn(3, 21, 16, dtype=torch.float64, requires_grad=True)
    leaves = [x, *mixer.parameters()]
    results = []
    for y in (mixer(x)[0][:, -last:], mixer.tail(x, last)):
        results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-9)


def test_mixers_are_causal_and_rows_independent(mixer: Mixer) -> None:
    x = torch.randn(3, 30, 16, dtype=torch.float64)
    changed = x.clone()
    changed[:, 17:] += 1
    assert torch.allclose(mixer(x)[0][:, :17], mixer(changed)[0][:, :17], rtol=0, atol=1e-12)
    assert torch.allclose(mixer(x)[0][1:2], mixer(x[1:2])[0], rtol=0, atol=1e-12)


def test_mixers_change_neither_input_nor_state(mixer: Mixer) -> None:
    x = torch.randn(3, 9, 16, dtype=torch.float64)
    _, state = mixer(x)
    kept = x.clone(), [tensor.clone() for tensor in state]
    mixer(x, state)
    assert torch.equal(x, kept[0])
    assert all(torch.equal(a, b) for a, b in zip(state, kept[1], strict=True))


def test_gradient_reaches_the_first_token(mixer: Mixer) -> None:
    x = torch.randn(2, 40, 16, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(mixer(x)[0][:, -1].sum(), x)
    assert gradient[:, 0].abs().max() > 0


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="heads 3: must divide the width 16"):
        Attention(16, heads=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 0}, "heads 0: must divide the width 16"),
        ({"positions": "learned"}, "positions 'learned': choose from none, rotary, alibi"),
        ({"heads": 16, "positions": "rotary"}, "heads of 1 channels, must be even"),
        ({"positions": "rotary", "rotary_base": 1.0}, "rotary_base 1.0: must be above 1"),
    ],
)
def test_attention_says_what_is_wrong_with_an_option(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Attention(16, **options)


def test_half_lives_of_what_is_not_a_matrix() -> None:
    assert Attention(16).memory_half_life_tokens == float("inf")
    slots = Slots(16)
    torch.nn.init.zeros_(slots.in_projection.bias)
    # A gate of a half in a slot that is written every 8 tokens.
    assert slots.memory_half_life_tokens == pytest.approx(8)

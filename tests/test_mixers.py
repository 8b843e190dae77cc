"""Fast forms against the loop written from the formula: the article's slots, and attention."""

import math
from functools import partial

import pytest
import torch

from rulekeep.kernels import positions
from rulekeep.kernels.positions import (
    RotaryScaling,
    Scaling,
    alibi_slopes,
    drawn_places,
    rotate,
)
from rulekeep.mixers import MIXERS, Attention, MatrixMixer, Slots, softmax
from rulekeep.mixers import slots as slots_module
from rulekeep.mixers.attention import _alibi, causal_attention
from rulekeep.mixers.base import start_step
from rulekeep.mixers.slots import SlotState
from rulekeep.mixers.softmax import in_blocks
from rulekeep.registry import options_of

ROTARY = {"positions": "rotary", "rotary_base": 100.0}
SCALED = {**ROTARY, "scaling": "ntk", "trained_length": 48}


def values_and_gradients(function, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    stream = torch.Generator().manual_seed(5)
    loss = sum(
        (out * torch.randn(out.shape, generator=stream, dtype=out.dtype)).sum() for out in outputs
    )
    gradients = torch.autograd.grad(loss, inputs)
    return [*outputs, *gradients]


# The rows that are computed at once: a text in one piece, a few rounds in each, a round in each.
@pytest.mark.parametrize(
    ("dtype", "rows", "length", "gates"),
    [
        *(
            (torch.float64, *size, gates)
            for size in ((4096, 9), (4096, 257), (48, 65), (24, 7), (24, 64))
            for gates in ("drawn", "zero", "one", "mixed")
        ),
        *(
            (torch.float32, *size, gates)
            for size in ((4096, 257), (48, 65))
            for gates in ("drawn", "mixed")
        ),
        pytest.param(torch.float64, 512, 1028, "drawn", marks=pytest.mark.slow),
    ],
)
def test_parallel_slots_are_the_loop(
    length: int, gates: str, dtype: torch.dtype, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots_module, "_ROWS_AT_ONCE", rows)
    fast, slow = Slots(16).to(dtype), Slots(16, serial=True).to(dtype)
    if gates != "drawn":
        # Logits so large that the sigmoid is exactly 0 or 1.
        sign = {"zero": -1.0, "one": 1.0}.get(gates)
        with torch.no_grad():
            fast.in_projection.weight[:16] *= 0 if sign else 1e6
            fast.in_projection.bias[:16] = 1e6 * (sign or 0)
    slow.load_state_dict(fast.state_dict())
    x = torch.randn(3, length, 16, dtype=dtype)
    slots = torch.randn(3, 8, 16, dtype=dtype)
    x, slots = x.requires_grad_(), slots.requires_grad_()

    def results(mixer: Slots) -> list[torch.Tensor]:
        def read(
            x: torch.Tensor, slots: torch.Tensor, *_: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            y, state = mixer(x, SlotState(slots))
            return y, state.slots

        return values_and_gradients(read, [x, slots, *mixer.parameters()])

    for a, b in zip(results(fast), results(slow), strict=True):
        # A share of the largest value. A logit of 1e6 is rounded by 1e-10, and the gradient
        # multiplies that by 1e6 where the gate happens to be open by half.
        share = 1e-9 if dtype == torch.float64 else 1e-5
        atol = share * max(b.abs().max().item(), 1e-30)
        assert torch.allclose(a, b, rtol=0, atol=atol), (a - b).abs().max()


def turned(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    total = keys.shape[2]
    places = torch.arange(total)
    return causal_attention(
        rotate(queries, places[total - queries.shape[2] :], 100.0),
        rotate(keys, places, 100.0),
        values,
    )


def causal_attention_loop(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    rotary_base: float | None = None,
    alibi: bool = False,
) -> torch.Tensor:
    """The formula, a position at a time.

    With `rotary_base`, keys and queries come unrotated, and every key is rotated by its distance.
    """
    (heads, time), total = queries.shape[1:3], keys.shape[2]
    outputs = []
    for t in range(time):
        seen = total - time + t + 1
        distance = torch.arange(seen - 1, -1, -1, device=keys.device)
        visible = keys[:, :, :seen]
        if rotary_base is not None:
            by = positions.frequencies(keys.shape[-1], rotary_base, keys.device)
            visible = positions.turned(visible, -distance, by)
        scores = torch.einsum("bhk,bhik->bhi", queries[:, :, t], visible)
        scores = scores / math.sqrt(keys.shape[-1])
        if alibi:
            scores = scores - alibi_slopes(heads, like=scores)[:, None] * distance
        weights = torch.softmax(scores, dim=-1)
        outputs.append(torch.einsum("bhi,bhik->bhk", weights, values[:, :, :seen]))
    return torch.stack(outputs, dim=2)


def alibi_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    return in_blocks(_alibi, (queries,), (keys, values), biases=queries.shape[1])


@pytest.mark.parametrize("biases_at_once", [2**22, 500])
@pytest.mark.parametrize(("time", "total"), [(1, 1), (9, 9), (64, 64), (1, 33), (7, 33), (40, 50)])
def test_attention_is_the_loop_whatever_its_positions(
    time: int, total: int, biases_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax, "_BIASES_AT_ONCE", biases_at_once)
    queries = torch.randn(2, 4, time, 8, dtype=torch.float64, requires_grad=True)
    keys, values = (
        torch.randn(2, 4, total, 8, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    for fast, options in (
        (causal_attention, {}),
        (turned, {"rotary_base": 100.0}),
        (alibi_attention, {"alibi": True}),
    ):  # fmt: skip
        slow = partial(causal_attention_loop, **options)
        pairs = (values_and_gradients(form, [queries, keys, values]) for form in (fast, slow))
        for a, b in zip(*pairs, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-9)


def test_alibi_slopes_are_the_published_ones() -> None:
    slopes = alibi_slopes(8, like=torch.zeros((), dtype=torch.float64))
    assert slopes.tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_rotary_scores_depend_on_distance_alone_even_far_into_a_text() -> None:
    x, y = torch.randn(2, 1, 1, 1, 16).unbind()
    scores = [
        (rotate(x, torch.tensor([t]), 1e4) * rotate(y, torch.tensor([t - 5]), 1e4)).sum()
        for t in (5, 1_000, 1_000_000)
    ]
    assert torch.allclose(torch.stack(scores), scores[0].expand(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("by", ["interpolation", "ntk", "yarn"])
@pytest.mark.parametrize("trained", [256, 4096])
@pytest.mark.parametrize("k", [16, 64])
def test_scaled_angles_are_those_of_transformers(k: int, trained: int, by: Scaling) -> None:
    rope = pytest.importorskip("transformers.modeling_rope_utils")
    config = pytest.importorskip("transformers").LlamaConfig(
        hidden_size=4 * k, num_attention_heads=4, max_position_embeddings=trained
    )
    ours = RotaryScaling(by, trained)
    for factor in (2.0, 5.0, 64.0):
        name = {"interpolation": "linear", "ntk": "dynamic"}.get(by, by)
        config.rope_parameters = {
            "rope_type": name, "rope_theta": 1e4, "original_max_position_embeddings": trained,
            # Theirs grows with the text, by a slope that is ours at 1.
            "factor": 1.0 if by == "ntk" else factor,
        }  # fmt: skip
        seen = {"seq_len": int(factor * trained)} if by == "ntk" else {}
        expected, sharper = rope.ROPE_INIT_FUNCTIONS[name](config, **seen)
        found = ours.frequencies(k, 1e4, factor)
        assert torch.allclose(found.float(), expected, rtol=1e-6, atol=1e-9)
        # It multiplies queries and keys there, and scores here.
        assert ours.sharpness(factor) == pytest.approx(sharper**2, abs=1e-9)


def test_places_are_drawn_anew_at_each_step_of_a_training_and_counted_elsewhere() -> None:
    torch.manual_seed(1)
    plain = Attention(16, **ROTARY)
    drawn = Attention(16, **ROTARY, randomised_positions=500)
    drawn.load_state_dict(plain.state_dict())
    x = torch.randn(2, 40, 16)
    assert torch.equal(plain(x)[0], drawn(x)[0])
    found = []
    for step in (1, 2, 1):
        start_step(drawn, step)
        found.append(drawn(x)[0])
        places = drawn_places(40, 500, step)
        assert (places.diff() > 0).all()
        assert places[0] >= 0
        assert places[-1] < 500
        parts = plain.in_projection(x).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        queries, keys = (rotate(part, places, plain.rotary_base) for part in parts[:2])
        read = causal_attention(queries, keys, parts[2]).transpose(1, 2).flatten(2)
        assert torch.allclose(found[-1], plain.out_projection(read), rtol=0, atol=1e-6)
        assert torch.allclose(drawn.tail(x, 5), found[-1][:, -5:], rtol=0, atol=1e-6)
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert torch.equal(plain(x)[0], drawn.eval()(x)[0])
    # Over many steps each place comes as often as any other.
    often = torch.stack([drawn_places(40, 80, step) for step in range(2000)]).flatten().bincount()
    assert often.min() > 880
    assert often.max() < 1120
    with pytest.raises(ValueError, match="39: a text of 40 tokens needs as many; raise it"):
        drawn_places(40, 39, 1)


MATRIX = [name for name, kind in MIXERS.items() if issubclass(kind, MatrixMixer)]


# What the type of an option does not say by itself.
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        *((name, {"heads": 3}, "heads 3: must divide the width 16")
          for name in (*MATRIX, "attention", "sliding_window")),
        ("kda", {"half_life_tokens": None}, "half_life_tokens None: this mixer cannot"),
        ("attention", {"heads": 16, "positions": "rotary"}, "heads of 1 channels, must be even"),
        ("attention", {"scaling": "yarn"}, "'yarn': needs positions 'rotary', not 'none'"),
        ("attention", {"scaling_factor": 2.0}, "scaling_factor 2.0: needs scaling"),
        ("attention", {**ROTARY, "scaling": "yarn"}, "trained_length None: scaling needs"),
        ("attention", {**SCALED, "heads": 8}, "'ntk': heads of 2 channels, must be at least 4"),
        ("attention", {"length_scaling": "beyond"}, "trained_length None: length_scaling needs"),
        ("attention", {**SCALED, "length_scaling": "always"}, "'always': beside scaling 'ntk'"),
        ("attention", {"randomised_positions": 9}, "9: needs positions 'rotary'"),
        ("attention", {**SCALED, "randomised_positions": 9}, "9: leaves nothing to scale"),
        ("routed_slots", {"top_k": 17}, "top_k 17: must be from 1 to the 16 slots"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_said_with_its_value(
    name: str, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MIXERS[name](16, **options_of(MIXERS[name]).parse(**options).model_dump())


def test_half_lives_of_what_is_not_a_matrix() -> None:
    assert Attention(16).memory_half_life_tokens == float("inf")
    slots = Slots(16)
    torch.nn.init.zeros_(slots.in_projection.bias)
    # A gate of a half in a slot that is written every 8 tokens.
    assert slots.memory_half_life_tokens == pytest.approx(8)

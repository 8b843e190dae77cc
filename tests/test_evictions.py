"""Evictions and rounding by hand: scores of tiny tensors, odd budgets, guards, what stays.

tests/test_language.py has the same scores of a model's own cache, by loops.
"""

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scripts import script
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.kernels import evictions as small
from rulekeep.kernels import rounding
from rulekeep.kernels.positions import rotate
from rulekeep.language import evictions
from rulekeep.language.evictions import Seen
from rulekeep.mixers import Attention
from rulekeep.mixers.softmax import KVCache
from rulekeep.running.evaluation import ModelPredictor, evaluate_samples
from rulekeep.running.model import LanguageModel
from rulekeep.tasks import Recite

compressed = script("compressed", "studies")
WHOLE, Compression = compressed.WHOLE, compressed.Compression
Evicting, Rounding = compressed.Evicting, compressed.Rounding
INF = math.inf


def score(name: str, keys: Tensor, **shown: Any) -> Tensor:
    """What an eviction scores, of a layer that shows this."""
    if isinstance(whole := shown.get("attention"), Tensor):
        # Rows of queries, with the keys up to the last of them.
        shown["attending"] = lambda first, last: whole[:, :, first:last, :last]
        del shown["attention"]
    made = evictions.scored(name, Seen(shown.pop("layer", 0), keys, keys, **shown))
    assert made is not None
    return made


def keys_of(tokens: int, heads: int = 1, width: int = 2) -> Tensor:
    return torch.ones(1, heads, tokens, width)


def attention_of(*heads: list[list[float]]) -> Tensor:
    """What each query head attends to: a row a query, of which only what is not 0 is written."""
    tokens = len(heads[0])
    rows = [[[*row, *[0.0] * (tokens - len(row))] for row in head] for head in heads]
    return torch.tensor([rows])


# Four query heads over four tokens; the first two share a head of keys, and the last two.
FOUR_HEADS = attention_of(
    [[1.0], [0.5, 0.5], [0.2, 0.2, 0.6], [0.4, 0.1, 0.2, 0.3]],
    [[1.0], [1.0, 0.0], [0.0, 0.8, 0.2], [0.2, 0.3, 0.4, 0.1]],
    [[1.0], [0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.8, 0.2]],
    [[1.0], [0.4, 0.6], [0.2, 0.4, 0.4], [0.6, 0.0, 0.2, 0.2]],
)


def test_streaming_llm_keeps_four_sinks_before_any_other_and_then_the_last() -> None:
    assert score("streaming_llm", keys_of(7, 2)).tolist() == [[[INF] * 4 + [4, 5, 6]] * 2]
    assert score("streaming_llm", keys_of(3)).tolist() == [[[INF] * 3]]


def test_knorm_is_less_the_length_of_a_key() -> None:
    keys = torch.tensor([[[[3.0, 4.0], [0.0, -2.0]], [[0.6, 0.8], [5.0, 12.0]]]])
    assert score("knorm", keys)[0].tolist() == [
        [-5.0, -2.0], [pytest.approx(-1.0), -13.0]
    ]  # fmt: skip


def test_tova_is_what_the_last_token_attends_to_as_the_mean_of_all_heads() -> None:
    # Of the last rows: (0.4 + 0.2 + 0 + 0.6) / 4, (0.1 + 0.3 + 0 + 0) / 4, (0.2 + 0.4 + 0.8 + 0.2)
    # / 4. The last token itself stays, and both heads of keys are cut alike.
    (own,) = score("tova", keys_of(4, 2), attention=FOUR_HEADS).tolist()
    assert own == [[pytest.approx(0.3), pytest.approx(0.1), pytest.approx(0.4), INF]] * 2


def test_h2o_is_the_mean_over_all_later_queries_of_the_heads_that_share_keys() -> None:
    # Head 0 gives token 0 2.1 in 4 queries, token 1 0.8 in 3, token 2 0.8 in 2, token 3 0.3 in 1.
    # Head 1: 2.2, 1.1, 0.6, 0.1; head 2: 1, 1, 1.8, 0.2; head 3: 2.2, 1, 0.6, 0.2.
    (own,) = score("h2o", keys_of(4, 2), attention=FOUR_HEADS)
    assert own[0].tolist() == pytest.approx([4.3 / 8, 1.9 / 6, 1.4 / 4, 0.4 / 2])
    assert own[1].tolist() == pytest.approx([3.2 / 8, 2.0 / 6, 2.4 / 4, 0.4 / 2])


def test_snapkv_is_what_the_last_16_attend_to_smoothed_over_five() -> None:
    attention = torch.zeros(1, 2, 21, 21)
    # What comes before the window counts nothing, nor does what the window attends to in itself.
    attention[:, :, :5, :5] = 7.0
    attention[:, :, 5:, 5:] = 7.0
    # Half of the window attends twice as much, half not at all: the mean is what stands here.
    per_token = torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0], [3.0, 0.0, 0.0, 0.0, 0.0]])
    attention[0, :, 5:13, :5] = 2 * per_token[:, None]
    (own,) = score("snapkv", keys_of(21, 2), attention=attention)
    # Five neighbours, of which those before the text or in the window are 0.
    assert own[0].tolist() == pytest.approx([7 / 5, 15 / 5, 31 / 5, 30 / 5, 28 / 5] + [INF] * 16)
    assert own[1].tolist() == pytest.approx([3 / 5, 3 / 5, 3 / 5, 0, 0] + [INF] * 16)
    # Where two query heads share the keys, their mean.
    (shared,) = score("snapkv", keys_of(21), attention=attention)
    assert shared[0, :5].tolist() == pytest.approx([1.0, 1.8, 3.4, 3.0, 2.8])
    # A text of three tokens has a window of two.
    short = attention_of([[1.0], [0.5, 0.5], [0.1, 0.2, 0.7]])
    assert score("snapkv", keys_of(3), attention=short)[0, 0].tolist() == [
        pytest.approx((0.5 + 0.1) / 2 / 5), INF, INF
    ]  # fmt: skip


def test_what_is_random_is_the_same_again_and_another_for_each_layer_and_length() -> None:
    draw = partial(score, "random")
    before = torch.random.get_rng_state()
    own = draw(keys_of(50, 3), layer=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(own, draw(2 * keys_of(50, 3), layer=2))
    stream = torch.Generator().manual_seed(50 * 1000 + 2)
    assert torch.equal(own, torch.rand(1, 3, 50, generator=stream))
    assert len({tuple(row) for row in own[0].tolist()}) == 3
    others = draw(keys_of(50, 3), layer=3), draw(keys_of(51, 3), layer=2)[..., :50]
    assert not any(torch.equal(own, other) for other in others)


class Layer(nn.Module):
    """Queries of a layer of two heads of four numbers, normed before they are rotated."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(3, 8, bias=False)

    def q_norm(self, queries: Tensor) -> Tensor:
        return 2 * queries


def turning(like: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The rotation by place: two angles, each of two numbers of a head."""
    angles = places[..., None] * torch.tensor([0.5, 0.1, 0.5, 0.1])
    return angles.cos(), angles.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Both halves of the channels, turned as pairs."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def attention_to_come(
    queries: Tensor, keys: Tensor, values: Tensor, cos: Tensor, sin: Tensor, scaling: float
) -> Tensor:
    """The score by its formula, a head and a key at a time: mean logit and half its variance.

    Of queries behind the sinks, not rotated, `[tokens, heads, k]`: they are taken to be normal, and
    turned to the mean of the places to come. Keys and values are `[heads, tokens, k]`.
    """
    columns = torch.eye(queries.shape[-1])
    turn = torch.stack([rotated(one, cos, sin).mean(0) for one in columns], dim=1).double()
    shared, rows = queries.shape[1] // len(keys), []
    for head in range(len(keys)):
        shares = []
        for own in queries[:, shared * head : shared * (head + 1)].double().unbind(1):
            mean = own.mean(0)
            variance = sum(torch.outer(q - mean, q - mean) for q in own) / len(own)
            mean, variance = turn @ mean, turn @ variance @ turn.T
            logits = [
                float(scaling * mean @ k + scaling**2 * k @ variance @ k / 2)
                for k in keys[head, 4:].double()
            ]
            shares.append(torch.tensor(logits, dtype=torch.float64).softmax(0))
        rows.append(sum(shares) / shared * values[head, 4:].double().norm(dim=-1))
    return torch.stack(rows)


@pytest.mark.parametrize("rotates", [True, False])
def test_expected_attention_is_the_mean_over_queries_to_come_times_the_value(rotates: bool) -> None:
    tokens, width, scaling = 9, 4, 0.3
    layer, hidden = Layer(), torch.randn(1, tokens, 3)
    keys, values = torch.randn(2, 1, 1, tokens, width)
    with torch.no_grad():
        plain = 2 * layer.q_proj(hidden)[0].view(tokens, 2, width)
    rotation = turning(hidden, torch.arange(tokens)[None])

    queries = plain.transpose(0, 1)
    queries = rotated(queries, rotation[0][0], rotation[1][0]) if rotates else queries
    with torch.no_grad():
        seen = Seen(0, keys, values, None, queries[None], layer, hidden, scaling, turning)
        own = evictions.scored("expected_attention", seen)
    assert own is not None
    assert own[0, 0, :4].tolist() == [INF] * 4
    cos, sin = turning(hidden, torch.arange(tokens, tokens + 512)[None])
    if not rotates:
        cos, sin = torch.ones_like(cos), torch.zeros_like(sin)
    wanted = attention_to_come(plain[4:], keys[0], values[0], cos[0], sin[0], scaling)
    assert torch.allclose(own[0, :, 4:].double(), wanted, rtol=1e-4)


# What stays


def cache_of(layers: int = 1, heads: int = 1, tokens: int = 7) -> Any:
    """Keys say layer, head and place; values the same, a thousand times more, and are wider."""
    place = torch.arange(tokens).expand(1, heads, tokens)
    head = 100 * torch.arange(heads)[:, None]
    numbers = [(10_000 * layer + head + place)[..., None].float() for layer in range(layers)]
    return SimpleNamespace(
        layers=[
            SimpleNamespace(keys=n.expand(-1, -1, -1, 2), values=1000 * n.expand(-1, -1, -1, 3))
            for n in numbers
        ]
    )


def left(cache: Any, *scores: Any, share: float, **guard: Any) -> list[list[list[int]]]:
    """The numbers of the keys that stay, of each layer and head; values must stay with them."""
    made = evictions.evicted(cache, [torch.tensor([one]) for one in scores], share, **guard)
    for layer in made.layers:
        assert (layer.keys == layer.keys[..., :1]).all()
        assert torch.equal(layer.values, 1000 * layer.keys[..., :1].expand(-1, -1, -1, 3))
    return [layer.keys[0, :, :, 0].int().tolist() for layer in made.layers]


RISING = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
MIXED = [3.0, -1.0, 9.0, 0.0, 7.0, INF, 1.0]


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        # 7 tokens: a whole number of them, rounded down, and one at least.
        (0.01, [5]), (1 / 7, [5]), (0.28, [5]), (0.29, [2, 5]), (0.5, [2, 4, 5]),
        (0.6, [0, 2, 4, 5]), (0.99, [0, 2, 3, 4, 5, 6]), (1.0, [*range(7)]),
    ],
)  # fmt: skip
def test_so_many_tokens_stay_in_their_order(share: float, kept: list[int]) -> None:
    assert left(cache_of(), [MIXED], share=share) == [[kept]]


def test_each_head_of_each_layer_keeps_its_own() -> None:
    cache = cache_of(layers=2, heads=2)
    kept = left(cache, [RISING, MIXED], [MIXED, RISING[::-1]], share=0.5)
    assert kept == [
        [[4, 5, 6], [102, 104, 105]], [[10_002, 10_004, 10_005], [10_100, 10_101, 10_102]]
    ]  # fmt: skip
    # What was read stays whole, for the next compression.
    assert [layer.keys.shape[2] for layer in cache.layers] == [7, 7]


@pytest.mark.parametrize(
    ("tokens", "kept", "ends"),
    [(40, 20, 4), (39, 20, 3), (100, 20, 10), (100, 5, 2), (100, 1, 0), (9, 9, 0), (10, 3, 1)],
)
def test_both_ends_stay_a_tenth_each_and_half_of_what_is_kept_at_most(
    tokens: int, kept: int, ends: int
) -> None:
    plain = torch.rand(1, 2, tokens)
    before = plain.clone()
    made = evictions.guarded(plain, kept, "ends", (), kept / tokens)
    assert torch.equal(plain, before)
    assert (made[..., :ends] == INF).all()
    assert (made[..., tokens - ends :] == INF).all()
    assert torch.equal(made[..., ends : tokens - ends], plain[..., ends : tokens - ends])


def test_a_guard_of_rules_keeps_all_their_tokens_or_the_best_share_of_each() -> None:
    plain = torch.tensor([[[3.0, 9.0, 1.0, 5.0, 2.0, 8.0, 7.0, 4.0], [*range(8)]]])
    rules = ((1, 2, 3), (5,))
    every = evictions.guarded(plain, 4, "rules", rules, 0.5)[0].tolist()
    assert every == [
        [3, INF, INF, INF, 2, INF, 7, 4], [0, INF, INF, INF, 4, INF, 6, 7]
    ]  # fmt: skip
    # Half of three tokens is one, by each head's own score; a rule of one token keeps it.
    fair = evictions.guarded(plain, 4, "fair", rules, 0.5)[0].tolist()
    assert [row[1:4] for row in fair] == [[INF, -INF, -INF], [-INF, -INF, INF]]
    assert [[row[at] for at in (0, 4, 5, 6, 7)] for row in fair] == [
        [3, 2, INF, 7, 4], [0, 4, INF, 6, 7]
    ]  # fmt: skip
    # Two thirds of three are two; all of three are three.
    two, three = (evictions.guarded(plain, 4, "fair", rules, share)[0, 0] for share in (0.7, 1.0))
    assert two[1:4].tolist() == [INF, -INF, INF]
    assert three[1:4].tolist() == [INF] * 3


def test_bytes_of_a_cut_cache_are_two_a_number_whatever_it_is_run_in() -> None:
    # Two layers of two heads and 7 tokens: keys of 2 numbers, values of 3.
    cache = cache_of(layers=2, heads=2)
    assert evictions.kept_bytes(cache) == 2 * 2 * 7 * (2 + 3) * 2
    cut = evictions.evicted(cache, [torch.rand(1, 2, 7)] * 2, 0.5)
    assert evictions.kept_bytes(cut, "snapkv") == 2 * 2 * 3 * (2 + 3) * 2


def test_bytes_of_a_rounded_cache_are_of_all_its_layers_and_heads() -> None:
    # Three layers of two heads of 16 numbers and 75 tokens; a scale is two half numbers a group.
    cache = SimpleNamespace(layers=[SimpleNamespace(keys=torch.zeros(1, 2, 75, 16))] * 3)
    whole, scale = 16, 2 * 16
    keys = 11 * 16 * whole + 64 * 16 * 2 + 2 * 16 * scale
    values = 32 * 16 * whole + 43 * (16 * 2 + scale)
    assert evictions.kept_bytes(cache, "kivi", 2) == 3 * 2 * (keys + values) // 8
    each = 75 * 2 * (16 * 4 + scale)
    assert evictions.kept_bytes(cache, "per_token", 4) == 3 * 2 * each // 8


@pytest.mark.parametrize(("name", "form"), [("kivi", "KIVI"), ("per_token", "per token")])
def test_a_rounded_cache_is_each_layer_rounded_in_the_numbers_of_the_model(
    name: str, form: str
) -> None:
    pairs = [torch.randn(2, 1, 2, 40, 8).bfloat16() for _ in range(2)]
    cache = SimpleNamespace(
        layers=[SimpleNamespace(keys=keys, values=values) for keys, values in pairs]
    )
    before = torch.stack(pairs)
    made = evictions.rounded(cache, name, 2)
    for layer, pair in zip(made.layers, pairs, strict=True):
        coarse = rounding.quantised(KVCache(*pair.float()), form, 2)
        assert torch.equal(layer.keys, coarse.keys.bfloat16())
        assert torch.equal(layer.values, coarse.values.bfloat16())
        assert not torch.equal(layer.keys, pair[0])
    assert torch.equal(torch.stack(pairs), before)


def test_numbers_are_rounded_to_the_nearest_of_even_steps_from_the_least() -> None:
    # Four levels from -1 to 2; in half precision nothing moves.
    x = torch.tensor([[-1.0, -0.6, -0.4, 0.9, 1.6, 2.0]])
    assert rounding.rounded(x, 2, dim=1).tolist() == [[-1.0, -1.0, 0.0, 1.0, 2.0, 2.0]]
    assert rounding.rounded(x.T, 1, dim=0)[:, 0].tolist() == [-1.0, -1.0, -1.0, 2.0, 2.0, 2.0]


# Of the small models' caches


def attended(**scores: list[float]) -> dict[str, Tensor]:
    """What a layer of one head attends to."""
    return {name: torch.tensor([[row]]) for name, row in scores.items()}


@pytest.mark.parametrize(
    ("eviction", "budget", "kept"),
    [
        ("first", 1, [0]), ("StreamingLLM", 1, [0]), ("StreamingLLM", 3, [0, 1, 2]),
        ("StreamingLLM", 4, [0, 1, 2, 3]), ("StreamingLLM", 5, [0, 1, 2, 3, 8]),
        ("StreamingLLM", 7, [0, 1, 2, 3, 6, 7, 8]), ("StreamingLLM", 9, [*range(9)]),
        # Half of the budget, rounded down, is the last tokens; the heaviest of the others stay.
        ("H2O", 1, [4]), ("H2O", 2, [4, 8]), ("H2O", 3, [2, 4, 8]), ("H2O", 5, [1, 2, 4, 7, 8]),
        ("TOVA", 1, [6]), ("TOVA", 3, [3, 6, 8]), ("K-norm", 2, [1, 7]), ("K-norm", 3, [1, 5, 7]),
    ],
)  # fmt: skip
def test_an_odd_budget_of_a_small_cache_is_kept_as_its_paper_says(
    eviction: str, budget: int, kept: list[int]
) -> None:
    lengths = [9.0, 1.0, 8.0, 7.0, 6.0, 3.0, 5.0, 2.0, 4.0]
    keys = torch.tensor([[[[length, 0.0] for length in lengths]]])
    seen = attended(
        H2O=[0.1, 5.0, 6.0, 2.0, 9.0, 1.0, 0.5, 0.2, 8.5],
        TOVA=[0.0, 0.1, 0.0, 0.2, 0.05, 0.0, 0.3, 0.05, 0.15],
    )
    assert small.kept(eviction, keys, seen, budget).tolist() == [[kept]]


def test_the_window_of_snapkv_is_half_the_budget_one_at_least_and_32_at_most() -> None:
    text, keys = 100, torch.zeros(1, 1, 100, 2)
    rows = torch.zeros(32, text)
    # Only the very last query attends to 50; all others to 20, a little.
    rows[-1, 50], rows[:-1, 20] = 1.0, 0.25
    seen = {"SnapKV": rows[None, None]}

    def kept(budget: int) -> set[int]:
        return {*small.kept("SnapKV", keys, seen, budget)[0, 0].tolist()}

    assert kept(1) == {99}
    # A window of one looks by itself, and 50 lends its neighbours a fifth each.
    assert kept(3) - {99} < {*range(48, 53)}
    assert 99 in kept(3)
    # Eight queries: 20 has 7 times 0.25, more than 50 has.
    assert kept(16) >= {*range(92, 100), *range(18, 23)}
    # Of 70 the last 32 stay, and 38 others: those of 36 that have a score, and two beside them.
    rows.zero_()[:, :36] = 1.0
    assert kept(70) == {*range(38), *range(68, 100)}


def test_a_batch_is_attended_to_in_pieces_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys = torch.randn(2, 3, 2, 5, 4, dtype=torch.float64)
    whole = small.attended(queries, keys)
    monkeypatch.setattr(small, "_WEIGHTS_AT_ONCE", 1)
    pieces = small.attended(queries, keys)
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)


def model() -> LanguageModel:
    make = [partial(Attention, 16, positions="rotary")] * 2
    sizes = {"width": 16, "hidden": 16, "added_positions": "none", "context": 64}
    return LanguageModel(len(Recite().vocabulary), make, **sizes, seed=1)


@pytest.mark.parametrize("eviction", ["StreamingLLM", "K-norm", "H2O", "TOVA", "SnapKV"])
def test_each_layer_of_a_model_is_cut_by_what_it_attends_to(
    eviction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model()
    evicting = Evicting(made, seed=1)
    evicting.by = Compression(eviction, 7)
    text = torch.from_numpy(Recite().sample("test", 64, 2).tokens[:, :32])
    with torch.no_grad():
        _, cut = evicting.advance(text)
        seen, attend = [], F.scaled_dot_product_attention

        def watched(queries: Tensor, keys: Tensor, *more: Any, **given: Any) -> Tensor:
            seen.append((queries, keys))
            return attend(queries, keys, *more, **given)

        monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
        _, whole = made.advance(text)
    assert (cut.tokens, len(seen)) == (whole.tokens, 2)
    parts = zip(made.blocks, whole.layers, cut.layers, seen, strict=True)
    for block, before, after, asked in parts:
        places = small.kept(eviction, before.keys, small.attended(*asked), 7)
        keys = before.keys.gather(2, places[..., None].expand(-1, -1, -1, before.keys.shape[3]))
        # All are moved as far as the cut is long, but the four sinks, which stay where they stand.
        moved = torch.full((7,), 7 - before.keys.shape[2])
        moved[: 4 if eviction == "StreamingLLM" else 0] = 0
        assert torch.allclose(after.keys, rotate(keys, moved, block.mixer.rotary_base), atol=1e-6)
        values = before.values.gather(2, places[..., None].expand_as(after.values))
        assert torch.equal(after.values, values)


def test_a_compressed_model_is_scored_by_the_compression_that_is_named() -> None:
    made, task = model(), Recite()
    rounds = [Compression("KIVI", 2), Compression("per token", 1), Compression("per token", 8)]
    scores = [*Rounding(made, seed=1).scores(rounds, task, {64: 40})]
    assert [row[:3] for row in scores] == [(64, *by) for by in (WHOLE, *rounds)]
    text = torch.from_numpy(task.sample("test", 64, 2).tokens[:, :48])
    rounding_model = Rounding(made, seed=1)
    with torch.no_grad():
        whole = made.advance(text)[1]
        for rounding_model.by in rounds:
            _, state = rounding_model.advance(text)
            for before, after in zip(whole.layers, state.layers, strict=True):
                wanted = rounding.quantised(before, *rounding_model.by)
                assert torch.equal(after.keys, wanted.keys)
                assert torch.equal(after.values, wanted.values)
    row = evaluate_samples(ModelPredictor(made), task, "test", 64, 40, 1)
    assert scores[0][3:] == (round(row["retention"], 6), round(row["exact"], 6))


def test_what_is_random_in_a_small_cache_differs_by_text_layer_budget_and_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = torch.from_numpy(Recite().sample("test", 64, 4).tokens[:, :40]).split(2)
    drawn, keep = list[Tensor](), small.kept
    monkeypatch.setattr(small, "kept", lambda *given: drawn.append(keep(*given)) or drawn[-1])

    def places(evicting: Evicting, number: int, budget: int) -> Tensor:
        drawn.clear()
        evicting.by = Compression("random", budget)
        with torch.no_grad():
            evicting.advance(texts[number])
        return torch.stack(drawn)

    evicting = Evicting(model(), seed=1)
    first, second = places(evicting, 0, 9)
    assert first.diff().min() > 0
    assert torch.equal(torch.stack([first, second]), places(evicting, 0, 9))
    others = [
        second, places(evicting, 1, 9)[0], places(evicting, 0, 10)[0],
        places(Evicting(evicting.model, seed=2), 0, 9)[0],
    ]  # fmt: skip
    # Of nine places of 40 two draws share two or so.
    for other in others:
        pairs = zip(first.flatten(0, 1).tolist(), other.flatten(0, 1).tolist(), strict=True)
        assert max(len({*row} & {*of}) for row, of in pairs) < 8

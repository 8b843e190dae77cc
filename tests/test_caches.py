"""A KV cache cut down or rounded: what is left of it, and what is said from that."""

from functools import partial

import numpy as np
import pytest
import torch
from scripts import script
from torch import Tensor
from torch.nn import functional as F

from rulekeep.kernels import evictions, rounding
from rulekeep.kernels.positions import rotate
from rulekeep.mixers import Attention
from rulekeep.mixers.softmax import KVCache
from rulekeep.running.evaluation import ModelPredictor, evaluate_samples
from rulekeep.running.model import LanguageModel
from rulekeep.tasks import Recite

compressed = script("compressed", "studies")
WHOLE, Compression = compressed.WHOLE, compressed.Compression
Evicting, Rounding = compressed.Evicting, compressed.Rounding
EVICTIONS = ("random", "StreamingLLM", "K-norm", "TOVA", "H2O", "SnapKV")
BITS = (1, 2, 4, 8)
MIXERS = {
    "none": partial(Attention, 16),
    "rotary": partial(Attention, 16, positions="rotary"),
    "convolved": partial(Attention, 16, conv_size=8),
}
TASK = Recite()


def _model(mixer: str) -> LanguageModel:
    make = [MIXERS[mixer]] * 2
    words = len(TASK.vocabulary)
    sizes = {"width": 16, "hidden": 16, "added_positions": "none", "context": 64}
    return LanguageModel(words, make, **sizes, seed=1)


def _seen(time: int) -> Tensor:
    """Queries and keys."""
    stream = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 4, time, 8, generator=stream, dtype=torch.float64)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_budget_of_the_whole_text_cuts_nothing(mixer: str) -> None:
    model, sample = _model(mixer), TASK.sample("test", 64, 3)
    evicting = Evicting(model, 1)
    expected = ModelPredictor(model).read(sample)
    uncut = [Compression(one, sample.answer_start - 1) for one in EVICTIONS]
    for evicting.by in (WHOLE, *uncut):
        found = ModelPredictor(evicting).read(sample)
        assert found.loss == expected.loss
        assert np.array_equal(found.predictions, expected.predictions)
        assert np.array_equal(found.generated, expected.generated)
    evicting.by = Compression("StreamingLLM", 8)
    assert ModelPredictor(evicting).read(sample).loss != expected.loss


@pytest.mark.parametrize(("positions", "sinks"), [("none", 0), ("rotary", 0), ("rotary", 2)])
def test_what_comes_after_a_cut_sees_what_is_left_at_its_own_distance(
    positions: str, sinks: int
) -> None:
    torch.manual_seed(0)
    mixer = Attention(16, heads=2, positions=positions).double()
    x, text = torch.randn(3, 20, 16, dtype=torch.float64), 12
    places = torch.stack([torch.randperm(text)[:5].sort().values for _ in range(6)]).view(3, 2, 5)
    # Sinks stand first, and are seen as if what was cut had not stood between.
    places[..., :sinks] = torch.arange(sinks)
    base = mixer.rotary_base if positions == "rotary" else None
    assert sinks == 0 or (places[..., sinks:] >= sinks).all()
    with torch.no_grad():
        _, cache = mixer(x[:, :text])
        found, _ = mixer(x[:, text:], evictions.cut(cache, places, base, sinks))
        # The same by hand: every token at its own place, and a mask over what was thrown away.
        q, k, v = (
            part.view(3, 20, 2, 8).transpose(1, 2) for part in mixer.in_projection(x).chunk(3, -1)
        )
        if positions == "rotary":
            at = torch.arange(20)
            q = rotate(q, at, mixer.rotary_base)
            k = rotate(k, torch.where(at < sinks, at + text - 5, at), mixer.rotary_base)
        seen = torch.ones(20, 20, dtype=torch.bool).tril().expand(3, 2, -1, -1).clone()
        left = torch.zeros(3, 2, text, dtype=torch.bool).scatter(2, places, value=True)
        seen[:, :, text:, :text] = left[:, :, None]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        expected = mixer.out_projection(y.transpose(1, 2).flatten(2))[:, text:]
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_what_is_attended_to_is_counted_as_the_formulas_say() -> None:
    queries, keys = _seen(40)
    heavy, last, snap = torch.zeros(3, 4, 40, dtype=torch.float64), None, []
    for t in range(40):
        scores = (keys[:, :, : t + 1] @ queries[:, :, t, :, None])[..., 0] / 8**0.5
        weights = torch.zeros(3, 4, 40, dtype=torch.float64)
        weights[..., : t + 1] = scores.softmax(dim=2)
        heavy += weights
        last = weights.mean(dim=1, keepdim=True).expand(-1, 4, -1)
        snap.append(weights)
    expected = {"H2O": heavy, "TOVA": last, "SnapKV": torch.stack(snap[-32:], dim=2)}
    found = evictions.attended(queries, keys)
    assert found.keys() == expected.keys()
    for name, part in expected.items():
        assert torch.allclose(found[name], part, rtol=0, atol=1e-12), name


def test_each_eviction_keeps_what_its_paper_says() -> None:
    (queries, keys), budget = _seen(40), 16
    attention = evictions.attended(queries, keys)

    def kept(eviction: str) -> list[list[int]]:
        places = evictions.kept(eviction, keys, attention, budget)
        assert places.shape == (3, 4, budget)
        assert (places.diff(dim=2) > 0).all()
        return places.flatten(0, 1).tolist()

    def best(score: Tensor, n: int, among: int) -> list[int]:
        return sorted(score[:among].argsort(descending=True)[:n].tolist())

    assert kept("StreamingLLM") == [[0, 1, 2, 3, *range(28, 40)]] * 12
    tova, heavy = (attention[name].flatten(0, 1) for name in ("TOVA", "H2O"))
    assert kept("TOVA") == [best(row, 16, 40) for row in tova]
    assert kept("H2O") == [[*best(row, 8, 32), *range(32, 40)] for row in heavy]
    norms = keys.square().sum(3).sqrt().flatten(0, 1)
    assert kept("K-norm") == [best(-row, 16, 40) for row in norms]
    # Of the tokens before the window alone: its own are kept, and lend their neighbours nothing.
    last = F.pad(attention["SnapKV"][:, :, -8:, :32].sum(2).flatten(0, 1), (2, 2))
    pooled = sum(last[:, shift : shift + 32] for shift in range(5))
    assert kept("SnapKV") == [[*best(row, 8, 32), *range(32, 40)] for row in pooled]
    assert len({tuple(row) for row in kept("random")}) == 12


@pytest.mark.parametrize("eviction", EVICTIONS)
@pytest.mark.parametrize("budget", [1, 2, 40])
def test_an_eviction_keeps_so_many_tokens_down_to_one(eviction: str, budget: int) -> None:
    queries, keys = _seen(40)
    places = evictions.kept(eviction, keys, evictions.attended(queries, keys), budget)
    assert places.shape == (3, 4, budget)
    assert 0 <= places.min() <= places.max() < 40


def _rounded_one_by_one(group: list[float], bits: int) -> list[float]:
    """A group of numbers rounded by the formula."""
    least = float(np.float16(min(group)))
    step = float(np.float16((max(group) - least) / (2**bits - 1)))
    levels = (min(max(round((x - least) / step), 0), 2**bits - 1) for x in group)
    return [least + step * level for level in levels]


@pytest.mark.parametrize("bits", BITS)
def test_numbers_are_rounded_in_groups_as_each_form_says(bits: int) -> None:
    stream = torch.Generator().manual_seed(0)
    # Of the 75 tokens eleven are left when groups of 32 are full.
    numbers = torch.randn(2, 3, 4, 75, 8, generator=stream, dtype=torch.float64)
    # A number that is far off; in half precision it may fall below the group's end.
    numbers[..., 5, 3] += 1000
    given, cache = KVCache(*numbers.clone()), KVCache(*numbers)
    coarse = rounding.quantised(cache, "per token", bits)
    for part, found in zip(given, coarse, strict=True):
        rows = zip(part.flatten(0, 2).tolist(), found.flatten(0, 2).tolist(), strict=True)
        assert all(b == pytest.approx(_rounded_one_by_one(a, bits), abs=1e-12) for a, b in rows)
    kivi = rounding.quantised(cache, "KIVI", bits)
    assert torch.equal(kivi.values[:, :, :43], coarse.values[:, :, :43])
    assert torch.equal(kivi.values[:, :, 43:], given.values[:, :, 43:].half().double())
    assert torch.equal(kivi.keys[:, :, 64:], given.keys[:, :, 64:].half().double())
    half = rounding.quantised(cache, rounding.HALF, 16)
    assert all(torch.equal(a.half().double(), b) for a, b in zip(given, half, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(given, cache, strict=True))
    for start in (0, 32):
        group = slice(start, start + 32)
        channels = zip(
            given.keys[:, :, group].transpose(2, 3).flatten(0, 2).tolist(),
            kivi.keys[:, :, group].transpose(2, 3).flatten(0, 2).tolist(),
            strict=True,
        )
        for a, b in channels:
            assert b == pytest.approx(_rounded_one_by_one(a, bits), abs=1e-12)
            assert len(set(b)) <= 2**bits


def test_a_group_of_equal_numbers_stays_as_it_is() -> None:
    x = torch.full((2, 16), 0.25)
    assert torch.equal(rounding.rounded(x, 2, dim=1), x)


@pytest.mark.parametrize(("text", "keys", "values"), [(20, 20, 20), (32, 0, 32), (64, 0, 32)])
def test_kivi_leaves_the_end_of_a_text(text: int, keys: int, values: int) -> None:
    assert rounding.not_rounded("KIVI", text) == (keys, values)
    stream = torch.Generator().manual_seed(0)
    cache = KVCache(*torch.randn(2, 1, 4, text, 16, generator=stream))
    found = rounding.quantised(cache, "KIVI", 2)
    for given, coarse, kept in zip(cache, found, (keys, values), strict=True):
        same = (given.half().float() == coarse).all(dim=3)
        assert same[:, :, text - kept :].all()
        assert not same[:, :, : text - kept].any()


def test_bytes_of_a_rounded_cache_count_its_scales_and_what_stays_whole() -> None:
    size = partial(rounding.cache_bytes, text=75, width=64, head_width=16)
    assert size(rounding.HALF, 16) == 75 * 2 * 64 * 2
    # 64 numbers of 2 bits, and of each of four heads two in half precision: keys and values.
    assert size("per token", 2) == 75 * 2 * (64 * 2 // 8 + 4 * 4)
    keys = 2 * (64 * 32 * 2 // 8 + 64 * 4) + 11 * 64 * 2
    values = 43 * (64 * 2 // 8 + 4 * 4) + 32 * 64 * 2
    assert size("KIVI", 2) == keys + values


@pytest.mark.parametrize("mixer", MIXERS)
def test_what_is_said_from_a_rounded_cache_nears_the_model_with_bits(mixer: str) -> None:
    model, sample = _model(mixer), TASK.sample("test", 64, 3)
    quantising = Rounding(model, 1)
    expected = ModelPredictor(model).read(sample)
    assert ModelPredictor(quantising).read(sample).loss == expected.loss
    for form in (rounding.PER_TOKEN, rounding.KIVI):
        gaps = []
        for bits in (1, 2, 4, 8):
            quantising.by = Compression(form, bits)
            gaps.append(abs(ModelPredictor(quantising).read(sample).loss / expected.loss - 1))
        assert gaps[0] > gaps[-1]
        assert gaps[-1] < 1e-4


def test_each_length_gives_a_score_a_compression_and_none_hangs_on_the_other() -> None:
    model = _model("convolved")
    cuts = [Compression("first", 1), *(Compression(one, n) for one in EVICTIONS for n in (8, 16))]
    both = [*Evicting(model, 1).scores(cuts, TASK, {64: 8, 80: 8})]
    assert len({score[:3] for score in both}) == len(both) == 2 * (2 + 6 * 2)
    alone = [*Evicting(model, 1).scores(cuts, TASK, {80: 8})]
    assert both[len(both) // 2 :] == alone
    whole = evaluate_samples(ModelPredictor(model), TASK, "test", 80, 8, 1)
    assert (alone[0].name, alone[0].retention) == (WHOLE.name, round(whole["retention"], 6))

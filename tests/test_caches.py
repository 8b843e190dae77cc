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


def test_each_length_gives_a_score_a_compression_and_none_hangs_on_the_other() -> None:
    model = _model("convolved")
    cuts = [Compression("first", 1), *(Compression(one, n) for one in EVICTIONS for n in (8, 16))]
    both = [*Evicting(model, 1).scores(cuts, TASK, {64: 8, 80: 8})]
    assert len({score[:3] for score in both}) == len(both) == 2 * (2 + 6 * 2)
    alone = [*Evicting(model, 1).scores(cuts, TASK, {80: 8})]
    assert both[len(both) // 2 :] == alone
    whole = evaluate_samples(ModelPredictor(model), TASK, "test", 80, 8, 1)
    assert (alone[0].name, alone[0].retention) == (WHOLE.name, round(whole["retention"], 6))

"""A KV cache cut down or rounded: what is left of it, and what is said from that. 5 s."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from report_records import typed
from scripts import ROOT, script
from torch import Tensor
from torch.nn import functional as F

from rulekeep.kernels.positions import rotate
from rulekeep.mixers import Attention, Mixer
from rulekeep.mixers.attention import KVCache
from rulekeep.plugins import find_class
from rulekeep.running.evaluation import ModelPredictor, evaluate_samples
from rulekeep.running.model import LanguageModel
from rulekeep.tasks import Recite

evictions, quantised = script("evictions"), script("quantised")
caches = evictions.caches
CONVOLVED = find_class(
    f"{ROOT / 'benchmarks' / 'convolved_attention.py'}:ConvolvedAttention", {}, Mixer, "mixer"
)
MIXERS = {
    "none": partial(Attention, 16),
    "rotary": partial(Attention, 16, positions="rotary"),
    "taps": partial(CONVOLVED, 16),
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
    evicting = evictions.Evicting(model, 1)
    expected = ModelPredictor(model).read(sample)
    uncut = [caches.Compression(one, sample.answer_start - 1) for one in evictions.EVICTIONS]
    for evicting.by in (caches.WHOLE, *uncut):
        found = ModelPredictor(evicting).read(sample)
        assert found.loss == expected.loss
        assert np.array_equal(found.predictions, expected.predictions)
        assert np.array_equal(found.generated, expected.generated)
    evicting.by = caches.Compression("StreamingLLM", 8)
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
    assert sinks == 0 or (places[..., sinks:] >= sinks).all()
    with torch.no_grad():
        _, cache = mixer(x[:, :text])
        found, _ = mixer(x[:, text:], evictions.cut(cache, places, mixer, sinks))
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


def _rounded_one_by_one(group: list[float], bits: int) -> list[float]:
    """A group of numbers rounded by the formula."""
    least = float(np.float16(min(group)))
    step = float(np.float16((max(group) - least) / (2**bits - 1)))
    levels = (min(max(round((x - least) / step), 0), 2**bits - 1) for x in group)
    return [least + step * level for level in levels]


@pytest.mark.parametrize("bits", quantised.BITS)
def test_numbers_are_rounded_in_groups_as_each_form_says(bits: int) -> None:
    stream = torch.Generator().manual_seed(0)
    # Of the 75 tokens eleven are left when groups of 32 are full.
    numbers = torch.randn(2, 3, 4, 75, 8, generator=stream, dtype=torch.float64)
    # A number that is far off; in half precision it may fall below the group's end.
    numbers[..., 5, 3] += 1000
    given, cache = KVCache(*numbers.clone()), KVCache(*numbers)
    coarse = quantised.quantised(cache, caches.Compression("per token", bits))
    for part, found in zip(given, coarse, strict=True):
        rows = zip(part.flatten(0, 2).tolist(), found.flatten(0, 2).tolist(), strict=True)
        assert all(b == pytest.approx(_rounded_one_by_one(a, bits), abs=1e-12) for a, b in rows)
    kivi = quantised.quantised(cache, caches.Compression("KIVI", bits))
    assert torch.equal(kivi.values[:, :, :43], coarse.values[:, :, :43])
    assert torch.equal(kivi.values[:, :, 43:], given.values[:, :, 43:].half().double())
    assert torch.equal(kivi.keys[:, :, 64:], given.keys[:, :, 64:].half().double())
    half = quantised.quantised(cache, quantised.HALF)
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
    assert torch.equal(quantised.rounded(x, 2, dim=1), x)


@pytest.mark.parametrize(("text", "keys", "values"), [(20, 20, 20), (32, 0, 32), (64, 0, 32)])
def test_kivi_leaves_the_end_of_a_text(text: int, keys: int, values: int) -> None:
    assert quantised.not_rounded("KIVI", text) == (keys, values)
    stream = torch.Generator().manual_seed(0)
    cache = KVCache(*torch.randn(2, 1, 4, text, 16, generator=stream))
    found = quantised.quantised(cache, caches.Compression("KIVI", 2))
    for given, coarse, kept in zip(cache, found, (keys, values), strict=True):
        same = (given.half().float() == coarse).all(dim=3)
        assert same[:, :, text - kept :].all()
        assert not same[:, :, : text - kept].any()


def test_bytes_of_a_rounded_cache_count_its_scales_and_what_stays_whole() -> None:
    size = partial(quantised.cache_bytes, text=75, width=64, head_width=16)
    assert size(quantised.HALF) == 75 * 2 * 64 * 2
    # 64 numbers of 2 bits, and of each of four heads two in half precision: keys and values.
    assert size(caches.Compression("per token", 2)) == 75 * 2 * (64 * 2 // 8 + 4 * 4)
    keys = 2 * (64 * 32 * 2 // 8 + 64 * 4) + 11 * 64 * 2
    values = 43 * (64 * 2 // 8 + 4 * 4) + 32 * 64 * 2
    assert size(caches.Compression("KIVI", 2)) == keys + values


@pytest.mark.parametrize("mixer", MIXERS)
def test_what_is_said_from_a_rounded_cache_nears_the_model_with_bits(mixer: str) -> None:
    model, sample = _model(mixer), TASK.sample("test", 64, 3)
    quantising = quantised.Quantising(model, 1)
    expected = ModelPredictor(model).read(sample)
    assert ModelPredictor(quantising).read(sample).loss == expected.loss
    for form in quantised.FORMS:
        gaps = []
        for bits in (1, 2, 4, 8):
            quantising.by = caches.Compression(form, bits)
            gaps.append(abs(ModelPredictor(quantising).read(sample).loss / expected.loss - 1))
        assert gaps[0] > gaps[-1]
        assert gaps[-1] < 1e-4


def test_a_run_gives_a_row_a_cut_and_the_whole_cache_scores_as_the_model(monkeypatch) -> None:
    monkeypatch.setattr(caches, "EXAMPLES", {64: 8, 80: 8})
    model = _model("taps")
    cuts = [one for one in evictions.COMPRESSIONS if one.amount <= 16]
    rows = caches.rows_of(evictions.Evicting(model, 1), cuts, TASK, (64, 80))
    assert len({row[:3] for row in rows}) == len(rows) == 2 * (2 + 6 * 2)
    # What is drawn at random at one length does not hang on the other.
    assert rows[len(rows) // 2 :] == caches.rows_of(evictions.Evicting(model, 1), cuts, TASK, (80,))
    whole = [evaluate_samples(ModelPredictor(model), TASK, "test", at, 8, 1) for at in (64, 80)]
    (record,) = typed([{"spec": {"context": 64, "seed": 1}, "evaluations": whole}])
    caches.hold(rows, record)
    rows = [(*cell, kept + 0.001 * (cell[1] == "none"), exact) for *cell, kept, exact in rows]
    with pytest.raises(AssertionError):
        caches.hold(rows, record)


def test_the_table_has_the_mean_over_seeds_and_says_what_is_not_run(tmp_path: Path) -> None:
    for seed, kept in ((1, 0.5), (2, 0.7)):
        one = {"mixer": "attention", "placement": "early", "seed": seed}
        one["rows"] = [[256, "H2O", 16, kept, 0.0], [256, "none", 0, 1.0, 1.0]]
        (tmp_path / f"{seed}.json").write_text(json.dumps(one))
    found = caches.scores(tmp_path)
    lines = evictions.page(found).splitlines()
    cells = {
        tuple(cell.strip() for cell in line.strip("|").split("|")[:4])
        for line in lines
        if "whole" in line or "H2O" in line
    }
    assert cells == {
        ("rotary, early", "the whole cache", "1.000 (1.000 to 1.000; 2 seeds: few)", ""),
        ("rotary, early", "H2O", "not run", "0.600 (0.000 to 1.000; 2 seeds: few)"),
    }
    assert evictions.figure(found).axes


def test_the_runs_are_five_seeds_of_two_attentions_and_both_placements() -> None:
    cells = {}
    for record in caches.committed():
        spec = record.spec
        cell = spec.mixer, spec.task_options["placement"]
        cells.setdefault(cell, []).append(spec.seed)
    assert len(cells) == 4
    assert all(sorted(seeds) == [1, 2, 3, 4, 5] for seeds in cells.values())

"""Evictions of a KV cache: what a cut keeps, and what is said from what is left. 5 s."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import ROOT, script
from torch import Tensor
from torch.nn import functional as F

from rulekeep.evaluation import ModelPredictor, evaluate_samples
from rulekeep.mixers import Attention, Mixer
from rulekeep.model import LanguageModel
from rulekeep.positions import rotate
from rulekeep.registry import find_class
from rulekeep.tasks import Recite

evictions = script("evictions")
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
    sizes = {"width": 16, "hidden": 16, "positions": "none", "context": 64}
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
    for eviction in (evictions.NONE, *evictions.EVICTIONS):
        evicting.eviction, evicting.budget = eviction, sample.answer_start - 1
        found = ModelPredictor(evicting).read(sample)
        assert found.loss == expected.loss
        assert np.array_equal(found.predictions, expected.predictions)
        assert np.array_equal(found.generated, expected.generated)
    evicting.eviction, evicting.budget = "StreamingLLM", 8
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


def test_a_run_gives_a_row_a_cut_and_the_whole_cache_scores_as_the_model(monkeypatch) -> None:
    monkeypatch.setattr(evictions, "EXAMPLES", {64: 8, 80: 8})
    monkeypatch.setattr(evictions, "BUDGETS", (8, 16))
    model = _model("taps")
    rows = evictions.rows_of(model, TASK, 1, (64, 80))
    assert len({tuple(row[:3]) for row in rows}) == len(rows) == 2 * (2 + 6 * 2)
    whole = [evaluate_samples(ModelPredictor(model), TASK, "test", at, 8, 1) for at in (64, 80)]
    evictions._hold(rows, {"evaluations": whole})
    for found in rows:
        if found[1] == evictions.NONE:
            found[3] += 0.001
    with pytest.raises(AssertionError):
        evictions._hold(rows, {"evaluations": whole})


def test_the_table_has_the_mean_over_seeds_and_says_what_is_not_run(tmp_path: Path) -> None:
    for seed, kept in ((1, 0.5), (2, 0.7)):
        one = {"mixer": "attention", "placement": "early", "seed": seed}
        one["rows"] = [[256, "H2O", 16, kept, 0.0], [256, "none", 0, 1.0, 1.0]]
        (tmp_path / f"{seed}.json").write_text(json.dumps(one))
    found = evictions.scores(tmp_path)
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
    for path in evictions.committed():
        spec = evictions.read_record(path)["spec"]
        cell = spec["mixer"], spec["task_options"]["placement"]
        cells.setdefault(cell, []).append(spec["seed"])
    assert len(cells) == 4
    assert all(sorted(seeds) == [1, 2, 3, 4, 5] for seeds in cells.values())

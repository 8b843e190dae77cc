"""Evictions: which tokens of a KV cache stay when a budget is set, and the cache cut down to them.

    first           the first token alone, `<bos>`: what gets past any cut
    random          any tokens
    StreamingLLM    the first 4 and the last                                   arXiv 2309.17453
    K-norm          keys of the smallest norm                                  arXiv 2406.11430
    TOVA            most attended by the last query, mean over heads           arXiv 2401.06104
    H2O             half the last; half most attended by all queries so far    arXiv 2306.14048
    SnapKV          the last w; most attended by them, mean over 5 neighbours  arXiv 2404.14469

Each head is cut by itself but for TOVA, StreamingLLM and `first`. What differs from the papers:

- H2O, TOVA and StreamingLLM go on evicting while they answer; here the text is cut once.
- Prompts of TOVA, H2O and SnapKV end with the question; here it comes after the cut.
- w is 32, or half the budget if that is less.
- K-norm leaves the first two layers whole in its authors' code; here it cuts every layer.
- The next token's place is the number of tokens that are left. So rotary keys are turned until each
  has its distance to what comes; the first 4 of StreamingLLM have the places of the cut cache.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from rulekeep.kernels.positions import rotate

FIRST, STREAMING = "first", "StreamingLLM"
SINKS, WINDOW, NEIGHBOURS = 4, 32, 5
# Numbers of attention weights at once: 128 MB in float32, of which three are there.
_WEIGHTS_AT_ONCE = 2**25


def attended(
    queries: Float[Tensor, "batch heads time k"], keys: Float[Tensor, "batch heads time k"]
) -> dict[str, Tensor]:
    """How much each token is attended to, by the eviction that counts it.

    `H2O` is the sum over all queries, `[batch heads time]`, `TOVA` the last query's mean over
    heads, and `SnapKV` each of the last queries by itself, `[batch heads window time]`.
    """
    batch, heads, time, k = queries.shape
    found: dict[str, list[Tensor]] = {"H2O": [], "TOVA": [], "SnapKV": []}
    rows = max(1, _WEIGHTS_AT_ONCE // (heads * time * time))
    later = torch.ones(time, time, dtype=torch.bool).triu(1)
    for start in range(0, batch, rows):
        part = slice(start, start + rows)
        scores = queries[part] @ keys[part].transpose(2, 3) / k**0.5
        weights = scores.masked_fill(later, -math.inf).softmax(dim=3)
        found["H2O"].append(weights.sum(dim=2))
        found["TOVA"].append(weights[:, :, -1].mean(1, keepdim=True).expand(-1, heads, -1))
        found["SnapKV"].append(weights[:, :, -WINDOW:].clone())
    return {name: torch.cat(parts) for name, parts in found.items()}


def kept(
    eviction: str,
    keys: Float[Tensor, "batch heads text k"],
    attention: dict[str, Tensor],
    budget: int,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch heads budget"]:
    """Which tokens of a layer stay, of each head, in the order in which they stand.

    `attention` is what `attended` says. `generator` draws what is random.
    """
    batch, heads, text, _ = keys.shape
    first, last = 0, 0
    if eviction == "random":
        score = torch.rand(batch, heads, text, generator=generator)
    elif eviction in (FIRST, STREAMING):
        first = min(SINKS, budget)
        score, last = torch.zeros(batch, heads, text), budget - first
    elif eviction == "K-norm":
        score = -keys.norm(dim=3)
    elif eviction == "H2O":
        last, score = budget // 2, attention["H2O"]
    elif eviction == "TOVA":
        score = attention["TOVA"]
    elif eviction == "SnapKV":
        last = max(1, min(WINDOW, budget // 2))
        before = attention["SnapKV"][:, :, -last:, :-last].sum(dim=2)
        pooled = F.avg_pool1d(before, NEIGHBOURS, stride=1, padding=NEIGHBOURS // 2)
        score = F.pad(pooled, (0, last))
    else:
        raise ValueError(f"eviction {eviction!r}: is none of this module")
    place = torch.arange(text)
    always = (place < first) | (place >= text - last)
    score = score.masked_fill(always, math.inf)
    return score.topk(budget, dim=2).indices.sort(dim=2).values


def cut(
    cache: Any, places: Int[Tensor, "batch heads budget"], rotary_base: float | None, sinks: int = 0
) -> Any:
    """A cache with the tokens at these places alone, each as far from what comes as it was.

    But for so many `sinks` at its start, whose places are those in the cut cache. `rotary_base` is
    None where keys are not turned; ALiBi counts distances in the cache, and cannot be cut so.
    """
    text, budget = cache.keys.shape[2], places.shape[2]
    index = places[..., None].expand(-1, -1, -1, cache.keys.shape[3])
    keys, values = (part.gather(2, index) for part in (cache.keys, cache.values))
    if rotary_base is not None:
        # The next token's place is the number of keys before it.
        turned = torch.full((budget,), budget - text)
        turned[:sinks] = 0
        keys = rotate(keys, turned, rotary_base)
    return cache._replace(keys=keys, values=values)

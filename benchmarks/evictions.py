"""Which rules does a KV cache keep when most of it is thrown away? Evictions, side by side.

    python benchmarks/evictions.py --run                  # what results/evictions lacks
    python benchmarks/evictions.py                        # the tables, and evictions.png

Of which runs, and when, says caches.py: each layer's cache is cut down to so many tokens.

    first           the first token alone, `<bos>`: what gets past any cut
    random          any tokens
    StreamingLLM    the first 4 and the last                                   arXiv 2309.17453
    K-norm          keys of the smallest norm                                  arXiv 2406.11430
    TOVA            most attended by the last query, mean over heads           arXiv 2401.06104
    H2O             half the last; half most attended by all queries so far    arXiv 2306.14048
    SnapKV          the last w; most attended by them, mean over 5 neighbours  arXiv 2404.14469

Each head is cut by itself but for TOVA, StreamingLLM and `first`. Departures: H2O, TOVA and
StreamingLLM go on evicting while they answer, and here do not; TOVA's, H2O's and SnapKV's prompts
end with the question, and here it comes after the cut; w is 32, or half the budget if that is less;
K-norm leaves the first two layers whole in its authors' code, and these models have two. With
rotary positions the next token's place is the number of tokens that are left: keys are turned
so that each keeps its distance to what comes, but for the first 4 of StreamingLLM, whose places are
those in the cache. The taps' own state, the last seven tokens of a layer, is not cut.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import caches
import torch
from caches import EXAMPLES, Compressing, Compression, Reading, Scores
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rulekeep.kernels.positions import rotate
from rulekeep.mixers.attention import Attention
from rulekeep.running.model import ModelState
from rulekeep.seeds import named_seed

ROOT = caches.RESULTS / "evictions"
# Tokens a layer that are left: 512 bytes each at width 64.
BUDGETS = (8, 16, 32, 64, 128)
SINKS, WINDOW, NEIGHBOURS = 4, 32, 5
FIRST = "first"
EVICTIONS = ("random", "StreamingLLM", "K-norm", "TOVA", "H2O", "SnapKV")
FLOOR = Compression(FIRST, 1)
COMPRESSIONS = [FLOOR, *(Compression(*one) for one in product(EVICTIONS, BUDGETS))]
# Numbers of attention weights at once: 128 MB in float32, of which three are there.
_WEIGHTS_AT_ONCE = 2**25


def attended(queries: Tensor, keys: Tensor) -> dict[str, Tensor]:
    """How much each token is attended to, by what counts it; both `[batch heads time k]`.

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
    keys: Tensor,
    attention: dict[str, Tensor],
    budget: int,
    stream: tuple[object, ...] = (),
) -> Tensor:
    """Which tokens are left of a layer's keys `[batch heads text k]`: `[batch heads budget]`.

    Of each head, in the order in which they stand. `stream` names what is drawn at random.
    """
    batch, heads, text, _ = keys.shape
    first, last = 0, 0
    if eviction == "random":
        generator = torch.Generator().manual_seed(named_seed("evictions", *stream))
        score = torch.rand(batch, heads, text, generator=generator)
    elif eviction in (FIRST, "StreamingLLM"):
        first = min(SINKS, budget)
        score, last = torch.zeros(batch, heads, text), budget - first
    elif eviction == "K-norm":
        score = -keys.norm(dim=3)
    elif eviction == "H2O":
        last, score = budget // 2, attention["H2O"]
    elif eviction == "TOVA":
        score = attention["TOVA"]
    else:
        last = min(WINDOW, budget // 2)
        before = attention["SnapKV"][:, :, -last:, :-last].sum(dim=2)
        pooled = F.avg_pool1d(before, NEIGHBOURS, stride=1, padding=NEIGHBOURS // 2)
        score = F.pad(pooled, (0, last))
    place = torch.arange(text)
    always = (place < first) | (place >= text - last)
    score = score.masked_fill(always, math.inf)
    return score.topk(budget, dim=2).indices.sort(dim=2).values


def cut(cache: Any, places: Tensor, mixer: Attention, sinks: int = 0) -> Any:
    """A cache with the tokens at these places alone, each as far from what comes as it was.

    But for so many `sinks` at its start, whose places are those in the cache.
    """
    assert mixer.positions in ("none", "rotary"), "ALiBi counts distances in the cache"
    text, budget = cache.keys.shape[2], places.shape[2]
    index = places[..., None].expand(-1, -1, -1, mixer.head_width)
    keys, values = (part.gather(2, index) for part in (cache.keys, cache.values))
    if mixer.positions == "rotary":
        # The next token's place is the number of keys before it.
        turned = torch.full((budget,), budget - text)
        turned[:sinks] = 0
        keys = rotate(keys, turned, mixer.rotary_base)
    return cache._replace(keys=keys, values=values)


class Watching(TorchFunctionMode):
    """Sees what every attention inside the `with` block attends to, layer by layer."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Looks at the queries and keys of an attention, and passes every call on."""
        if func is F.scaled_dot_product_attention:
            queries, keys, *_ = args
            self.found.append(attended(queries, keys))
        return func(*args, **(kwargs or {}))


class Evicting(Compressing):
    """A model whose caches are cut once the text is read."""

    def compressed(self, reading: Reading) -> Iterable[Any]:
        """What is left of the cache of each layer."""
        eviction, budget = self.by
        sinks = SINKS if eviction == "StreamingLLM" else 0
        layers = zip(self._mixers(), reading.state.layers, reading.seen, strict=True)
        for layer, (mixer, cache, attention) in enumerate(layers):
            stream = (self.seed, reading.number, layer, reading.state.tokens, budget)
            places = kept(eviction, cache.keys, attention, budget, stream)
            yield cut(cache, places, mixer, sinks)

    def read(self, text: Tensor) -> tuple[ModelState, list[dict[str, Tensor]]]:
        """The state after the text, and what each layer attended to."""
        with Watching() as watching:
            _, state = self.model.advance(text)
        return state, watching.found

    def _mixers(self) -> list[Attention]:
        return [block.mixer for block in self.model.blocks]  # type: ignore[misc]


LINES = [(one, [Compression(one, budget) for budget in BUDGETS]) for one in EVICTIONS]


def page(found: Scores) -> str:
    """A table a length, as Markdown: retention."""
    head = ["eviction", *(f"{budget} left" for budget in BUDGETS)]
    return caches.page(found, head, [("the first token alone", [FLOOR]), *LINES])


def figure(found: Scores) -> Figure:
    """Retention against what is left, by eviction."""
    label = f"tokens a layer that are left of {min(EXAMPLES)}"
    budgets = {by: by.amount for _, cuts in LINES for by in cuts}
    levels = [(FLOOR, ":", "the first token")]
    return caches.figure(found, LINES, budgets, BUDGETS, label, levels)


if __name__ == "__main__":
    caches.main(ROOT, Evicting, COMPRESSIONS, page, figure)

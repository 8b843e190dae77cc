"""A cache of keys and values, compressed after it was read: tokens dropped, or numbers rounded.

    with observed(model, ["knorm", "snapkv"]) as scores: model(ids, use_cache=True)
    evicted(cache, scores["snapkv"], 0.25)            # keeps a quarter of the tokens of each head
    rounded(cache, "kivi", 4)

Each eviction scores every token of every head, and what scores least is dropped; one reading serves
all of them at every share. A score is of `[batch, heads, tokens]`:

    streaming_llm        the first 4 tokens, then the last ones (Xiao et al., arXiv 2309.17453)
    knorm                −|k| (Devoto et al., arXiv 2406.11430)
    tova                 what the last token attends to, mean over heads (Oren et al., 2401.06104)
    h2o                  what all later tokens attend to, mean over them (after Zhang, 2306.14048)
    snapkv               what the last 16 tokens attend to, smoothed over 5 (Li et al., 2404.14469)
    expected_attention   exp(μ·k / √d + kᵀΣk / 2d) |v|, of queries to come (Devoto, 2510.00636)
    random               a uniform number, the same whenever it is drawn for as many tokens

`h2o` has no recent half: it is the form of KVPress. `rulekeep.kernels.evictions` has the published.

Rounding is that of `rulekeep.kernels.rounding`: `kivi` (Liu et al., arXiv 2402.02750), `per_token`.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rulekeep.kernels import rounding

Scores: TypeAlias = dict[str, list[Tensor]]
_Score: TypeAlias = Float[Tensor, "batch heads tokens"]
SINKS, WINDOW, SMOOTHED, FUTURE = 4, 16, 5, 512
SERVED_BYTES = 2
FORMS = {"kivi": rounding.KIVI, "per_token": rounding.PER_TOKEN}


class Seen(NamedTuple):
    """What a layer gives an eviction to judge by."""

    module: Any
    hidden: Float[Tensor, "batch tokens width"]
    keys: Float[Tensor, "batch heads tokens k"]
    values: Float[Tensor, "batch heads tokens v"]
    # Of every query head, what each token attends to; of eager attention only.
    attention: Any

    def by_head(self, found: Float[Tensor, "batch queries tokens"]) -> _Score:
        """The mean over the query heads that share a head of keys."""
        mean: Tensor = found.unflatten(1, (self.keys.shape[1], -1)).mean(2)
        return mean


def _streaming_llm(seen: Seen) -> _Score:
    place = torch.arange(seen.keys.shape[2], device=seen.keys.device).float()
    place[:SINKS] = math.inf
    found: Tensor = place.expand(seen.keys.shape[:3])
    return found


def _knorm(seen: Seen) -> _Score:
    length: Tensor = seen.keys.float().norm(dim=-1)
    return -length


def _tova(seen: Seen) -> _Score:
    last = seen.attention[:, :, -1, :-1].float().mean(1, keepdim=True)
    # The last token itself stays.
    found = F.pad(last, (0, 1), value=math.inf)
    return found.expand(-1, seen.keys.shape[1], -1)


def _h2o(seen: Seen) -> _Score:
    tokens = seen.keys.shape[2]
    later = torch.arange(tokens, 0, -1, device=seen.keys.device)
    return seen.by_head(seen.attention.float().sum(2) / later)


def _snapkv(seen: Seen) -> _Score:
    window = min(WINDOW, seen.keys.shape[2] - 1)
    looked = seen.attention[:, :, -window:, :-window].float().mean(2)
    smooth = F.avg_pool1d(looked, SMOOTHED, stride=1, padding=SMOOTHED // 2)
    return F.pad(seen.by_head(smooth), (0, window), value=math.inf)


def _expected_attention(seen: Seen) -> _Score:
    module, hidden = seen.module, seen.hidden[:, SINKS:]
    head = seen.keys.shape[-1]
    queries = module.q_proj(hidden).unflatten(-1, (-1, head)).transpose(1, 2)
    if (norm := getattr(module, "q_norm", None)) is not None:
        queries = norm(queries)
    queries = queries.float()
    mean = queries.mean(2)
    around = queries - mean.unsqueeze(2)
    spread = around.transpose(-1, -2) @ around / queries.shape[2]
    turn = _mean_turn(module, seen.keys.shape[2], head, seen.hidden)
    mean, spread = mean @ turn.T, turn @ spread @ turn.T
    groups = mean.shape[1] // seen.keys.shape[1]
    keys = seen.keys[:, :, SINKS:].float().repeat_interleave(groups, dim=1)
    logits = (keys @ mean.unsqueeze(-1)).squeeze(-1) / math.sqrt(head)
    logits = logits + ((keys @ spread) * keys).sum(-1) / head / 2
    found = seen.by_head(logits.softmax(-1)) * seen.values[:, :, SINKS:].float().norm(dim=-1)
    return F.pad(found, (SINKS, 0), value=math.inf)


def _mean_turn(module: Any, tokens: int, head: int, like: Tensor) -> Float[Tensor, "k k"]:
    """What the rotation by position does to a query on average, over the next tokens."""
    places = torch.arange(tokens, tokens + FUTURE, device=like.device)[None]
    cos, sin = (part[0].float().mean(0) for part in module.rotary_emb(like, places))
    half = torch.eye(head // 2, device=like.device)
    swap = torch.zeros(head, head, device=like.device)
    swap[head // 2 :, : head // 2], swap[: head // 2, head // 2 :] = half, -half
    turn: Tensor = cos[:, None] * torch.eye(head, device=like.device) + sin[:, None] * swap
    return turn


def _random(seen: Seen) -> _Score:
    shape = seen.keys.shape[:3]
    stream = torch.Generator().manual_seed(1000 * shape[2] + int(seen.module.layer_idx))
    return torch.rand(shape, generator=stream).to(seen.keys.device)


EVICTIONS: dict[str, Callable[[Seen], _Score]] = {
    "streaming_llm": _streaming_llm,
    "knorm": _knorm,
    "tova": _tova,
    "h2o": _h2o,
    "snapkv": _snapkv,
    "expected_attention": _expected_attention,
    "random": _random,
}


_BY_ATTENTION = frozenset({"tova", "h2o", "snapkv"})


def needs_attention(names: Sequence[str]) -> bool:
    """Whether one of these evictions judges by what tokens attend to."""
    return not _BY_ATTENTION.isdisjoint(names)


@contextmanager
def observed(model: Any, names: Sequence[str]) -> Iterator[Scores]:
    """Fills a list of scores for each eviction, a layer after another, while the model reads."""
    scores: Scores = {name: [] for name in names}
    if not names:
        yield scores
        return
    rotary = model.base_model.rotary_emb

    def look(module: Any, _: Any, given: dict[str, Any], out: Any) -> None:
        layer = given["past_key_values"].layers[module.layer_idx]
        module.rotary_emb = rotary
        seen = Seen(module, given["hidden_states"], layer.keys, layer.values, out[1])
        for name in names:
            scores[name].append(EVICTIONS[name](seen))

    hooks = [
        layer.self_attn.register_forward_hook(look, with_kwargs=True)
        for layer in model.base_model.layers
    ]
    try:
        yield scores
    finally:
        for hook in hooks:
            hook.remove()


def guarded(
    score: _Score, kept: int, guard: str, rules: Sequence[Sequence[int]], share: float
) -> _Score:
    """Scores under which so many tokens are kept, but for what a guard says.

    `ends` keeps a tenth of the tokens at each end, half of what is kept at most. `fair` keeps the
    same share of each rule, by its highest scores, and `rules` keeps all their tokens (Chen et al.,
    arXiv 2510.00231); both are told where the rules are.
    """
    found = score.clone()
    if guard == "ends":
        end = min(score.shape[-1] // 10, kept // 2)
        found[..., :end] = found[..., score.shape[-1] - end :] = math.inf
    for places in rules:
        at = torch.tensor(places, device=score.device)
        if guard == "rules":
            found[..., at] = math.inf
        elif guard == "fair":
            own = score[..., at]
            best = own.topk(max(1, int(len(places) * share)), dim=-1).indices
            found[..., at] = torch.full_like(own, -math.inf).scatter(-1, best, math.inf)
    return found


def evicted(
    cache: Any,
    scores: Sequence[_Score],
    share: float,
    guard: str = "",
    rules: Sequence[Sequence[int]] = (),
) -> Any:
    """A cache with this share of the tokens of each head: those that score highest, in order.

    `rules` are the places of each rule's tokens, for a guard.
    """
    own = copy.copy(cache)
    own.layers = []
    for layer, plain in zip(cache.layers, scores, strict=True):
        kept = max(1, int(plain.shape[-1] * share))
        score = guarded(plain, kept, guard, rules, share) if guard else plain
        at = score.topk(kept, dim=-1).indices.sort(dim=-1).values.unsqueeze(-1)
        part = copy.copy(layer)
        part.keys = layer.keys.gather(2, at.expand(-1, -1, -1, layer.keys.shape[-1]))
        part.values = layer.values.gather(2, at.expand(-1, -1, -1, layer.values.shape[-1]))
        own.layers.append(part)
    return own


class _Pair(NamedTuple):
    keys: Tensor
    values: Tensor


def rounded(cache: Any, name: str, bits: int) -> Any:
    """A cache whose keys and values are rounded to so many bits, as `rulekeep.kernels.rounding`."""
    own = copy.copy(cache)
    own.layers = []
    for layer in cache.layers:
        part = copy.copy(layer)
        coarse = rounding.quantised(
            _Pair(layer.keys.float(), layer.values.float()), FORMS[name], bits
        )
        part.keys, part.values = (one.to(layer.keys.dtype) for one in coarse)
        own.layers.append(part)
    return own


def kept_bytes(cache: Any, name: str = "none", bits: int = 0) -> int:
    """Bytes of a cache's keys and values, 16 bits each; if rounded, with the scales of its groups.

    A model that is run in float32 for exactness counts as it would be served.
    """
    if name in FORMS:
        _, heads, text, head = cache.layers[0].keys.shape
        layer = rounding.cache_bytes(FORMS[name], bits, text, width=heads * head, head_width=head)
        return math.ceil(layer * len(cache.layers))
    numbers = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    return int(numbers) * SERVED_BYTES

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

A function of the user's scores as well, by what it asks for (`find_eviction`).

Rounding is that of `rulekeep.kernels.rounding`: `kivi` (Liu et al., arXiv 2402.02750), `per_token`.
"""

import copy
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rulekeep.kernels import rounding
from rulekeep.language.resolving import find_eviction
from rulekeep.plugins import failure_line
from rulekeep.specs import UsageError

Scores: TypeAlias = dict[str, list[Tensor]]
_Score: TypeAlias = Float[Tensor, "batch heads tokens"]
SINKS, WINDOW, SMOOTHED, FUTURE = 4, 16, 5, 512
# Tokens whose attention is summed at once.
BLOCK = 128
# Queries as we make them differ so much from the model's by rounding, of bfloat16 too.
_ROUNDING = 0.02
SERVED_BYTES = 2
FORMS = {"kivi": rounding.KIVI, "per_token": rounding.PER_TOKEN}


class Seen(NamedTuple):
    """What a layer gives an eviction to judge by."""

    layer: int
    keys: Float[Tensor, "batch heads tokens k"]
    values: Float[Tensor, "batch heads tokens v"]
    # Of every query head, what the tokens from one place to another attend to, up to the latter.
    attention: Callable[[int, int], Tensor] | None = None
    # What attention gets, of every query head: rotated, before any score is scaled.
    queries: Any = None
    # For `expected_attention`: the layer, and what it makes queries of.
    module: Any = None
    hidden: Any = None
    scaling: float = 1.0
    rotary: Any = None

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
    assert seen.attention is not None
    tokens = seen.keys.shape[2]
    last = seen.attention(tokens - 1, tokens)[:, :, 0, :-1].float().mean(1, keepdim=True)
    # The last token itself stays.
    found = F.pad(last, (0, 1), value=math.inf)
    return found.expand(-1, seen.keys.shape[1], -1)


def _h2o(seen: Seen) -> _Score:
    assert seen.attention is not None
    tokens, total = seen.keys.shape[2], torch.zeros(1, 1, 1)
    # A whole matrix of attention can be larger than the cache.
    for first in range(0, tokens, BLOCK):
        part = seen.attention(first, min(tokens, first + BLOCK)).float().sum(2)
        total = part + F.pad(total.to(part), (0, part.shape[-1] - total.shape[-1]))
    later = torch.arange(tokens, 0, -1, device=seen.keys.device)
    return seen.by_head(total / later)


def _snapkv(seen: Seen) -> _Score:
    assert seen.attention is not None
    tokens = seen.keys.shape[2]
    window = min(WINDOW, tokens - 1)
    looked = seen.attention(tokens - window, tokens)[..., :-window].float().mean(2)
    smooth = F.avg_pool1d(looked, SMOOTHED, stride=1, padding=SMOOTHED // 2)
    return F.pad(seen.by_head(smooth), (0, window), value=math.inf)


def _expected_attention(seen: Seen) -> _Score:
    module, hidden, head = seen.module, seen.hidden[:, SINKS:], seen.keys.shape[-1]
    queries = module.q_proj(hidden).unflatten(-1, (-1, head)).transpose(1, 2)
    if (norm := getattr(module, "q_norm", None)) is not None:
        queries = norm(queries)
    queries = queries.float()
    mean = queries.mean(2)
    around = queries - mean.unsqueeze(2)
    spread = around.transpose(-1, -2) @ around / queries.shape[2]
    turn = _mean_turn(seen, queries)
    mean, spread = mean @ turn.T, turn @ spread @ turn.T
    groups = mean.shape[1] // seen.keys.shape[1]
    keys = seen.keys[:, :, SINKS:].float().repeat_interleave(groups, dim=1)
    divisor = 1 / seen.scaling
    logits = (keys @ mean.unsqueeze(-1)).squeeze(-1) / divisor
    logits = logits + ((keys @ spread) * keys).sum(-1) / divisor**2 / 2
    found = seen.by_head(logits.softmax(-1)) * seen.values[:, :, SINKS:].float().norm(dim=-1)
    return F.pad(found, (SINKS, 0), value=math.inf)


def _if_built_alike(seen: Seen) -> _Score | None:
    try:
        return _expected_attention(seen)
    except torch.OutOfMemoryError:
        raise
    # A layer that is built otherwise fails in a way of its own.
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None


def _mean_turn(seen: Seen, queries: Float[Tensor, "batch heads tokens k"]) -> Float[Tensor, "k k"]:
    """What the rotation by position does to a query on average, over the next tokens.

    `queries` are ours before it. A layer that does not rotate its own turns none.

    Raises:
        ValueError: what attention gets is neither ours nor ours rotated.
    """
    like, tokens, head = seen.hidden, seen.keys.shape[2], queries.shape[-1]
    whole = torch.eye(head, device=like.device)
    wanted = seen.queries[:, :, SINKS:].float()
    if _is_near(queries, wanted):
        return whole
    half = torch.eye(head // 2, device=like.device)
    swap = torch.zeros(head, head, device=like.device)
    swap[head // 2 :, : head // 2], swap[: head // 2, head // 2 :] = half, -half
    places = torch.arange(SINKS, tokens + FUTURE, device=like.device)[None]
    cos, sin = (part[0].float() for part in seen.rotary(like, places))
    read = tokens - SINKS
    if not _is_near(queries * cos[:read] + queries @ swap.T * sin[:read], wanted):
        raise ValueError("makes its queries otherwise")
    cos, sin = cos[read:].mean(0), sin[read:].mean(0)
    turn: Tensor = cos[:, None] * whole + sin[:, None] * swap
    return turn


def _is_near(ours: Tensor, wanted: Tensor) -> bool:
    return bool((ours - wanted).norm() <= _ROUNDING * wanted.norm())


def _random(seen: Seen) -> _Score:
    shape = seen.keys.shape[:3]
    stream = torch.Generator().manual_seed(1000 * shape[2] + seen.layer)
    return torch.rand(shape, generator=stream).to(seen.keys.device)


class Eviction(NamedTuple):
    """A score, and what it asks of a layer beside keys and values: `attention`, `queries`…"""

    # None where a layer is built otherwise than the score needs.
    score: Callable[[Seen], _Score | None]
    asks: frozenset[str] = frozenset()


_BY_ATTENTION = frozenset({"attention"})
EVICTIONS = {
    "streaming_llm": Eviction(_streaming_llm),
    "knorm": Eviction(_knorm),
    "tova": Eviction(_tova, _BY_ATTENTION),
    "h2o": Eviction(_h2o, _BY_ATTENTION),
    "snapkv": Eviction(_snapkv, _BY_ATTENTION),
    "expected_attention": Eviction(_if_built_alike, frozenset({"hidden"})),
    "random": Eviction(_random),
}
# What a model may not show, as a refusal says it.
_LACKING = {
    "hidden": "needs queries of q_proj, rotated by halves, and this model makes others",
    "attention": "needs what each token attends to, and this model does not show it",
    "queries": "needs the queries of each layer, and this model does not show them",
}


def _eviction(name: str) -> Eviction:
    """One of ours, or `file.py:function` as one."""
    if name in EVICTIONS:
        return EVICTIONS[name]
    function, takes = find_eviction(name)

    def score(seen: Seen) -> _Score:
        # The cache stays as it is, whatever a function writes to.
        shown = seen._replace(keys=seen.keys.clone(), values=seen.values.clone())._asdict()
        if "attention" in takes and seen.attention is not None:
            shown["attention"] = seen.attention(0, seen.keys.shape[2])
        try:
            found = function(**{one: shown[one] for one in takes})
        # An early exit too: it is the user's to read in one line.
        except (Exception, SystemExit) as error:
            raise UsageError(f"compress {name}: {failure_line(error)}") from error
        wanted = list(seen.keys.shape[:3])
        if not isinstance(found, Tensor) or list(found.shape) != wanted:
            of = f" of {list(found.shape)}" if isinstance(found, Tensor) else ""
            raise UsageError(
                f"compress {name}: returned {type(found).__name__}{of}; return a score for each "
                f"token of each head, a tensor of {wanted}"
            )
        if found.isnan().any():
            raise UsageError(f"compress {name}: returned nan; return numbers that can be compared")
        return found.float()

    return Eviction(score, frozenset(takes) & _LACKING.keys())


@contextmanager
def observed(model: Any, names: Sequence[str]) -> Iterator[Scores]:
    """Fills a list of scores for each eviction, a layer after another, while the model reads.

    Raises:
        UsageError: the model does not show what one of them judges by, or the user's fails.
    """
    chosen = {name: _eviction(name) for name in names}
    asked = frozenset[str]().union(*(one.asks for one in chosen.values()))
    scores: Scores = {name: [] for name in names}
    projected = dict[Any, Tensor]()

    def project(projection: Any, given: tuple[Tensor]) -> None:
        projected[projection] = given[0]

    def add(name: str, seen: Seen) -> None:
        found = chosen[name].score(seen)
        if found is not None:
            scores[name].append(found)

    def look(seen: Seen) -> None:
        hidden = projected.get(getattr(seen.module, "q_proj", None))
        # Of one layer at a time: those of all can be larger than the cache.
        projected.clear()
        rotary = getattr(model.base_model, "rotary_emb", None)
        seen = seen._replace(hidden=hidden, rotary=rotary)
        for name, one in chosen.items():
            if one.asks and all(getattr(seen, what) is not None for what in one.asks):
                add(name, seen)

    def judge(_: Any, __: Any, out: Any) -> None:
        layers = out.past_key_values.layers
        for name, one in chosen.items():
            if not one.asks:
                for at, layer in enumerate(layers):
                    add(name, Seen(at, layer.keys, layer.values))
            elif [found.shape for found in scores[name]] != [it.keys.shape[:3] for it in layers]:
                lacking = next(said for what, said in _LACKING.items() if what in one.asks)
                raise UsageError(
                    f"compress {name}: {lacking}; name another eviction, as in knorm@0.25"
                )

    hooks = [model.register_forward_hook(judge)] if names else []
    if "hidden" in asked:
        hooks += [
            module.q_proj.register_forward_pre_hook(project)
            for module in model.modules() if hasattr(module, "q_proj")
        ]  # fmt: skip
    try:
        with _watched(model, look) if asked else nullcontext():
            yield scores
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _watched(model: Any, look: Callable[[Seen], None]) -> Iterator[None]:
    """Shows what each layer of a model gives its attention function.

    Every family of transformers takes that function from a name of its module. The function does
    not say what tokens attend to: that is made beside it, by the family's own eager form, so that
    the model reads in one form whatever is observed.
    """
    family: Any = sys.modules[type(model).__module__]
    functions = getattr(family, "ALL_ATTENTION_FUNCTIONS", None)
    eager = getattr(family, "eager_attention_forward", None)
    if functions is None or eager is None:
        yield
        return

    def attend(
        module: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None,
        *more: Any, **given: Any,
    ) -> Any:  # fmt: skip
        def attention(first: int, last: int) -> Tensor:
            shown = torch.ones(last - first, last, dtype=torch.bool, device=keys.device).tril(first)
            if mask is not None:
                shown = mask[..., first:last, :last]
            hidden = torch.zeros(shown.shape).to(keys)
            hidden = hidden.masked_fill(~shown, torch.finfo(keys.dtype).min)
            weights: Tensor = eager(
                module, queries[:, :, first:last], keys[:, :, :last],
                # Weights alone are asked for: one number of each value serves.
                values[:, :, :last, :1],
                hidden.expand(1, 1, -1, -1), *more, **given,
            )[1]  # fmt: skip
            return weights

        scaling = given.get("scaling") or queries.shape[-1] ** -0.5
        layer = getattr(module, "layer_idx", 0)
        look(Seen(layer, keys, values, attention, queries, module, scaling=scaling))
        return functions["sdpa"](module, queries, keys, values, mask, *more, **given)

    own = type(functions)()
    own["sdpa"] = attend
    family.ALL_ATTENTION_FUNCTIONS = own
    try:
        yield
    finally:
        family.ALL_ATTENTION_FUNCTIONS = functions


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

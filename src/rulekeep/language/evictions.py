"""A cache of keys and values, compressed after it was read: tokens dropped, or numbers rounded.

    with observed(model, ["knorm", "snapkv"]) as scores: model(ids, use_cache=True)
    evicted(cache, scores["snapkv"], 0.25)            # keeps a quarter of the tokens of each head
    rounded(cache, "kivi", 4)

Each eviction scores every token of every head, and what scores least is dropped; one reading serves
all of them at every share. A score is of `[batch, heads, tokens]`. Each of ours is the function of
its name here, and gets by name what it asks for, as a user's does
(`rulekeep.language.compressions.asked_of`).

Rounding is that of `rulekeep.kernels.rounding`: `kivi` (Liu et al., arXiv 2402.02750), `per_token`.
"""

import copy
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rulekeep.kernels import rounding
from rulekeep.language.compressions import asked_of, is_function
from rulekeep.registry import failure_line
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
# What tokens from one place to another attend to, up to the latter: [batch, query heads, …].
_Attending: TypeAlias = Callable[[int, int], Tensor]


class _Pair(NamedTuple):
    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Seen:
    """What a layer gives an eviction to judge by; None is what it does not show.

    `queries` are as attention gets them: rotated, before any score is scaled. `module`, `hidden`,
    `scaling` and `rotary` are for `expected_attention` and presses of kvpress: the layer, and what
    it makes queries of.
    """

    layer: int
    keys: Float[Tensor, "batch heads tokens k"]
    values: Float[Tensor, "batch heads tokens v"]
    attending: _Attending | None = None
    queries: Tensor | None = None
    module: Any = None
    hidden: Tensor | None = None
    scaling: float = 1.0
    rotary: Any = None

    @cached_property
    def attention(self) -> Float[Tensor, "batch queries tokens tokens"] | None:
        """What each token attends to; the whole matrix can be larger than the cache."""
        return self.attending and self.attending(0, self.keys.shape[2])


def _by_head(keys: Tensor, score: Float[Tensor, "batch queries tokens"]) -> _Score:
    """The mean over the query heads that share a head of keys."""
    mean: Tensor = score.unflatten(1, (keys.shape[1], -1)).mean(2)
    return mean


def streaming_llm(keys: Tensor) -> _Score:
    """The first 4 tokens, then the last ones (Xiao et al., arXiv 2309.17453)."""
    place = torch.arange(keys.shape[2], device=keys.device).float()
    place[:SINKS] = math.inf
    return place.expand(keys.shape[:3])


def knorm(keys: Tensor) -> _Score:
    """−|k| (Devoto et al., arXiv 2406.11430)."""
    length: Tensor = keys.float().norm(dim=-1)
    return -length


def tova(keys: Tensor, attending: _Attending) -> _Score:
    """What the last token attends to, mean over heads (Oren et al., arXiv 2401.06104)."""
    tokens = keys.shape[2]
    last = attending(tokens - 1, tokens)[:, :, 0, :-1].float().mean(1, keepdim=True)
    # The last token itself stays.
    return F.pad(last, (0, 1), value=math.inf).expand(-1, keys.shape[1], -1)


def h2o(keys: Tensor, attending: _Attending) -> _Score:
    """What all later tokens attend to, mean over them: KVPress's form of H2O, no recent half.

    `rulekeep.kernels.evictions` has the published one (Zhang et al., arXiv 2306.14048).
    """
    tokens, total = keys.shape[2], torch.zeros(1, 1, 1)
    # A whole matrix of attention can be larger than the cache.
    for first in range(0, tokens, BLOCK):
        part = attending(first, min(tokens, first + BLOCK)).float().sum(2)
        total = part + F.pad(total.to(part), (0, part.shape[-1] - total.shape[-1]))
    later = torch.arange(tokens, 0, -1, device=keys.device)
    return _by_head(keys, total / later)


def snapkv(keys: Tensor, attending: _Attending) -> _Score:
    """What the last 16 tokens attend to, smoothed over 5 (Li et al., arXiv 2404.14469)."""
    tokens = keys.shape[2]
    window = min(WINDOW, tokens - 1)
    looked = attending(tokens - window, tokens)[..., :-window].float().mean(2)
    smooth = F.avg_pool1d(looked, SMOOTHED, stride=1, padding=SMOOTHED // 2)
    return F.pad(_by_head(keys, smooth), (0, window), value=math.inf)


def expected_attention(
    keys: Tensor, values: Tensor, queries: Tensor, module: Any, hidden: Tensor, scaling: float,
    rotary: Any,
) -> _Score:  # fmt: skip
    """exp(μ·k / √d + kᵀΣk / 2d) |v|, of queries to come (Devoto et al., arXiv 2510.00636)."""
    own = module.q_proj(hidden[:, SINKS:]).unflatten(-1, (-1, keys.shape[-1])).transpose(1, 2)
    if (norm := getattr(module, "q_norm", None)) is not None:
        own = norm(own)
    own = own.float()
    mean = own.mean(2)
    around = own - mean.unsqueeze(2)
    spread = around.transpose(-1, -2) @ around / own.shape[2]
    turn = _mean_turn(own, queries[:, :, SINKS:].float(), hidden, rotary)
    mean, spread = mean @ turn.T, turn @ spread @ turn.T
    groups = mean.shape[1] // keys.shape[1]
    later = keys[:, :, SINKS:].float().repeat_interleave(groups, dim=1)
    divisor = 1 / scaling
    logits = (later @ mean.unsqueeze(-1)).squeeze(-1) / divisor
    logits = logits + ((later @ spread) * later).sum(-1) / divisor**2 / 2
    score = _by_head(keys, logits.softmax(-1)) * values[:, :, SINKS:].float().norm(dim=-1)
    return F.pad(score, (SINKS, 0), value=math.inf)


def _mean_turn(
    own: Float[Tensor, "batch heads tokens k"],
    wanted: Float[Tensor, "batch heads tokens k"],
    hidden: Tensor,
    rotary: Any,
) -> Float[Tensor, "k k"]:
    """What the rotation by position does to a query on average, over the next tokens.

    `own` are ours before it, and `wanted` what attention gets of the tokens behind the sinks. A
    layer that does not rotate its own turns none.
    """
    read, head = own.shape[2], own.shape[-1]
    whole = torch.eye(head, device=own.device)
    apart = _ROUNDING * wanted.norm()
    if (own - wanted).norm() <= apart:
        return whole
    half = torch.eye(head // 2, device=own.device)
    swap = torch.zeros(head, head, device=own.device)
    swap[head // 2 :, : head // 2], swap[: head // 2, head // 2 :] = half, -half
    places = torch.arange(SINKS, SINKS + read + FUTURE, device=own.device)[None]
    cos, sin = (part[0].float() for part in rotary(hidden, places))
    if not (own * cos[:read] + own @ swap.T * sin[:read] - wanted).norm() <= apart:
        raise ValueError("makes its queries otherwise")
    cos, sin = cos[read:].mean(0), sin[read:].mean(0)
    turn: Tensor = cos[:, None] * whole + sin[:, None] * swap
    return turn


def random(keys: Tensor, layer: int) -> _Score:
    """A uniform number, the same whenever it is drawn for as many tokens."""
    stream = torch.Generator().manual_seed(1000 * keys.shape[2] + layer)
    return torch.rand(keys.shape[:3], generator=stream).to(keys.device)


# What a model may not show: its layers are built otherwise, or their attention is not observed.
_HIDDEN = frozenset({"hidden", "attending", "attention", "queries", "module"})


def asked_for(name: str) -> frozenset[str]:
    """What an eviction asks for of a layer that a model may not show."""
    return frozenset(_function(name)[1]) & _HIDDEN


def _function(name: str) -> tuple[Callable[..., Any], Sequence[str]]:
    if is_function(name):
        return asked_of(name)
    ours = getattr(sys.modules[__name__], name)
    return ours, [*inspect.signature(ours).parameters]


def scored(name: str, seen: Seen) -> _Score | None:
    """The scores of one of ours, or of `file.py:function`; None of a layer that is built otherwise.

    Raises:
        UsageError: the user's function fails, or returns something else.
    """
    function, asked = _function(name)
    if is_function(name):
        # The cache stays as it is.
        seen = replace(seen, keys=seen.keys.clone(), values=seen.values.clone())
    try:
        score = function(**{key: getattr(seen, key) for key in asked})
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if name == expected_attention.__name__:
            # A layer that is built otherwise fails in a way of its own.
            return None
        raise UsageError(f"compress {name}: {failure_line(error)}") from error
    wanted = list(seen.keys.shape[:3])
    if not isinstance(score, Tensor) or list(score.shape) != wanted or score.isnan().any():
        raise UsageError(
            f"compress {name}: return a number for each token of each head, a tensor of {wanted}"
        )
    return score.float()


@contextmanager
def observed(model: Any, names: Sequence[str]) -> Iterator[Scores]:
    """Fills a list of scores for each eviction, a layer after another, while the model reads."""
    needs = {name: asked_for(name) for name in names}
    asked = frozenset[str]().union(*needs.values())
    scores, projected = {name: list[Tensor]() for name in names}, dict[Any, Tensor]()

    def project(projection: Any, given: tuple[Tensor]) -> None:
        projected[projection] = given[0]

    def add(name: str, seen: Seen) -> None:
        score = scored(name, seen)
        if score is not None:
            scores[name].append(score)

    def look(seen: Seen) -> None:
        hidden = projected.get(getattr(seen.module, "q_proj", None))
        # Of one layer at a time: those of all can be larger than the cache.
        projected.clear()
        seen = replace(seen, hidden=hidden, rotary=getattr(model.base_model, "rotary_emb", None))
        for name, needed in needs.items():
            # Whoever shows what it attends to shows its queries too.
            if needed and ("hidden" not in needed or hidden is not None):
                add(name, seen)

    def judge(_: Any, __: Any, out: Any) -> None:
        layers = out.past_key_values.layers
        for name, needed in needs.items():
            if not needed:
                for at, layer in enumerate(layers):
                    add(name, Seen(at, layer.keys, layer.values))
            elif [of.shape for of in scores[name]] != [layer.keys.shape[:3] for layer in layers]:
                raise UsageError(
                    f"compress {name}: needs {', '.join(sorted(needed))} of each layer, and this "
                    "model shows no such; name another eviction, as in knorm@0.25"
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
        def attending(first: int, last: int) -> Tensor:
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
        at = getattr(module, "layer_idx", 0)
        look(Seen(at, keys, values, attending, queries, module, scaling=scaling))
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
    kept = []
    for layer, plain in zip(cache.layers, scores, strict=True):
        most = max(1, int(plain.shape[-1] * share))
        score = guarded(plain, most, guard, rules, share) if guard else plain
        at = score.topk(most, dim=-1).indices.sort(dim=-1).values.unsqueeze(-1)
        parts = (layer.keys, layer.values)
        kept.append(_Pair(*(one.gather(2, at.expand(-1, -1, -1, one.shape[-1])) for one in parts)))
    return _with(cache, kept)


def rounded(cache: Any, name: str, bits: int) -> Any:
    """A cache whose keys and values are rounded to so many bits, as `rulekeep.kernels.rounding`."""
    whole = [_Pair(layer.keys.float(), layer.values.float()) for layer in cache.layers]
    coarse = [rounding.quantised(one, FORMS[name], bits) for one in whole]
    dtype = cache.layers[0].keys.dtype
    return _with(cache, [_Pair(*(part.to(dtype) for part in one)) for one in coarse])


def _with(cache: Any, pairs: Sequence[_Pair]) -> Any:
    """A cache like this one, with other keys and values in each layer."""
    own = copy.copy(cache)
    own.layers = [copy.copy(layer) for layer in cache.layers]
    for layer, (keys, values) in zip(own.layers, pairs, strict=True):
        layer.keys, layer.values = keys, values
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

"""Causal softmax attention (Vaswani et al. 2017, arXiv 1706.03762): the full context.

    o_t = sum_{i <= t} softmax_i(q_t · k_i / sqrt(head width)) v_i      per head

`positions="rotary"` turns queries and keys by their place in the text (RoFormer), `"alibi"`
takes m_h (t − i) off every score: see `rulekeep.kernels.positions`. Learned ones are the model's.
The place of a token is the number of keys in the cache before it.

`scaling` stretches rotary angles beyond `trained_length`: position interpolation, NTK or YaRN. It
does so by `scaling_factor`, or by as many trained lengths as the text has so far. Within the
trained length nothing changes.

`length_scaling` multiplies scores by ln n / ln `trained_length`, where a token sees n keys, its own
included (Chiang and Cholak 2022, arXiv 2202.12172): softmax over more keys is flatter. With
`"beyond"` only where n is above the trained length, so training is as without; with `"always"` in
training too.

`randomised_positions=n` trains with random places out of n, in order, anew at each step (Ruoss et
al. 2023). The paper draws at test too, for the length of the text. A reader of a stream does not
know that length, so tests count tokens. Such places are not those trained with: even texts of a
trained length are then read badly.

`conv_size=n` sends queries, keys and values through sum_{j < n} w_j · x_{t−j} first, a filter a
channel that starts as the identity. Positions come after it. The state has its last n − 1 inputs.

It cannot bound its state: a token costs as much as the text before it is long.

The state is the KV cache: it grows by 2 x width numbers a token.
"""

import math
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from rulekeep.kernels.positions import (
    Base,
    RotaryScaling,
    Scaling,
    alibi_slopes,
    check_rotary,
    drawn_places,
    rotate,
    turned,
)
from rulekeep.mixers.base import Count, Ends, Vectors
from rulekeep.mixers.softmax import SoftmaxMixer, in_blocks


class Attention(SoftmaxMixer):
    """Multi-head causal attention; the model adds learned positions to `x` before."""

    def __init__(
        self,
        width: int,
        *,
        positions: Literal["none", "rotary", "alibi"] = "none",
        rotary_base: Base = 10_000.0,
        scaling: Scaling = "none",
        trained_length: Count | None = None,
        scaling_factor: Annotated[float, Field(gt=1)] | None = None,
        randomised_positions: Count | None = None,
        length_scaling: Literal["none", "beyond", "always"] = "none",
        **options: Any,
    ) -> None:
        super().__init__(width, **options)
        self.positions, self.rotary_base = positions, rotary_base
        if positions == "rotary":
            check_rotary(self.head_width)
        self.length_scaling, self.trained_length = length_scaling, trained_length
        if length_scaling != "none":
            _check_length(length_scaling, scaling, trained_length)
            trained_length = None
        self.scaling = _checked_scaling(
            positions, scaling, trained_length, scaling_factor, self.head_width
        )
        if randomised_positions is not None:
            _check_randomised(positions, self.scaling, randomised_positions)
        self.randomised_positions = randomised_positions
        # Until a training says so, places count tokens.
        self._step: int | None = None

    def forward(self, x: Vectors, state: Any | None = None) -> tuple[Vectors, Any]:
        """Outputs at every position, and the cache with these tokens in it."""
        queries, after = self._asked(x, self.init_state(len(x)) if state is None else state)
        return self._attend(queries, after.keys, after.values), after

    def tail(self, x: Vectors, last: int) -> Ends:
        """Keys and values of every position, queries of the last ones only."""
        if self.filters is not None:
            # Queries too see the tokens before them, and records were made with all of them.
            return super().tail(x, last)
        query_rows, other_rows = self.in_projection.weight.tensor_split([x.shape[-1]])
        query_bias, other_bias = self.in_projection.bias.tensor_split([x.shape[-1]])
        queries = self._split(F.linear(x[:, -last:], query_rows, query_bias))
        keys, values = map(self._split, F.linear(x, other_rows, other_bias).chunk(2, -1))
        places = self._places(0, x.shape[1], x.device)
        queries = self._sharpened(queries, x.shape[1] - last)
        queries, keys = self._placed(queries, places[-last:]), self._placed(keys, places)
        return self._attend(queries, keys, values)

    def start_step(self, step: int) -> None:
        """The step that random places are drawn for."""
        self._step = step

    def _places(self, past: int, time: int, device: torch.device) -> Tensor:
        # A text that goes on from a cache counts on: where it began, nothing says.
        if self.training and self._step is not None and self.randomised_positions and not past:
            return drawn_places(time, self.randomised_positions, self._step).to(device)
        return torch.arange(past, past + time, device=device)

    def _at(self, past: int, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        places = self._places(past, queries.shape[2], queries.device)
        queries = self._sharpened(queries, past)
        return self._placed(queries, places), self._placed(keys, places)

    def _sharpened(self, queries: Float[Tensor, "batch heads time k"], past: int) -> Tensor:
        """Queries times ln n / ln of the trained length, where n keys are seen."""
        if self.length_scaling == "none":
            return queries
        assert self.trained_length is not None
        seen = torch.arange(past + 1, past + 1 + queries.shape[2], device=queries.device)
        factor = seen.to(queries).log() / math.log(self.trained_length)
        return (
            queries * (factor.clamp(min=1) if self.length_scaling == "beyond" else factor)[:, None]
        )

    def _placed(self, x: Float[Tensor, "batch heads time k"], places: Tensor) -> Tensor:
        if self.positions != "rotary" or self.scaling:
            return x
        return rotate(x, places, self.rotary_base)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if self.positions == "alibi":
            biases = queries.shape[1]
            return self._merge(in_blocks(_alibi, (queries,), (keys, values), biases=biases))
        if self.scaling:
            read = scaled_attention(queries, keys, values, self.scaling, self.rotary_base)
            return self._merge(read)
        return self._merge(causal_attention(queries, keys, values))


def _checked_scaling(
    positions: str, by: Scaling, length: int | None, factor: float | None, head_width: int
) -> RotaryScaling | None:
    if by == "none":
        given = {"trained_length": length, "scaling_factor": factor}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} {value}: needs scaling interpolation, ntk or yarn")
        return None
    if positions != "rotary":
        raise ValueError(f"scaling {by!r}: needs positions 'rotary', not {positions!r}")
    if length is None:
        raise ValueError(f"trained_length {length}: scaling needs the longest text in training")
    if by == "ntk" and head_width < 4:
        raise ValueError(f"scaling 'ntk': heads of {head_width} channels, must be at least 4")
    return RotaryScaling(by, length, factor)


def _check_length(by: str, scaling: str, length: int | None) -> None:
    if scaling != "none":
        raise ValueError(f"length_scaling {by!r}: beside scaling {scaling!r}; choose one")
    if length is None or length < 2:
        raise ValueError(
            f"trained_length {length}: length_scaling needs the longest text in training"
        )


def _check_randomised(positions: str, scaling: RotaryScaling | None, within: int) -> None:
    if positions != "rotary":
        raise ValueError(f"randomised_positions {within}: needs positions 'rotary'")
    if scaling:
        raise ValueError(f"randomised_positions {within}: leaves nothing to scale; choose one")


def causal_attention(
    queries: Float[Tensor, "batch heads time k"],
    keys: Float[Tensor, "batch heads total k"],
    values: Float[Tensor, "batch heads total k"],
) -> Float[Tensor, "batch heads time k"]:
    """Attention of the last `time` of `total` positions, through torch's fused kernels.

    A whole sequence needs no mask tensor; a piece of one needs `[time, total]` booleans.
    """
    time, total = queries.shape[2], keys.shape[2]
    if time == total:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    mask = None
    if time > 1:
        mask = torch.ones(time, total, dtype=torch.bool, device=keys.device).tril(total - time)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


def scaled_attention(
    queries: Float[Tensor, "batch heads time k"],
    keys: Float[Tensor, "batch heads total k"],
    values: Float[Tensor, "batch heads total k"],
    scaling: RotaryScaling,
    base: float,
) -> Float[Tensor, "batch heads time k"]:
    """Attention of unrotated queries and keys: all queries of one factor at once."""
    (time, k), total = queries.shape[2:], keys.shape[2]
    place = torch.arange(total, device=keys.device)
    past, outputs = total - time, [queries[:, :, :0]]
    for start, end, factor in scaling.spans(past, total):
        by = scaling.frequencies(k, base, factor, keys.device)
        asking = turned(queries[:, :, start - past : end - past], place[start:end], by)
        asked = turned(keys[:, :, :end], place[:end], by)
        sharpness = scaling.sharpness(factor)
        asking = asking if sharpness == 1 else asking * sharpness
        outputs.append(causal_attention(asking, asked, values[:, :, :end]))
    return outputs[1] if len(outputs) == 2 else torch.cat(outputs, dim=2)


def _alibi(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of the last queries with ALiBi's biases."""
    (heads, time), total = queries.shape[1:3], keys.shape[2]
    kind = torch.promote_types(queries.dtype, torch.float32)
    place = torch.arange(total, dtype=kind, device=queries.device)
    distance = place[total - time :, None] - place
    slopes = alibi_slopes(heads, like=distance).view(-1, 1, 1)
    bias = (-slopes * distance).masked_fill_(distance < 0, -math.inf)
    return F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=bias.to(queries.dtype).unsqueeze(0)
    )

"""Positions inside attention: rotary angles, their scaling beyond a length, and linear biases.

    rotary   pairs (x_c, x_{c + k/2}) turn by t · f_c,  f_c = base^(−2c/k),
             so q_t · k_i depends on t − i
    ALiBi    score − m_h (t − i),  m_h = 2^(−8h/H) for the heads h = 1 … H

Scaled by s, so that a text s times as long as the trained length L has angles that were trained:

    interpolation   f_c / s                                                    arXiv 2306.15595
    NTK             f_c of the base  base · s^(k / (k − 2))                    bloc97 2023
    YaRN            f_c (1 − r_c) + r_c f_c / s,  scores times (0.1 ln s + 1)² arXiv 2309.00071

r_c rises from 0 to 1 between the channels that turn 32 times and once in L tokens, in a straight
line over channels, as in the code of YaRN's authors; their paper has it over turns.

RoFormer: Su et al. 2021, arXiv 2104.09864 (the paper pairs neighbouring channels: the same up to
the order of channels). ALiBi: Press et al. 2022, arXiv 2108.12409 (the paper interleaves two such
series where the heads are no power of two; here the formula stands for every number of heads).
"""

import math
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

Base: TypeAlias = Annotated[float, Field(gt=1)]
Scaling: TypeAlias = Literal["none", "interpolation", "ntk", "yarn"]
# Turns within the trained length: channels that turn more keep their angles, those that turn less
# are interpolated.
_FAST, _SLOW = 32, 1


def rotate(
    x: Float[Tensor, "... time k"], positions: Int[Tensor, " time"], base: float
) -> Float[Tensor, "... time k"]:
    """`x` turned by the angles of its positions; `k` is even."""
    return turned(x, positions, frequencies(x.shape[-1], base, x.device))


def frequencies(k: int, base: float, device: torch.device | None = None) -> Float[Tensor, " half"]:
    """f_c of each pair of channels, in float64."""
    channel = torch.arange(k // 2, dtype=torch.float64, device=device)
    return base ** (-channel / (k // 2))


def turned(
    x: Float[Tensor, "... time k"],
    positions: Int[Tensor, " time"],
    by: Float[Tensor, " half"],
) -> Float[Tensor, "... time k"]:
    """`x` turned by position times frequency.

    Angles are float64, so that token 100,000 turns as exactly as token 1.
    """
    half = x.shape[-1] // 2
    angles = positions.to(torch.float64)[:, None] * by
    # Half precision is too coarse to turn in: under autocast it is left for the turn.
    kind = torch.promote_types(x.dtype, torch.float32)
    cosine, sine = angles.cos().to(kind), angles.sin().to(kind)
    first, second = x.to(kind).split(half, dim=-1)
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return torch.cat(turned, dim=-1).to(x.dtype)


class RotaryScaling(NamedTuple):
    """What is done to rotary angles beyond the trained length.

    A query within it sees plain angles. One beyond it sees all keys, and itself, by angles scaled
    by `factor`; by how many trained lengths the text takes so far, if that is None. So a text has
    the same scores whole, in pieces and token by token.
    """

    by: Scaling
    trained_length: int
    factor: float | None = None

    def spans(self, start: int, end: int) -> Iterator[tuple[int, int, float]]:
        """Pieces of the queries from `start` to `end` that have one factor, and that factor."""
        length = self.trained_length
        while start < end:
            number = start // length + 1
            stop = end if self.factor and number > 1 else min(end, number * length)
            yield start, stop, self.factor if self.factor and number > 1 else number
            start = stop

    def frequencies(
        self, k: int, base: float, factor: float, device: torch.device | None = None
    ) -> Float[Tensor, " half"]:
        """f_c scaled by a factor."""
        if factor == 1:
            return frequencies(k, base, device)
        if self.by == "ntk":
            return frequencies(k, base * factor ** (k / (k - 2)), device)
        plain = frequencies(k, base, device)
        if self.by == "interpolation":
            return plain / factor
        low, high = (
            k * math.log(self.trained_length / (turns * 2 * math.pi)) / (2 * math.log(base))
            for turns in (_FAST, _SLOW)
        )
        first, last = max(math.floor(low), 0), min(math.ceil(high), k - 1)
        channel = torch.arange(k // 2, dtype=torch.float64, device=device)
        # Where both fall on one channel, the next is interpolated whole.
        share = ((channel - first) / max(last - first, 1e-3)).clamp(0, 1)
        return plain * (1 - share) + plain / factor * share

    def sharpness(self, factor: float) -> float:
        """What scores are multiplied by."""
        return (0.1 * math.log(factor) + 1) ** 2 if self.by == "yarn" and factor > 1 else 1.0


def drawn_places(time: int, within: int, step: int) -> Int[Tensor, " time"]:
    """Random places in increasing order, without repeats: those of a training step.

    Ruoss et al. 2023, arXiv 2305.16843. Every sequence, layer and seed has the same.

    Raises:
        ValueError: there are fewer places than tokens.
    """
    if time > within:
        raise ValueError(
            f"randomised_positions {within}: a text of {time} tokens needs as many; raise it"
        )
    stream = torch.Generator("cpu").manual_seed(step)
    return torch.randperm(within, generator=stream, device="cpu")[:time].sort().values


def alibi_slopes(heads: int, *, like: Tensor) -> Float[Tensor, " heads"]:
    """m_h of every head, on the device of `like` and in its precision."""
    head = torch.arange(1, heads + 1, dtype=like.dtype, device=like.device)
    return torch.exp2(-8 * head / heads)


def check_rotary(head_width: int) -> None:
    """Raises the ValueError that a user sees for a width that cannot turn."""
    if head_width % 2:
        raise ValueError(f"positions 'rotary': heads of {head_width} channels, must be even")

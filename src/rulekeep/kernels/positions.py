"""Positions inside attention: rotary angles and linear biases.

    rotary   pairs (x_c, x_{c + k/2}) turn by t · base^(−2c/k), so q_t · k_i depends on t − i
    ALiBi    score − m_h (t − i),  m_h = 2^(−8h/H) for the heads h = 1 … H

RoFormer: Su et al. 2021, arXiv 2104.09864 (the paper pairs neighbouring channels: the same up to
the order of channels). ALiBi: Press et al. 2022, arXiv 2108.12409 (the paper interleaves two such
series where the heads are no power of two; here the formula stands for every number of heads).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotate(
    x: Float[Tensor, "... time k"], positions: Int[Tensor, " time"], base: float
) -> Float[Tensor, "... time k"]:
    """`x` turned by the angles of its positions; `k` is even.

    Angles are float64, so that token 100,000 turns as exactly as token 1.
    """
    half = x.shape[-1] // 2
    channel = torch.arange(half, dtype=torch.float64, device=x.device)
    angles = positions.to(torch.float64)[:, None] * base ** (-channel / half)
    # Half precision is too coarse to turn in: under autocast it is left for the turn.
    kind = torch.promote_types(x.dtype, torch.float32)
    cosine, sine = angles.cos().to(kind), angles.sin().to(kind)
    first, second = x.to(kind).split(half, dim=-1)
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return torch.cat(turned, dim=-1).to(x.dtype)


def alibi_slopes(heads: int, *, like: Tensor) -> Float[Tensor, " heads"]:
    """m_h of every head, on the device of `like` and in its precision."""
    head = torch.arange(1, heads + 1, dtype=like.dtype, device=like.device)
    return torch.exp2(-8 * head / heads)


def check_rotary(head_width: int, base: float) -> None:
    """Raises the ValueError that a user sees for a width or a base that cannot turn."""
    if head_width % 2:
        raise ValueError(f"positions 'rotary': heads of {head_width} channels, must be even")
    if not base > 1:
        raise ValueError(f"rotary_base {base}: must be above 1")

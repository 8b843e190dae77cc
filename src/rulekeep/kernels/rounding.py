"""Rounding: the numbers of a KV cache in few bits, and the bytes that they take.

    x ≈ m + s · round((x − m) / s)      s = (max − m) / (2^bits − 1),  m the least of a group

with m and s in half precision. A group is of one head, and of

    per token   a token's channels, for keys and values
    KIVI        keys: a channel of 32 tokens, the text's last 0 to 31 not rounded;
                values: a token's channels, the last 32 tokens not rounded     arXiv 2402.02750

What is not rounded is in half precision; the form `half precision` rounds nothing more. Rotary keys
are rounded as they are cached, turned, as in KIVI's code. What differs from the paper: its groups
of a token have 32 channels, here a head's; it goes on rounding while it answers; its prompts end
with the question, and here it comes after. KIVI has 2 and 4 bits.
"""

from typing import Any

import torch
from torch import Tensor

HALF, PER_TOKEN, KIVI = "half precision", "per token", "KIVI"
HALF_BITS = 16
# Tokens of a group of KIVI's keys, and its last values that are not rounded.
WINDOW = 32


def rounded(x: Tensor, bits: int, dim: int) -> Tensor:
    """`x` to so many bits, in groups along one of its dimensions."""
    # In half precision the ends move: a number beyond them is taken for the end.
    least = x.amin(dim, keepdim=True).half().to(x.dtype)
    most = x.amax(dim, keepdim=True)
    step = ((most - least) / (2**bits - 1)).half().to(x.dtype)
    # Equal numbers have no step.
    level = (x - least) / step.where(step > 0, torch.ones_like(step))
    near: Tensor = least + step * level.round().clamp(0, 2**bits - 1)
    return near


def not_rounded(form: str, text: int) -> tuple[int, int]:
    """How many keys and how many values at the end of a text stay in half precision."""
    if form == HALF:
        return text, text
    return (text % WINDOW, min(WINDOW, text)) if form == KIVI else (0, 0)


def quantised(cache: Any, form: str, bits: int) -> Any:
    """A cache of a text, its keys and values `[batch heads text k]` rounded."""
    keys, values = (part.half().to(part.dtype) for part in (cache.keys, cache.values))
    text = keys.shape[2]
    key_end, value_end = (text - kept for kept in not_rounded(form, text))
    of_keys, of_values = cache.keys[:, :, :key_end], cache.values[:, :, :value_end]
    if form == KIVI:
        groups = of_keys.unflatten(2, (-1, WINDOW))
        keys[:, :, :key_end] = rounded(groups, bits, dim=3).flatten(2, 3)
    else:
        keys[:, :, :key_end] = rounded(of_keys, bits, dim=3)
    values[:, :, :value_end] = rounded(of_values, bits, dim=3)
    return cache._replace(keys=keys, values=values)


def cache_bytes(form: str, bits: int, text: int, *, width: int = 64, head_width: int = 16) -> float:
    """Bytes a layer that the keys and values of a text take, with m and s of every group."""
    groups = (WINDOW if form == KIVI else head_width, head_width)
    total = 0.0
    for group, kept in zip(groups, not_rounded(form, text), strict=True):
        total += kept * HALF_BITS + (text - kept) * (bits + 2 * HALF_BITS / group)
    return total * width / 8

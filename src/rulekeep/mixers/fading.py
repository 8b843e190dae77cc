"""What the matrix memories that fade share: how long they remember at the start, ours or published.

    S ← Diag(a) S                  a_t = exp(−e^A softplus(W₂ W₁ x + b)) for each key channel, or
                                   what else a mixer makes of its tokens

A mixer of this kind is its `forms`, its `_start` and its `_log_decay`.
"""

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rulekeep.mixers.matrix import MatrixMixer
from rulekeep.mixers.published import DecayStart, HalfLife, Parts, rate_of_half_life, start_decays


class Fading(MatrixMixer):
    """A memory that fades, whose half-life at the start can be chosen.

    `published=True` takes the parts and the start of the layer as published; `decay_start` says
    which start by itself.
    """

    # What surrounds the memory: ours, and as published.
    forms: ClassVar[tuple[Parts, Parts]]

    def __init__(
        self,
        width: int,
        /,
        *,
        half_life_tokens: HalfLife | None = 1024.0,
        published: bool = False,
        decay_start: DecayStart = None,
        **options: Any,
    ) -> None:
        super().__init__(width, self.forms[published], **options)
        self.published = published
        as_published = published if decay_start is None else decay_start == "published"
        self._start(width, half_life_tokens, as_published)

    @abstractmethod
    def _start(self, width: int, half_life_tokens: float | None, as_published: bool) -> None:
        """Makes what decays are made of: with this half-life, or as published."""


class ChannelDecay(Fading):
    """A memory whose key channels each have a decay that depends on the token."""

    def _start(self, width: int, half_life_tokens: float | None, as_published: bool) -> None:
        up = nn.Linear(self.value_width, self.heads * self.key_width)
        nn.init.zeros_(up.bias)
        self.step = nn.Sequential(nn.Linear(width, self.value_width, bias=False), up)
        rate = rate_of_half_life(half_life_tokens) / math.log(2)
        self.log_rate = nn.Parameter(torch.full((self.heads, 1), math.log(rate)))
        if as_published:
            start_decays(up.bias, self.log_rate, slowest=1.0)

    def _log_decay(self, x: Tensor) -> Tensor:
        step: Tensor = functional.softplus(self.step(x)).unflatten(-1, (self.heads, self.key_width))
        return -self.log_rate.exp() * step

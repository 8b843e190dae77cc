"""Retention (Sun et al. 2023, arXiv 2307.08621): a fixed decay per head.

    S ← γ_h S + k vᵀ
    o = norm(Sᵀ q)                             per head, RMS norm

It cannot choose what to keep: a head fades at its pace, whatever the token says.

The paper's γ_h = 1 − 2^(−5−h) has half-lives that double from head to head: 22, 44, 88 and
177 tokens for 4 heads. Here the longest is given, and each head before it has half the next.

`published=true`: values of twice the width, queries and keys turned by their place, the gate and
the paper's γ. Memory is kept turned to the place of the next token, so that no place is counted.
Deviations: norm weights, where the published norm has none. The published layer divides scores by
their sums as well, which the norm takes out again but for its ε (3e-4 of the output).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rulekeep.kernels.positions import rotate
from rulekeep.mixers.fading import Fading
from rulekeep.mixers.matrix import Found
from rulekeep.mixers.published import OURS, PUBLISHED, rate_of_half_life


class RetNet(Fading):
    """Sums of keys times values; each head has a fixed decay.

    `half_life_tokens=None` keeps everything: linear attention with φ(x) = x and a norm.
    """

    forms = OURS, PUBLISHED["retnet"]
    _log_decays: Tensor | None

    def _start(self, width: int, half_life_tokens: float | None, as_published: bool) -> None:
        decays = None
        if as_published:
            decays = torch.log1p(-(2.0 ** -(5 + torch.arange(self.heads))))
        elif half_life_tokens is not None:
            pace = 2.0 ** torch.arange(self.heads - 1, -1, -1)
            decays = -rate_of_half_life(half_life_tokens) * pace
        self.register_buffer("_log_decays", decays)
        if self.published and self.key_width % 2:
            raise ValueError(f"key_width {self.key_width}: must be even where keys are turned")

    def _log_decay(self, x: Tensor) -> Tensor | None:
        if self._log_decays is None:
            return None
        return self._log_decays.view(1, 1, self.heads, 1).to(x.dtype)

    def _read(self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor) -> Found:
        if self.published:
            # Places count from the first of these tokens: the memory comes turned to it.
            queries_keys = self._turned(queries_keys.transpose(1, 2), range(x.shape[1]))
            queries_keys = queries_keys.transpose(1, 2)
        queries, keys = queries_keys.chunk(2, dim=-2)
        found = self._summed(queries, keys, values, state[0], self._log_decay(x))
        if self.published:
            memory = self._turned(found.memory.mT, range(-x.shape[1], 1 - x.shape[1])).mT
            return found.outputs, memory
        return found

    def _turned(self, x: Float[Tensor, "... time k"], places: range) -> Tensor:
        """Turned by the angles of their places: 10,000^(−c / (key width / 2 − 1)) a token."""
        half = self.key_width // 2
        base = 10_000.0 ** (half / max(1, half - 1))
        return rotate(x, torch.arange(places.start, places.stop, device=x.device), base)

"""Routed slots (Raven 2026, github.com/goombalab/raven): a token writes to k, the rest stand still.

    r = the k largest of sigmoid(W x), divided by their sum; 0 for the others      per head
    α_i = exp(−e^A softplus(w · x + b) r_i)                                          per head, slot
    K_i ← α_i K_i + (1 − α_i) k,   V_i ← α_i V_i + (1 − α_i) v
    o = norm(sum_i softmax_i(K_i · q / sqrt(key width)) V_i)         per head, RMS norm

It cannot learn from slots that it does not choose: only those of the k largest get a gradient.

A slot that is not routed has α = 1 exactly. It stays the same, bit for bit, while nothing is routed
to it (in the loop; the chunks agree with the loop up to rounding). b starts at 0. A starts where a
slot has the requested half-life if all slots are routed equally often. A slot that every token
writes to fades `slots` / k times as fast.

`published=true`: scores that no root divides, RMS norms of queries and keys after their silu, silu
on values and on what is read, the gate on the output, the start of Mamba-2, and in training Gumbel
noise on W x. The noise needs `start_step`, which our training loop calls. The paper has 256 slots
for 256 channels of a key, as here at a width of 64. Its table of needles has k = 128 of them
(`top_k=8` here), its ablations 32. Deviation: e^A is uniform from 0.0001.

`gate_penalty` counts 1 − α of every slot.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.mixers.base import Count
from rulekeep.mixers.fading import Fading
from rulekeep.mixers.matrix import Found
from rulekeep.mixers.published import (
    OUR_SLOTS,
    PUBLISHED,
    rate_of_half_life,
    start_decays,
    start_steps,
)
from rulekeep.mixers.slot_memory import SlotMixer
from rulekeep.seeds import named_seed


class RoutedSlots(Fading, SlotMixer):
    """Slots of which each token changes `top_k`, and leaves the others exactly as they are."""

    forms = OUR_SLOTS, PUBLISHED["routed_slots"]

    def __init__(self, width: int, *, top_k: Count = 4, **options: Any) -> None:
        super().__init__(width, **options)
        if top_k > self.slots:
            raise ValueError(f"top_k {top_k}: must be from 1 to the {self.slots} slots")
        self.top_k = top_k

    def _start(self, width: int, half_life_tokens: float | None, as_published: bool) -> None:
        self.router = nn.Linear(width, self.heads * self.slots, bias=False)
        self.step = nn.Linear(width, self.heads)
        nn.init.zeros_(self.step.bias)
        rate = self.slots * rate_of_half_life(half_life_tokens) / math.log(2)
        self.log_rate = nn.Parameter(torch.full((self.heads,), math.log(rate)))
        if as_published:
            start_decays(self.step.bias, self.log_rate, slowest=1e-4)
        elif self.published:
            # Small steps and a large A: from softplus(0) and a small A a gate hardly opens.
            steps = start_steps(self.step.bias)
            with torch.no_grad():
                self.log_rate.copy_((rate * math.log(2) / steps).log())
        # Of the noise: another in each layer and for each seed of a run.
        self._stream = int(torch.randint(2**31, (), device="cpu")) if self.published else None
        self._step: int | None = None

    def start_step(self, step: int) -> None:
        """Noise is that of this step, in training; until a step has started there is none."""
        self._step = step

    @property
    def memory_half_life_tokens(self) -> float:
        """The half-life of a slot that is routed as often as any other."""
        with torch.no_grad():
            rate = (self.log_rate.exp() * F.softplus(self.step.bias)).min()
        return math.log(2) * self.slots / rate.item()

    def _run(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        noisy = self.published and self.training and torch.is_grad_enabled()
        if not noisy or self._step is None:
            return super()._run(x, *state)
        # The place of a piece in the text is carried beside the slots: noise is drawn by it, so
        # that the backward pass meets the noise of the forward pass.
        keys, values, *others = state
        place = keys.new_zeros(1, dtype=torch.float64)
        y, keys, values, _, *others = super()._run(x, keys, values, place, *others)
        return y, keys, values, *others

    def _read(self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor) -> Found:
        keys, held, *others = state
        # A penalty that is due has no dimension.
        if not others or not others[0].ndim:
            return super()._read(x, queries_keys, values, *state)
        place, *due = others
        noise = self._noise(x.shape[:2], int(place.item())).to(keys)
        read, *after = self._written(
            queries_keys, values, self._log_decay(x, noise), keys, held, *due
        )
        return read, *(*after[:2], place + x.shape[1], *after[2:])

    def _noise(self, shape: torch.Size, place: int) -> Float[Tensor, "batch time heads slots"]:
        """Gumbel noise of this step and place, from a stream of this mixer's own."""
        seed = named_seed("routing noise", self._stream, self._step, place)
        drawn = torch.empty(*shape, self.heads, self.slots, device="cpu")
        return -drawn.exponential_(generator=torch.Generator("cpu").manual_seed(seed)).log()

    def _log_decay(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        logits = self.router(x).unflatten(-1, (self.heads, self.slots))
        if noise is not None:
            logits = logits + noise
        best, chosen = logits.topk(self.top_k, dim=-1)
        # Sigmoids over their sum, where all of them may be too small for a float; the first is the
        # largest. torch's softmax takes seven times as long on rows of 4.
        likes = F.logsigmoid(best)
        likes = (likes - likes[..., :1].detach()).exp()
        shares = likes / likes.sum(-1, keepdim=True)
        rate = (self.log_rate.exp() * F.softplus(self.step(x))).unsqueeze(-1)
        return torch.zeros_like(logits).scatter(-1, chosen, -rate * shares)

"""Routed slots (Raven 2026, github.com/goombalab/raven): a token writes to k, the rest stand still.

    r = the k largest of sigmoid(W x), divided by their sum; 0 for the others      per head
    α_i = exp(−e^A softplus(w · x + b) r_i)                                          per head, slot
    K_i ← α_i K_i + (1 − α_i) k,   V_i ← α_i V_i + (1 − α_i) v
    o = norm(sum_i softmax_i(K_i · q / sqrt(key width)) V_i)         per head, RMS norm

It cannot learn from slots that it does not choose: only those of the k largest get a gradient.

A slot that is not routed has α = 1 exactly. It stays the same, bit for bit, while nothing is routed
to it (in the loop; the chunks agree with the loop up to rounding). b starts at 0. A starts where a
slot has the requested half-life if all slots are routed equally often. A slot that every token
writes to fades `slots` / k times as fast. The gate on the output is an option, off by default.
Deviations: no norm of queries and keys, no noise on the routes in training.
`gate_penalty` counts 1 − α of every slot.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.mixers.matrix import rate_of_half_life
from rulekeep.mixers.slot_memory import SlotMixer


class RoutedSlots(SlotMixer):
    """Slots of which each token changes `top_k`, and leaves the others exactly as they are."""

    def __init__(
        self,
        width: int,
        *,
        heads: int = 4,
        slots: int = 16,
        top_k: int = 4,
        key_width: int | None = None,
        half_life_tokens: float = 1024.0,
        gate_penalty: float = 0.0,
        penalty_start: int = 500,
        output_gate: bool = False,
        short_convolution: bool = False,
        serial: bool = False,
    ) -> None:
        super().__init__(
            width,
            heads=heads,
            slots=slots,
            key_width=key_width,
            gate_penalty=gate_penalty,
            penalty_start=penalty_start,
            output_gate=output_gate,
            short_convolution=short_convolution,
            serial=serial,
        )
        if not 1 <= top_k <= slots:
            raise ValueError(f"top_k {top_k}: must be from 1 to the {slots} slots")
        self.top_k = top_k
        self.router = nn.Linear(width, heads * slots, bias=False)
        self.step = nn.Linear(width, heads)
        nn.init.zeros_(self.step.bias)
        rate = slots * rate_of_half_life(half_life_tokens) / math.log(2)
        self.log_rate = nn.Parameter(torch.full((heads,), math.log(rate)))

    @property
    def memory_half_life_tokens(self) -> float:
        """The half-life of a slot that is routed as often as any other."""
        with torch.no_grad():
            rate = (self.log_rate.exp() * F.softplus(self.step.bias)).min()
        return math.log(2) * self.slots / rate.item()

    def _log_decay(self, x: Tensor) -> Tensor:
        logits = self.router(x).unflatten(-1, (self.heads, self.slots))
        best, chosen = logits.topk(self.top_k, dim=-1)
        # Sigmoids over their sum, where all of them may be too small for a float; the first is the
        # largest. torch's softmax takes seven times as long on rows of 4.
        likes = F.logsigmoid(best)
        likes = (likes - likes[..., :1].detach()).exp()
        shares = likes / likes.sum(-1, keepdim=True)
        rate = (self.log_rate.exp() * F.softplus(self.step(x))).unsqueeze(-1)
        return torch.zeros_like(logits).scatter(-1, chosen, -rate * shares)

"""Gated slot attention, GSA (Zhang et al. 2024, arXiv 2409.07146): a gate for each slot.

    α_i = sigmoid(w_i · x + b_i)^(1/8)                               per head and slot
    K_i ← α_i K_i + (1 − α_i) k,   V_i ← α_i V_i + (1 − α_i) v
    o = norm(sum_i softmax_i(K_i · q / sqrt(key width)) V_i)         per head, RMS norm

It cannot leave a slot exactly as it is: every token writes a little to every slot.

b starts where α has the requested half-life. The published layer has no b. Its sigmoid(0)^(1/8)
leaves half after 8 tokens, so at the contexts here nothing of the start would be left.

`published=true`: no b, scores that no root divides, silu on values and on what is read, and a norm
over all channels. The published code has as many slots as a key has channels, as here at a width
of 64; the paper has a quarter of it. `gate_penalty` counts 1 − α of every slot.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.mixers.fading import Fading
from rulekeep.mixers.published import OUR_SLOTS, PUBLISHED, bias_of_half_life
from rulekeep.mixers.slot_memory import SlotMixer

_ROOT = 8


class GatedSlots(Fading, SlotMixer):
    """Slots with a gate each that depends on the token; read by softmax."""

    forms = OUR_SLOTS, PUBLISHED["gated_slots"]

    def _start(self, width: int, half_life_tokens: float | None, as_published: bool) -> None:
        self.gate = nn.Linear(width, self.heads * self.slots, bias=not as_published)
        if not as_published:
            nn.init.constant_(self.gate.bias, bias_of_half_life(half_life_tokens, _ROOT))

    def _log_decay(self, x: Tensor) -> Tensor:
        gate: Tensor = F.logsigmoid(self.gate(x)) / _ROOT
        return gate.view(*gate.shape[:2], self.heads, self.slots)

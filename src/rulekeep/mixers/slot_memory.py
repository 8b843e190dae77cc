"""What the mixers with gated slots share: slots of keys and values, in chunks or as a loop.

    q, k = silu(W x),  v = W x                                       per head
    K_i ← α_i K_i + (1 − α_i) k,   V_i ← α_i V_i + (1 − α_i) v       for every slot i
    o = norm(sum_i softmax_i(K_i · q / sqrt(key width)) V_i)         per head, RMS norm

A mixer of this kind is its `_log_decay`: the logarithm of α for every slot of every head.
"""

import math
from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rulekeep.kernels.chunks import unit
from rulekeep.kernels.slot_chunks import slot_chunks, slot_loop
from rulekeep.mixers.base import Count, Vectors
from rulekeep.mixers.matrix import Found, GatedMixer
from rulekeep.mixers.published import OUR_SLOTS, Parts


class SlotMemoryState(NamedTuple):
    """The keys and values that the slots of each head hold."""

    keys: Float[Tensor, "batch heads slots key_width"]
    values: Float[Tensor, "batch heads slots value_width"]


class SlotMixer(GatedMixer):
    """Slots that keep α of their content at each token, and take 1 − α of the new."""

    chunk = 16
    activates = True

    def __init__(
        self, width: int, parts: Parts = OUR_SLOTS, /, *, slots: Count = 16, **options: Any
    ) -> None:
        super().__init__(width, parts, **options)
        self.slots = slots
        if self.parts.key_norm:
            # One for queries, one for keys.
            full = torch.full((2, 1, self.key_width), math.sqrt(self.key_width))
            self.key_norm_weight = nn.Parameter(full)

    @abstractmethod
    def _log_decay(self, x: Vectors) -> Float[Tensor, "batch time heads slots"]:
        """The logarithm of α, at most 0."""

    def write_strength(
        self, x: Vectors, state: Any | None = None
    ) -> Float[Tensor, "batch time heads*slots"]:
        """1 − α of each slot, from 0 to 1: what `rulekeep explain` traces."""
        return -torch.expm1(self._log_decay(x)).flatten(-2)

    def _empty(self, batch_size: int) -> SlotMemoryState:
        shape = batch_size, self.heads, self.slots
        return SlotMemoryState(
            self._zeros(*shape, self.key_width), self._zeros(*shape, self.value_width)
        )

    def _read(self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor) -> Found:
        return self._written(queries_keys, values, self._log_decay(x), *state)

    def _written(
        self,
        queries_keys: Tensor,
        values: Tensor,
        gate: Float[Tensor, "batch time heads slots"],
        *state: Tensor,
    ) -> Found:
        """What is read, and the slots afterwards."""
        queries, keys = functional.silu(queries_keys).chunk(2, dim=-2)
        if self.parts.key_norm:
            normed = [unit(part, eps=1e-5 * self.key_width) for part in (queries, keys)]
            queries, keys = (
                part * weight for part, weight in zip(normed, self.key_norm_weight, strict=True)
            )
        if self.parts.scaled:
            queries = queries / math.sqrt(self.key_width)
        held_keys, held_values, *due = state
        slots = queries, keys, values, gate, held_keys, held_values
        read, *after = slot_loop(*slots) if self.in_turn else slot_chunks(*slots, chunk=self.chunk)
        return read, *(*after, *self._penalised(due, -torch.expm1(gate)))

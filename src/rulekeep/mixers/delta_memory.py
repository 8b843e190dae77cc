"""What mixers with the delta rule share: the rule, and a write gate that may see several tokens.

    q, k = silu(W x) / |silu(W x)|,   β = sigmoid(z)          per head
    S ← S + β k (v − Sᵀ k)ᵀ                                   after its decay, if there is one

A mixer of this kind is its `_log_decay`, or what else it makes of z.
"""

from typing import Annotated, Any, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rulekeep.kernels.chunks import delta_unit, token_loop, unit
from rulekeep.mixers.base import extended
from rulekeep.mixers.matrix import GatedMixer
from rulekeep.mixers.published import OURS, Parts

# How many tokens a gate sees, its own included.
GateKernel: TypeAlias = Annotated[int, Field(ge=1, le=64)]


class DeltaMixer(GatedMixer):
    """A memory written by the delta rule, after `_log_decay` if there is one.

    The write gate of a token is made of a sum over the last `gate_kernel` tokens, its own included:

        z = b + sum_{j < gate_kernel} w_j · x_{t−j},   β = sigmoid(z)      per head

    w_j of the earlier tokens start at zero, unless `zero_init_kernel` is false.
    """

    chunk = 16
    activates = True
    # A token reads the memory before it writes.
    read_first = False
    # Whether the state has `pending`, [batch, kernel-1, heads], though the gate sees its own token
    # alone: what the last tokens add to the next sums.
    always_pending = False

    def __init__(
        self,
        width: int,
        parts: Parts = OURS,
        zero_init_kernel: bool = True,
        /,
        *,
        gate_kernel: GateKernel = 1,
        **options: Any,
    ) -> None:
        super().__init__(width, parts, **options)
        self.write = nn.Linear(width, self.heads, bias=self.parts.biases)
        self.gate_kernel = gate_kernel
        self.has_pending = gate_kernel > 1 or self.always_pending
        if gate_kernel > 1:
            self.write_before = nn.Linear(width, (gate_kernel - 1) * self.heads, bias=False)
            if zero_init_kernel:
                nn.init.zeros_(self.write_before.weight)

    def write_strength(
        self, x: Float[Tensor, "batch time width"], state: Any | None = None
    ) -> Float[Tensor, "batch time heads"]:
        """β of each head, from 0 to 1: what `rulekeep explain` traces."""
        pending = state.pending if state is not None and self.has_pending else None
        return self._gate(self._gate_sums(x, pending)[0])

    def _gate(self, z: Float[Tensor, "batch time heads"]) -> Float[Tensor, "batch time heads"]:
        return z.sigmoid()

    def _gate_sums(
        self, x: Float[Tensor, "batch time width"], pending: Tensor | None
    ) -> tuple[Float[Tensor, "batch time heads"], Float[Tensor, "batch kernel-1 heads"]]:
        """Every z, and what these tokens add to the z of later tokens."""
        after, time = self.gate_kernel - 1, x.shape[1]
        if not after:
            z = self.write(x)
            return z, z[:, :0].clone()
        weight = torch.cat([self.write.weight, self.write_before.weight])
        parts = functional.linear(x, weight).unflatten(-1, (self.gate_kernel, self.heads))
        if time == 1 and pending is not None:
            # Part j of a token alone counts j places later.
            sums = torch.cat([parts[:, 0, :after] + pending, parts[:, 0, after:]], dim=1)
        else:
            sums = _later(parts)
            if pending is not None:
                sums = sums + functional.pad(pending, (0, 0, 0, time))
        z, later = sums.split([time, after], dim=1)
        if self.write.bias is not None:
            z = z + self.write.bias
        # Else the state would hold every z.
        return z, later.clone()

    def _empty(self, batch_size: int) -> Any:
        empty = super()._empty(batch_size)
        if not self.has_pending:
            return empty
        return extended(empty, pending=self._zeros(batch_size, self.gate_kernel - 1, self.heads))

    def _read(
        self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor
    ) -> tuple[Tensor, *tuple[Tensor, ...]]:
        memory, *due = state
        z, pending = self._gate_sums(x, due.pop(0) if self.has_pending else None)
        strength, due = self._opened(z, due)
        write, decay = strength.unsqueeze(-1), self._log_decay(x)
        if self.in_turn:
            queries, keys = unit(functional.silu(queries_keys)).chunk(2, dim=-2)
            read, memory = token_loop(
                queries, keys, values, memory,
                log_decay=decay, write=write, read_first=self.read_first,
            )  # fmt: skip
        else:
            read, memory = delta_unit(
                queries_keys, values, write, memory,
                log_decay=decay, chunk=self.chunk, read_first=self.read_first,
            )  # fmt: skip
        return read, *(memory, *([pending] if self.has_pending else []), *due)

    def _opened(
        self, z: Float[Tensor, "batch time heads"], due: list[Tensor]
    ) -> tuple[Float[Tensor, "batch time heads"], list[Tensor]]:
        """The gate of every z, and the penalty that is due after them."""
        strength = self._gate(z)
        return strength, self._penalised(due, strength)


def _later(parts: Float[Tensor, "batch time parts heads"]) -> Tensor:
    """Sums of parts, where part j of a token counts j places later: [batch, time + parts − 1,
    heads].
    """
    # One row a part, each longer by a place than what is kept of it: the next one starts later.
    count = parts.shape[2]
    rows = functional.pad(parts.transpose(1, 2), (0, 0, 0, count)).flatten(1, 2)
    sums: Tensor = rows[:, :-count].unflatten(1, (count, -1)).sum(1)
    return sums

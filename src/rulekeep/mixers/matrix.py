"""What the matrix memories share: projections, heads, chunks or loop, and the norm of what is read.

    parts = W x  (queries and keys, values, gate)
    read  = the mixer's own `_read`                           per head
    y     = W' (norm(read) · silu(gate))                      RMS norm per head; gate optional

`short_convolution=True` sends queries, keys and values through silu(sum_{j < 4} w_j · parts_{t−j})
first, a filter a channel, as most of these layers are published. The state has its last 3 inputs.

A mixer of this kind is its `_read` and, if it forgets, its `_log_decay`. `delta.py` is the shortest
one. `published.py` says what else surrounds the memory, here and in the layers as published.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rulekeep.kernels.autocast import uncast
from rulekeep.kernels.chunks import Read, delta_unit, linear_chunks, token_loop, unit
from rulekeep.kernels.convolution import convolve, convolve_token, later_sums
from rulekeep.kernels.pieces import Again, in_pieces
from rulekeep.mixers.base import Count, GateKernel, Mixer, Penalty, Vectors, check_batch, extended
from rulekeep.mixers.published import OURS, Parts, low_rank_gate


class MatrixState(NamedTuple):
    """The matrix that each head has written: read with a query, it gives values."""

    memory: Float[Tensor, "batch heads key_width value_width"]


# What `_read` gives: what is read at each token, and the state's tensors after the last.
Found: TypeAlias = tuple[Tensor, *tuple[Tensor, ...]]
_KERNEL = 4
_HALF = (torch.float16, torch.bfloat16)


class MatrixMixer(Mixer):
    """Heads that each write to a matrix and read it: one projection, then `_read`.

    `serial=True` runs the loop over tokens; otherwise chunks of tokens run in parallel
    (`rulekeep.kernels.chunks`). Options that a mixer passes on to here are its options too.
    """

    chunk = 32
    normalised = True
    # Whether `_read` applies silu to queries and keys; else the short convolution does.
    activates = False

    def __init__(
        self,
        width: int,
        parts: Parts = OURS,
        /,
        *,
        heads: Count = 4,
        key_width: Count | None = None,
        output_gate: bool = False,
        short_convolution: bool = False,
        serial: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads {heads}: must divide the width {width}")
        self.heads, self.serial = heads, serial
        # Whether the tokens of this call go through the loop; another thread may change it.
        self.in_turn = serial
        self.parts = parts
        self.value_width = max(1, round(parts.values * width / heads))
        self.key_width = key_width or max(1, round(parts.keys * width / heads))
        self.key_heads = 1 if parts.shared_keys else heads
        keys, values = self.key_heads * self.key_width, heads * self.value_width
        gated = (output_gate or parts.output_gate) and not parts.low_rank_gate
        self._parts = [2 * keys, values, *([values] if gated else [])]
        self.in_projection = nn.Linear(width, sum(self._parts), bias=False)
        for part in self.in_projection.weight.split([keys, keys, *self._parts[1:]]):
            nn.init.xavier_uniform_(part)
        self.out_projection = nn.Linear(values, width, bias=parts.biases)
        if parts.biases:
            nn.init.zeros_(self.out_projection.bias)
        if self.normalised:
            # Times the root of the width: what is read has a mean square of 1.
            normed = values if parts.norm_all else self.value_width
            full = torch.full((heads, self.value_width), math.sqrt(normed))
            self.norm_weight = nn.Parameter(full)
            self._eps = 1e-5
            if parts.norm_of_mean:
                # Of scores over the root of the key width only ε sees the root.
                self._eps *= normed * (self.key_width if parts.scaled else 1)
        self.convolution = self.convolution_bias = None
        if short_convolution or parts.short_convolution:
            # As torch draws a depthwise convolution.
            reach = 1 / math.sqrt(_KERNEL)
            filters = torch.empty(_KERNEL, 2 * keys + values).uniform_(-reach, reach)
            self.convolution = nn.Parameter(filters)
            if parts.convolution_bias:
                bias = torch.empty(2 * keys + values).uniform_(-reach, reach)
                self.convolution_bias = nn.Parameter(bias)
        self.low_rank_gate = None
        if parts.low_rank_gate:
            self.low_rank_gate = low_rank_gate(width, self.value_width, values)

    @abstractmethod
    def _read(
        self,
        x: Vectors,
        queries_keys: Float[Tensor, "batch time 2*heads key_width"],
        values: Float[Tensor, "batch time heads value_width"],
        *state: Tensor,
    ) -> tuple[Float[Tensor, "batch time heads value_width"], *tuple[Tensor, ...]]:
        """What is read at each token, and the state's tensors after the last."""

    def _log_decay(self, x: Tensor) -> Float[Tensor, "batch time heads k"] | None:
        """The logarithm of what a token leaves of the memory, at most 0; None if it leaves all."""
        return None

    @property
    def memory_half_life_tokens(self) -> float:
        """Tokens after which half is left in the longest-lived channel, for inputs of zero."""
        with torch.no_grad():
            decay = self._log_decay(torch.zeros_like(self.in_projection.weight[:1, None]))
        return math.inf if decay is None else -math.log(2) / decay.max().item()

    def init_state(self, batch_size: int) -> Any:
        """Empty memories; zeros before the first token of a convolution."""
        empty = self._empty(batch_size)
        if self.convolution is None:
            return empty
        recent = self._zeros(batch_size, _KERNEL - 1, self.convolution.shape[1])
        return extended(empty, recent=recent)

    def _empty(self, batch_size: int) -> Any:
        shape = batch_size, self.heads, self.key_width, self.value_width
        return MatrixState(self._zeros(*shape))

    def _zeros(self, *shape: int) -> Tensor:
        """Of a state, which is in float32 at least."""
        weight = self.in_projection.weight
        kind = torch.promote_types(weight.dtype, torch.float32)
        return weight.new_zeros(shape, dtype=kind)

    def forward(self, x: Vectors, state: Any | None = None) -> tuple[Vectors, Any]:
        """Outputs at every position, and the matrices after the last token."""
        if state is None:
            state = self.init_state(x.shape[0])
        y, *after = self._run(x, *state)
        return y, type(state)(*after)

    def _run(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Outputs and the state's tensors, one piece of time after another.

        Raises:
            ValueError: the state is of other sequences.
        """
        check_batch(x, state[0])
        if self.in_projection.weight.dtype in _HALF:
            # In half precision a memory would not fade: a decay of 0.999 is 1.
            weights = [*self.parameters()]
            again = Again(self, MatrixMixer._run, weights)
            whole = (part.float() if part.dtype in _HALF else part for part in state)
            y, *after = again.under([one.float() for one in weights], x.float(), *whole)
            return y.to(x.dtype), *after
        if not x.numel():
            return x, *state
        # A token alone is a step of the loop.
        alone = x.shape[1] == 1 and not torch.is_grad_enabled()
        if self.serial or alone:
            return self._advance(x, *state, in_turn=True)
        return in_pieces(self, self._advance, x, state, multiple=self.chunk)

    def _advance(self, x: Tensor, *state: Tensor, in_turn: bool = False) -> tuple[Tensor, ...]:
        self.in_turn = in_turn
        # One product a part: what follows element by element is slow on parts of a whole. Of a
        # token, calls are what takes time.
        joint, kinds = in_turn and x.shape[1] == 1, self._parts[:2]
        sizes = [sum(kinds), *self._parts[2:]] if joint else self._parts
        parts = [functional.linear(x, part) for part in self.in_projection.weight.split(sizes)]
        # What is remembered, and how, stays in the state's precision.
        kind, recent = state[0].dtype, list[Tensor]()
        with uncast(x.device.type):
            inputs = [part.to(kind) for part in parts[: 1 if joint else 2]]
            if self.convolution is not None:
                *state, before = state  # type: ignore[assignment]
                if joint:
                    found = [convolve_token(inputs[0], before, self.convolution)]
                else:
                    filters = self.convolution.split(kinds, dim=-1)
                    found = [*map(convolve, inputs, before.split(kinds, dim=-1), filters)]
                inputs, recent = map(list, zip(*found, strict=True))
            both, values = inputs[0].split_with_sizes(kinds, -1) if joint else inputs
            if self.convolution_bias is not None:
                of_both, of_values = self.convolution_bias.split(kinds, dim=-1)
                both, values = both + of_both, values + of_values
            if self.convolution is not None and not self.activates:
                both = functional.silu(both)
            if self.convolution is not None or self.parts.silu_values:
                values = functional.silu(values)
            read, *after = self._read(
                x.to(kind),
                both.unflatten(-1, (2 * self.key_heads, self.key_width)),
                values.unflatten(-1, (self.heads, self.value_width)),
                *state,
            )
        if recent:
            after.append(torch.cat(recent, dim=-1))
        gate = functional.silu(parts[-1]) if len(self._parts) > 2 else None
        if self.low_rank_gate is not None:
            gate = getattr(functional, self.parts.low_rank_gate)(self.low_rank_gate(x))
        return self._projected(read, gate).to(x.dtype), *after

    def _summed(
        self, queries: Tensor, keys: Tensor, values: Tensor, memory: Tensor,
        log_decay: Tensor | None = None,
    ) -> Read:  # fmt: skip
        """Sums of keys times values, read: a token at a time or in chunks."""
        if self.in_turn:
            return token_loop(queries, keys, values, memory, log_decay=log_decay)
        return linear_chunks(queries, keys, values, memory, log_decay=log_decay, chunk=self.chunk)

    def _projected(self, read: Tensor, gate: Tensor | None) -> Tensor:
        """What is read, normalised, gated and projected."""
        weight = self.out_projection.weight
        if self.parts.silu_read:
            read = functional.silu(read)
        if self.parts.norm_all:
            read = read.flatten(-2)
        if gate is not None and self.parts.gate_before_norm:
            read, gate = read * gate, None
        if self.normalised:
            read = unit(read, eps=self._eps)
            # On the few columns of the projection, not on every row that goes through it.
            weight = weight * self.norm_weight.flatten()
        if not self.parts.norm_all:
            read = read.flatten(-2)
        if gate is not None:
            read = read * gate
        return functional.linear(read, weight, self.out_projection.bias)


class GatedMixer(MatrixMixer):
    """A mixer whose open gates can cost something in training.

        loss ← loss + gate_penalty · sum of gates over tokens and heads, mean over the batch

    The first `penalty_start` steps are free of it: a penalty from the start can keep what needs
    two layers from ever being learned.
    """

    def __init__(
        self,
        width: int,
        parts: Parts = OURS,
        /,
        *,
        gate_penalty: Penalty = 0.0,
        penalty_start: Annotated[int, Field(ge=0)] = 500,
        **options: Any,
    ) -> None:
        super().__init__(width, parts, **options)
        self.gate_penalty, self.penalty_start = gate_penalty, penalty_start
        self._penalty: _Penalty | None = None

    def forward(self, x: Vectors, state: Any | None = None) -> tuple[Vectors, Any]:
        """Outputs at every position, and the state after the last token."""
        if not self.training:
            self._penalty = None
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x, state)
        before, self._penalty = self._penalty, None
        if not self.gate_penalty:
            return super().forward(x, state)
        if state is None:
            state = self.init_state(len(x))
        goes_on = before is not None and before.memory is state[0]
        due = before.total if before is not None and goes_on else state[0].new_zeros(())
        # The penalty is carried from piece to piece beside the state; it is no part of it.
        own = len(state) - (self.convolution is not None)
        y, *after = self._run(x, *state[:own], due, *state[own:])
        due = after.pop(own)
        self._penalty = _Penalty(after[0], due)
        return y, type(state)(*after)

    def auxiliary_loss(self, step: int) -> Float[Tensor, ""] | None:
        """The penalty of the last forward pass in training; None if there is none at this step."""
        if self._penalty is None or step <= self.penalty_start:
            return None
        return self._penalty.total

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the graph of the last forward pass, which torch cannot copy or write."""
        return {**self.__dict__, "_penalty": None}

    def _penalised(
        self, due: Sequence[Tensor], gates: Float[Tensor, "batch time ..."]
    ) -> list[Tensor]:
        """What is due after these gates; nothing if the pass counts no penalty."""
        return [total + gates.sum() * (self.gate_penalty / len(gates)) for total in due]


class _Penalty(NamedTuple):
    """The penalty of a forward pass in training; a pass that goes on from its memory adds to it."""

    memory: Tensor
    total: Float[Tensor, ""]


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
        width: int, parts: Parts = OURS, zero_init_kernel: bool = True, /, *,
        gate_kernel: GateKernel = 1, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(width, parts, **options)
        self.write = nn.Linear(width, self.heads, bias=self.parts.biases)
        self.gate_kernel = gate_kernel
        self.has_pending = gate_kernel > 1 or self.always_pending
        if gate_kernel > 1:
            self.write_before = nn.Linear(width, (gate_kernel - 1) * self.heads, bias=False)
            if zero_init_kernel:
                nn.init.zeros_(self.write_before.weight)

    def write_strength(
        self, x: Vectors, state: Any | None = None
    ) -> Float[Tensor, "batch time heads"]:
        """β of each head, from 0 to 1: what `rulekeep explain` traces."""
        pending = state.pending if state is not None and self.has_pending else None
        return self._gate(self._gate_sums(x, pending)[0])

    def _gate(self, z: Float[Tensor, "batch time heads"]) -> Float[Tensor, "batch time heads"]:
        return z.sigmoid()

    def _gate_sums(
        self, x: Vectors, pending: Tensor | None
    ) -> tuple[Float[Tensor, "batch time heads"], Float[Tensor, "batch kernel-1 heads"]]:
        """Every z, and what these tokens add to the z of later tokens."""
        if self.gate_kernel == 1:
            z = self.write(x)
            return z, z[:, :0].clone()
        weight = torch.cat([self.write.weight, self.write_before.weight])
        parts = functional.linear(x, weight).unflatten(-1, (self.gate_kernel, self.heads))
        z, later = later_sums(parts, pending)
        if self.write.bias is not None:
            z = z + self.write.bias
        return z, later

    def _empty(self, batch_size: int) -> Any:
        empty = super()._empty(batch_size)
        if not self.has_pending:
            return empty
        return extended(empty, pending=self._zeros(batch_size, self.gate_kernel - 1, self.heads))

    def _read(self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor) -> Found:
        memory, *due = state
        z, pending = self._gate_sums(x, due.pop(0) if self.has_pending else None)
        strength, due = self._opened(z, due)
        write, decay = strength.unsqueeze(-1), self._log_decay(x)
        how: dict[str, Any] = {"log_decay": decay, "read_first": self.read_first}
        if self.in_turn:
            queries, keys = unit(functional.silu(queries_keys)).chunk(2, dim=-2)
            read, memory = token_loop(queries, keys, values, memory, write=write, **how)
        else:
            read, memory = delta_unit(queries_keys, values, write, memory, chunk=self.chunk, **how)
        return read, *(memory, *([pending] if self.has_pending else []), *due)

    def _opened(
        self, z: Float[Tensor, "batch time heads"], due: list[Tensor]
    ) -> tuple[Float[Tensor, "batch time heads"], list[Tensor]]:
        """The gate of every z, and the penalty that is due after them."""
        strength = self._gate(z)
        return strength, self._penalised(due, strength)

"""Sparse delta memory (rulekeep 2026): most tokens write nothing at all, and all read first.

    q, k = silu(W x) / |silu(W x)|                            per head
    z = b + sum_{j < 8} w_j · x_{t−j}                         per head
    β = clip((1 + 2 s) sigmoid(z) − s, 0, 1)                  exactly 0 below, exactly 1 above
    o = norm(Sᵀ q)                                            per head, RMS norm: S before the write
    S ← S + β k (v − Sᵀ k)ᵀ

It cannot hold more keys than a key has channels, and what it never writes it cannot be asked for.

Changes to the delta rule, each an option that can be undone. *Exact zeros*: a write gate that
is only small still erases, half in 140 tokens at 0.005; a gate clipped at 0 leaves the memory as
it was, bit for bit, however many tokens pass. Backward, the clip is left out (straight-through,
Bengio et al. 2013, arXiv 1308.3432): a gate that is shut still learns, so that it opens where it
should, and is pushed further from opening where it should not; a clip's own gradient stops at the
edge, without a margin. *Gate taps*: the gate sees the tokens before as well, for there stands the
cue that opens it; where it cannot see the cue it learns what else stands there, and leaks wherever
that comes by chance. *Read first*: a token reads what stood before it wrote, its own content being
in the residual stream already: so the layer after learns which rule came before this one.

*Toll*: training goes as if the loss had another term, toll times the sum of a sequence's
gates, averaged over the batch. A leak of a hundredth a token costs nothing at the lengths trained
on and everything at sixteen times as many; the toll closes it, and a shut gate pays none. At four
times the default no gate may ever open, and in a training of some hundred steps less is better.

Nothing fades. `short_convolution` and `output_gate` are options as in `delta`, off by default.
"""

from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rulekeep.chunks import unit
from rulekeep.mixers.matrix import DeltaMixer


class SparseDeltaState(NamedTuple):
    """What each head has written, and what the last tokens add to the z of the next ones."""

    memory: Float[Tensor, "batch heads key_width value_width"]
    pending: Float[Tensor, "batch taps-1 heads"]


class ConvolvedSparseDeltaState(NamedTuple):
    """The same, and the last inputs of the short convolution."""

    memory: Float[Tensor, "batch heads key_width value_width"]
    pending: Float[Tensor, "batch taps-1 heads"]
    recent: Float[Tensor, "batch 3 channels"]


class SparseDelta(DeltaMixer):
    """The delta rule with a write gate of exact zeros and ones, read before it is written."""

    convolved_state: ClassVar[Any] = ConvolvedSparseDeltaState

    def __init__(
        self,
        width: int,
        *,
        heads: int = 4,
        key_width: int | None = None,
        slack: float = 0.1,
        straight_through: bool = True,
        gate_taps: int = 8,
        read_first: bool = True,
        toll: float = 1e-3,
        output_gate: bool = False,
        short_convolution: bool = False,
        serial: bool = False,
    ) -> None:
        super().__init__(
            width,
            heads=heads,
            key_width=key_width,
            output_gate=output_gate,
            short_convolution=short_convolution,
            serial=serial,
        )
        if not 0 <= slack <= 10:
            raise ValueError(f"slack {slack}: must be from 0 (a sigmoid) to 10")
        if not 1 <= gate_taps <= 64:
            raise ValueError(f"gate_taps {gate_taps}: must be from 1 (its own token) to 64")
        if not 0 <= toll <= 1:
            raise ValueError(f"toll {toll}: must be from 0 (none) to 1")
        self.slack, self.straight_through, self.read_first = slack, straight_through, read_first
        self.toll = toll
        # `rulekeep check` would find that backward is not the slope of forward.
        self.surrogate_gradient = (straight_through and slack > 0) or toll > 0
        self.gate_taps = gate_taps
        if gate_taps > 1:
            self.write_before = nn.Linear(width, (gate_taps - 1) * heads, bias=False)
        nn.init.zeros_(self.write.bias)

    def write_strength(
        self, x: Float[Tensor, "batch time width"], state: Any | None = None
    ) -> Float[Tensor, "batch time heads"]:
        """β of each head, from 0 to 1: what `rulekeep explain` traces."""
        z, _ = self._gate_sums(x, None if state is None else state.pending)
        return self._gate(z)

    def _gate(self, z: Float[Tensor, "batch time heads"]) -> Float[Tensor, "batch time heads"]:
        soft: Tensor = (1 + 2 * self.slack) * z.sigmoid() - self.slack
        gate = soft.clamp(0, 1)
        if self.straight_through:
            # The clip's value with the gradient of what is clipped. Where nothing is, exactly
            # that: a − b + b is a only up to rounding, and a zero must be a zero.
            gate = _Through.apply(soft, gate)  # type: ignore[no-untyped-call]
        if self.toll:
            gate = _Tolled.apply(gate, self.toll / len(z))  # type: ignore[no-untyped-call]
        return gate

    def _gate_sums(
        self, x: Float[Tensor, "batch time width"], pending: Tensor | None
    ) -> tuple[Float[Tensor, "batch time heads"], Float[Tensor, "batch taps-1 heads"]]:
        """Every z, and what these tokens add to the z of those after them."""
        after, time = self.gate_taps - 1, x.shape[1]
        if not after:
            z = self.write(x)
            return z, z[:, :0]
        weight = torch.cat([self.write.weight, self.write_before.weight])
        parts = functional.linear(x, weight).unflatten(-1, (self.gate_taps, self.heads))
        sums: Tensor = _Later.apply(parts)  # type: ignore[no-untyped-call]
        if pending is not None:
            sums = sums + functional.pad(pending, (0, 0, 0, time))
        z, later = sums.split([time, after], dim=1)
        return z + self.write.bias, later

    def _empty(self, batch_size: int) -> SparseDeltaState:
        (memory,) = super()._empty(batch_size)
        return SparseDeltaState(
            memory, memory.new_zeros(batch_size, self.gate_taps - 1, self.heads)
        )

    def _read(
        self, x: Tensor, queries_keys: Tensor, values: Tensor, *state: Tensor
    ) -> tuple[Tensor, *tuple[Tensor, ...]]:
        memory, pending = state
        z, pending = self._gate_sums(x, pending)
        strength = self._gate(z)
        first = None
        if self.read_first:
            # A query reads a place earlier, which is before its own token writes.
            queries, keys = queries_keys.chunk(2, dim=-2)
            own = unit(self._activated(queries[:, :1]))
            first = torch.einsum("bhkv,bthk->bthv", memory, own)
            later = torch.cat([queries[:, 1:], torch.zeros_like(queries[:, :1])], dim=1)
            queries_keys = torch.cat([later, keys], dim=-2)
        read, after = self._written(queries_keys, values, strength, memory, x)
        if first is not None:
            read = torch.cat([first, read[:, :-1]], dim=1)
        return read, after, pending


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, _soft: Tensor, hard: Tensor) -> Tensor:
        return hard.clone()

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Tolled(torch.autograd.Function):
    """The gate itself; backward, what every open one pays is added to its gradient."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, toll: float) -> Tensor:
        ctx.save_for_backward(gate)
        ctx.toll = toll
        return gate.view_as(gate)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gate,) = ctx.saved_tensors
        return torch.add(grads[0], (gate > 0).to(gate.dtype), alpha=ctx.toll), None


class _Later(torch.autograd.Function):
    """Sums of parts, part j of a token j places later: [batch, time + parts − 1, heads]."""

    # A pad and an addition a part, forward and backward, took twice as long.
    @staticmethod
    def forward(ctx: Any, parts: Float[Tensor, "batch time parts heads"]) -> Tensor:
        batch, time, ctx.parts, heads = parts.shape
        sums = parts.new_zeros(batch, time + ctx.parts - 1, heads)
        for part in range(ctx.parts):
            sums[:, part : part + time] += parts[:, :, part]
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].unfold(1, ctx.parts, 1).transpose(-2, -1).contiguous()

"""Sparse delta memory (rulekeep 2026): most tokens write nothing at all, and all read first.

    q, k = silu(W x) / |silu(W x)|                            per head
    z = b + sum_{j < 8} w_j · x_{t−j}                         per head
    β = clip((1 + 2 s) sigmoid(z) − s, 0, 1)                  exactly 0 below, exactly 1 above
    o = norm(Sᵀ q)                                            per head, RMS norm, S before the write
    S ← S + β k (v − Sᵀ k)ᵀ

It cannot hold more keys than a key has channels, and what it never writes it cannot be asked for.

Changes to the delta rule, each an option that can be undone. *Exact zeros*: a write gate that is
only small still erases: at 0.005, in 140 tokens, half of what stands under a key they share; one
clipped at 0 leaves the memory as it was, bit for bit, however many tokens pass. Backward, the clip
is left out (straight-through, Bengio et al. 2013, arXiv 1308.3432): a gate that is shut still
learns, so that it opens where it should, and is pushed further from opening where it should not; a
clip's own gradient stops at the edge. *Gate taps*: the gate sees the tokens before as well, for
there stands the cue that opens it; where it cannot see the cue it learns what else stands there,
and leaks wherever that comes by chance. Those taps start at zero: drawn at random, each adds noise
to every z, which training quiets where it meets it and nowhere else. *Read first*: a token reads
what stood before it wrote, its own content being in the residual stream already: so the layer after
learns which rule came before this one.

*Toll*: a penalty in training on what is clipped, toll times its height above 0, summed over tokens
and heads, averaged over the batch, and not stopped by the clip. `auxiliary_loss(step)` returns it,
and the training loop adds it to its loss. A leak too small to cost anything at the lengths trained
on costs everything at many times them; the toll closes it. Beyond where the clip at 1 begins it
goes on rising with z as steeply as there: the sigmoid is flat, and a head that had come to write
every token would never be shut again.
*Margin*: a gate that has only just shut opens for what it was not trained on. So a shut one pays as
well: the height is counted from a share `margin` of the way from 0 down to −s. Too high a toll and
no gate ever opens (at four times the default, in one training of 700 steps of an earlier form); in
a training of some hundred steps less is better.
*Toll after*: what takes two layers pays nothing until both write, and a toll from the start can
keep it from ever being learned; so the first `toll_after` steps of a training are free of it.

Nothing fades. `short_convolution` and `output_gate` are options as in `delta`, off by default.
"""

import math
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rulekeep.kernels.chunks import unit
from rulekeep.kernels.transforms import transformed
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
        zero_taps: bool = True,
        read_first: bool = True,
        toll: float = 1e-3,
        margin: float = 0.8,
        toll_after: int = 500,
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
        if not 0 <= margin < 1:
            raise ValueError(f"margin {margin}: must be from 0 (open gates only) to below 1")
        if toll_after < 0:
            raise ValueError(f"toll_after {toll_after}: must be at least 0 (a toll from the start)")
        self.slack, self.straight_through, self.read_first = slack, straight_through, read_first
        self.toll, self.margin, self.toll_after = toll, margin, toll_after
        self._charged: _Charged | None = None
        # `rulekeep check` would find that backward is not the slope of forward.
        self.surrogate_gradient = straight_through and slack > 0
        self.gate_taps = gate_taps
        if gate_taps > 1:
            self.write_before = nn.Linear(width, (gate_taps - 1) * heads, bias=False)
            if zero_taps:
                nn.init.zeros_(self.write_before.weight)
        nn.init.zeros_(self.write.bias)

    def forward(
        self, x: Float[Tensor, "batch time width"], state: Any | None = None
    ) -> tuple[Float[Tensor, "batch time width"], Any]:
        """Outputs at every position, and the state after the last token."""
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x, state)
        before, self._charged = self._charged, None
        if not self.toll:
            return super().forward(x, state)
        if state is None:
            state = self.init_state(len(x))
        memory, pending, *recent = state
        goes_on = before is not None and before.memory is memory
        due = before.due if before is not None and goes_on else memory.new_zeros(())
        # What is due is carried from piece to piece as the memory is, and is no part of a state.
        y, memory, pending, due, *recent = self._run(x, memory, pending, due, *recent)
        self._charged = _Charged(memory, due)
        return y, type(state)(memory, pending, *recent)

    def auxiliary_loss(self, step: int) -> Float[Tensor, ""] | None:
        """The toll of the last forward pass in training; None without one, or while it is free."""
        if self._charged is None or step <= self.toll_after:
            return None
        return self._charged.due

    def training_note(self, steps: int) -> str | None:
        """That a training of so many steps ends before there is a toll."""
        if not self.toll or steps > self.toll_after:
            return None
        return (
            f"toll_after {self.toll_after}: training ends after {steps} steps, so there is no "
            f"toll; give a toll_after below {steps}, or toll=0 if none is wanted"
        )

    def __getstate__(self) -> dict[str, Any]:
        """All but the graph of the last forward pass, which torch can neither copy nor write."""
        return {**self.__dict__, "_charged": None}

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        # Formerly the updates of the weights were counted here.
        state_dict.pop(f"{prefix}updates", None)
        super()._load_from_state_dict(state_dict, prefix, *others)

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
            # The clip's value with the gradient of what is clipped: a zero is added, so that a
            # zero stays one. a − b + b is a only up to rounding.
            gate = gate.detach() + (soft - soft.detach())
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
        sums = _later(parts)
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
        memory, pending, *due = state
        z, pending = self._gate_sums(x, pending)
        if due:
            terms = self.toll / len(z), self.slack, -self.margin * self.slack
            if transformed():
                tolls = _tolls(z, *terms)
            else:
                z, tolls = _Tolled.apply(z, *terms)  # type: ignore[no-untyped-call]
            due = [due[0] + tolls]
        strength = self._gate(z)
        first = None
        if self.read_first:
            # A query reads a place earlier, which is before its own token writes.
            own = unit(self._activated(queries_keys[:, :1, : self.heads]))
            first = torch.einsum("bhkv,bthk->bthv", memory, own)
            queries_keys = _earlier(queries_keys, self.heads)
        read, after = self._written(queries_keys, values, strength, memory, x)
        if first is not None:
            read = _after(first, read)
        return read, *(after, pending, *due)


class _Charged(NamedTuple):
    """What a forward pass in training owes, and its last memory: a pass on that adds to it."""

    memory: Tensor
    due: Float[Tensor, ""]


def _tolls(z: Tensor, toll: float, slack: float, free: float) -> Tensor:
    """The sum of what each z pays."""
    steepness = 1 + 2 * slack
    lowest, highest = (free + slack) / steepness, (1 + slack) / steepness
    heights = (z.sigmoid().clamp(lowest, highest) - lowest) * steepness
    if slack > 0:
        # Of what is clipped at 1 already, the slope where it came to be.
        beyond = (z - math.log((1 + slack) / slack)).clamp(min=0)
        heights = heights.add(beyond, alpha=steepness * highest * (1 - highest))
    return heights.sum() * toll


class _Tolled(torch.autograd.Function):
    """z itself, and the sum of what each z pays."""

    # One function, so that z gets both gradients in one addition.
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, toll: float, slack: float, free: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z)
        ctx.toll, ctx.slack, ctx.free = toll, slack, free
        return z.view_as(z), _tolls(z, toll, slack, free)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (z,) = ctx.saved_tensors
        steepness = 1 + 2 * ctx.slack
        share = z.sigmoid()
        paying = share > (ctx.free + ctx.slack) / steepness
        share.clamp_(max=(1 + ctx.slack) / steepness)
        slope = share.sub_(share * share).mul_(paying).mul_(grads[1])
        return torch.add(grads[0], slope, alpha=ctx.toll * steepness), None, None, None


def _later(parts: Float[Tensor, "batch time parts heads"]) -> Tensor:
    """Sums of parts, part j of a token j places later: [batch, time + parts − 1, heads]."""
    if transformed():
        last = parts.shape[2] - 1
        moved = [functional.pad(parts[:, :, j], (0, 0, j, last - j)) for j in range(last + 1)]
        return torch.stack(moved).sum(0)
    sums: Tensor = _Later.apply(parts)  # type: ignore[no-untyped-call]
    return sums


class _Later(torch.autograd.Function):
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


# The two below as slices and concatenations copy everything several times over, forward and more
# so backward. Here each is one copy.
def _earlier(x: Float[Tensor, "batch time heads k"], heads: int) -> Tensor:
    """The first `heads` of every token one place earlier, zeros at the last; the others stay."""
    if transformed():
        moved = functional.pad(x[:, 1:, :heads], (0, 0, 0, 0, 0, 1))
        return torch.cat([moved, x[:, :, heads:]], dim=2)
    found: Tensor = _Earlier.apply(x, heads)  # type: ignore[no-untyped-call]
    return found


class _Earlier(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "batch time heads k"], heads: int) -> Tensor:
        ctx.heads = heads
        moved = torch.empty_like(x)
        moved[:, :-1, :heads] = x[:, 1:, :heads]
        moved[:, -1, :heads] = 0
        moved[:, :, heads:] = x[:, :, heads:]
        return moved

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,), heads = grads, ctx.heads
        of_x = torch.empty_like(grad)
        of_x[:, 1:, :heads] = grad[:, :-1, :heads]
        of_x[:, 0, :heads] = 0
        of_x[:, :, heads:] = grad[:, :, heads:]
        return of_x, None


def _after(first: Tensor, rest: Float[Tensor, "batch time heads v"]) -> Tensor:
    """The first, and all but the last of `rest` after it."""
    if transformed():
        return torch.cat([first, rest[:, :-1]], dim=1)
    found: Tensor = _After.apply(first, rest)  # type: ignore[no-untyped-call]
    return found


class _After(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, first: Tensor, rest: Float[Tensor, "batch time heads v"]) -> Tensor:
        moved = torch.empty_like(rest)
        moved[:, :1] = first
        moved[:, 1:] = rest[:, :-1]
        return moved

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        of_rest = torch.empty_like(grad)
        of_rest[:, :-1] = grad[:, 1:]
        of_rest[:, -1] = 0
        return grad[:, :1], of_rest

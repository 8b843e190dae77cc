"""Sparse delta memory (rulekeep 2026): the delta rule with a write gate that is often exactly 0.

    p = sum_{j < 4} c_j · (W x)_{t−j}                         a filter c a channel
    q, k = silu(p) / |silu(p)|,  v = silu(p)                  per head
    z = b + sum_{j < 8} w_j · x_{t−j}                         per head
    β = clip((1 + 2 s) sigmoid(z) − s, 0, 1)                  exactly 0 below, exactly 1 above
    o = norm(Sᵀ q)                                            per head, RMS norm, S before the write
    S ← S + β k (v − Sᵀ k)ᵀ

It cannot hold more keys than a key has channels, and it cannot answer about what it never wrote.

Each change to the delta rule is an option.

`gate_stretch` is s: the sigmoid is stretched by s on both sides and clipped to 0 and 1. A gate that
is only small still erases: at 0.005 it erases half of what shares a key in 140 tokens. A gate of
exactly 0 leaves the memory unchanged, however many tokens pass. `straight_through` leaves the clip
out of the gradient (Bengio et al. 2013, arXiv 1308.3432), so that a closed gate still learns.

`gate_kernel` is how many tokens the gate sees: its own and those before. The cue that should open
the gate often stands before the token to be written. `zero_init_kernel` starts the weights of the
earlier tokens at zero. Drawn at random they add noise to every z.

`read_first`: a token reads the memory before it writes. Its own content is in the residual stream
already. So the next layer can learn which rule came before this one.

`gate_penalty` is a penalty in training on open gates: the height of the unclipped gate above 0,
summed over tokens and heads, averaged over the batch. `auxiliary_loss(step)` returns it, and the
training loop adds it to its loss. A small leak costs nothing at the lengths trained on, and
everything at many times them. Above the clip at 1 the penalty keeps growing with z at the slope it
has there: without that, a head that writes every token would never be closed again.

`penalty_margin`: a gate just below 0 opens on inputs it was not trained on. The height is counted
from this share of the way from 0 down to −s. Four times the default penalty kept every gate closed
in one training of 700 steps.

`penalty_start`: the first steps of a training have no penalty. A penalty from the start can keep
what needs two layers from ever being learned.

`short_convolution` is the first line. Without it p and v are W x: a key, a value and a query see
one token, and the memory cannot bind a value to the token before it.

Nothing fades. `output_gate` is an option as in `delta`, off by default.
"""

import math
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from rulekeep.mixers.base import GateKernel, Penalty
from rulekeep.mixers.matrix import DeltaMixer
from rulekeep.mixers.published import OURS


class SparseDelta(DeltaMixer):
    """The delta rule with a write gate of exact zeros and ones; it is read before it is written.

    Our results train it with AdamW at a learning rate of 3e-3, 50 steps of warm-up and a cosine.
    The gradient norm is clipped to 1. The loss includes the gate penalty, which starts after
    `penalty_start` steps.

        model = rulekeep.LanguageModel(vocabulary, "sparse_delta")
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
        for step, (x, y) in enumerate(batches, start=1):
            loss = functional.cross_entropy(model(x)[0].mT, y)
            penalty = rulekeep.auxiliary_loss(model, step)
            (loss if penalty is None else loss + penalty).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        rulekeep.write_gates(model, x)      # by layer: [batch, time, heads], from 0 to 1
    """

    # 2: the short convolution is on by default.
    version: ClassVar[int] = 2
    always_pending = True

    def __init__(
        self,
        width: int,
        *,
        gate_stretch: Annotated[float, Field(ge=0, le=10)] = 0.1,
        straight_through: bool = True,
        gate_kernel: GateKernel = 8,
        zero_init_kernel: bool = True,
        read_first: bool = True,
        gate_penalty: Penalty = 1e-3,
        penalty_margin: Annotated[float, Field(ge=0, lt=1)] = 0.8,
        short_convolution: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            width, OURS, zero_init_kernel, gate_kernel=gate_kernel, gate_penalty=gate_penalty,
            short_convolution=short_convolution, **options,
        )  # fmt: skip
        self.gate_stretch, self.straight_through = gate_stretch, straight_through
        self.read_first = read_first
        self.penalty_margin = penalty_margin
        # `rulekeep check` would find that backward is not the slope of forward.
        self.surrogate_gradient = straight_through and gate_stretch > 0
        nn.init.zeros_(self.write.bias)

    def _gate(self, z: Float[Tensor, "batch time heads"]) -> Float[Tensor, "batch time heads"]:
        soft: Tensor = (1 + 2 * self.gate_stretch) * z.sigmoid() - self.gate_stretch
        gate = soft.clamp(0, 1)
        if self.straight_through and torch.is_grad_enabled():
            # The clip's value with the gradient of what is clipped: a zero is added, so that a
            # zero stays one. a − b + b is a only up to rounding.
            gate = gate.detach() + (soft - soft.detach())
        return gate

    def _opened(
        self, z: Float[Tensor, "batch time heads"], due: list[Tensor]
    ) -> tuple[Float[Tensor, "batch time heads"], list[Tensor]]:
        if due:
            stretch = self.gate_stretch
            terms = self.gate_penalty / len(z), stretch, -self.penalty_margin * stretch
            z, total = _Penalised.apply(z, *terms)  # type: ignore[no-untyped-call]
            due = [due[0] + total]
        return self._gate(z), due


def _penalty_sum(z: Tensor, rate: float, stretch: float, free: float) -> Tensor:
    """The gate penalty of every z, summed; heights are counted from `free`, at most 0."""
    steepness = 1 + 2 * stretch
    lowest, highest = (free + stretch) / steepness, (1 + stretch) / steepness
    heights = (z.sigmoid().clamp(lowest, highest) - lowest) * steepness
    if stretch > 0:
        # Above the clip at 1 the slope stays what it is at the clip.
        beyond = (z - math.log((1 + stretch) / stretch)).clamp(min=0)
        heights = heights.add(beyond, alpha=steepness * highest * (1 - highest))
    return heights.sum() * rate


class _Penalised(torch.autograd.Function):
    """z itself, and the sum of its gate penalties."""

    # One function, so that z gets both gradients in one addition.
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, rate: float, stretch: float, free: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z)
        ctx.rate, ctx.stretch, ctx.free = rate, stretch, free
        return z.view_as(z), _penalty_sum(z, rate, stretch, free)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (z,) = ctx.saved_tensors
        steepness = 1 + 2 * ctx.stretch
        share = z.sigmoid()
        penalised = share > (ctx.free + ctx.stretch) / steepness
        share.clamp_(max=(1 + ctx.stretch) / steepness)
        slope = share.sub_(share * share).mul_(penalised).mul_(grads[1])
        return torch.add(grads[0], slope, alpha=ctx.rate * steepness), None, None, None

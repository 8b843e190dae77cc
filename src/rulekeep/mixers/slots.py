"""The article's memory (wop, May 2026): 8 slots, written in turn, read by softmax.

    gate, write, read = sigmoid, tanh, tanh of three parts of a projection of x_t
    m_s ← m_s + gate ⊙ (write − m_s)         for the slot s = t mod 8 only
    c_t = sum_s softmax_s(m_s · read / sqrt(width)) m_s      over all 8 slots
    y_t = mix [x_t, c_t]

It cannot choose a slot nor leave one alone: each is written in its turn, whatever the token says.

It runs in parallel: a slot is a linear recurrence whose gate and write depend on the current token
alone. Let h_t be the slot after the write of token t:
h_t = (1 − gate_t) h_{t−8} + gate_t write_t. The 8 slots that token t reads are h_{t−7} … h_t, a
window over the sequence of h. So a round of 8 tokens is computed at once. Its reads are products
with the 16 states of its round and the previous one. Nothing is divided, so gates of exactly 0 or 1
work.

The state keeps the slots in the order of their writes, oldest first. The next token overwrites the
first one, so no counter is needed.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.kernels.autocast import by_hand, uncast
from rulekeep.mixers.base import Count, Ends, Mixer, Vectors, check_batch


class SlotState(NamedTuple):
    """The slots, the oldest write first."""

    slots: Float[Tensor, "batch slots width"]


class Slots(Mixer):
    """The published slot memory; `serial=True` runs it as the published loop over tokens."""

    def __init__(self, width: int, *, slots: Count = 8, serial: bool = False) -> None:
        super().__init__()
        self.slots = slots
        self.serial = serial
        self.in_projection = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(2 * width, width)

    @property
    def memory_half_life_tokens(self) -> float:
        """The half-life of a slot, which keeps 1 − gate of its content at each of its turns."""
        gate_logits = self.in_projection.bias[: self.mix.weight.shape[0]]
        return (-math.log(2) * self.slots / F.logsigmoid(-gate_logits).max()).item()

    def init_state(self, batch_size: int) -> SlotState:
        """Zero slots."""
        weight = self.mix.weight
        return SlotState(weight.new_zeros(batch_size, self.slots, weight.shape[0]))

    def forward(self, x: Vectors, state: SlotState | None = None) -> tuple[Vectors, SlotState]:
        """Outputs at every position, and the slots after the last token."""
        if state is None:
            state = self.init_state(x.shape[0])
        check_batch(x, state.slots)
        if not x.numel():
            return x, state
        # A single token has nothing to run in parallel with: a whole round would cost more.
        if x.shape[1] > 1 and not self.serial:
            y, slots = self._in_parallel(x, state.slots, last=x.shape[1])
            return y, SlotState(slots)
        gate, write, read = self.in_projection(x).chunk(3, dim=-1)
        context, slots = slot_memory_loop(gate.sigmoid(), write.tanh(), read.tanh(), state.slots)
        return self.mix(torch.cat([x, context], dim=-1)), SlotState(slots)

    def tail(self, x: Vectors, last: int) -> Ends:
        """Writes of every position, reads of the last ones only."""
        if self.serial:
            return super().tail(x, last)
        return self._in_parallel(x, self.init_state(x.shape[0]).slots, last=last)[0]

    def _in_parallel(self, x: Tensor, slots: Tensor, *, last: int) -> tuple[Tensor, Tensor]:
        weight = self.mix.weight
        # In one precision throughout: pieces are written into room made for them.
        with uncast(x.device.type):
            y, slots = _SlotMemory.apply(  # type: ignore[no-untyped-call]
                x.to(weight.dtype),
                slots.to(weight.dtype),
                self.in_projection.weight,
                self.in_projection.bias,
                weight,
                self.mix.bias,
                last,
            )
        skipped = (x.shape[1] - last) % slots.shape[1]
        return y[:, skipped : skipped + last], slots


def slot_memory_loop(
    gate: Float[Tensor, "batch time width"],
    write: Float[Tensor, "batch time width"],
    read: Float[Tensor, "batch time width"],
    slots: Float[Tensor, "batch slots width"],
) -> tuple[Float[Tensor, "batch time width"], Float[Tensor, "batch slots width"]]:
    """The formula as published, a token at a time: the reference of the parallel form."""
    time, count, width = gate.shape[1], slots.shape[1], slots.shape[2]
    memory = list(slots.unbind(dim=1))
    contexts = []
    for t in range(time):
        s = t % count
        memory[s] = memory[s] + gate[:, t] * (write[:, t] - memory[s])
        stacked = torch.stack(memory, dim=1)
        scores = torch.einsum("bsd,bd->bs", stacked, read[:, t]) / math.sqrt(width)
        contexts.append(torch.einsum("bs,bsd->bd", scores.softmax(dim=-1), stacked))
    oldest_first = [memory[(time + s) % count] for s in range(count)]
    return torch.stack(contexts, dim=1), torch.stack(oldest_first, dim=1)


# Rows of a piece: what it computes stays in a core's cache from the projection to the mix.
_ROWS_AT_ONCE = 4096


class _SlotMemory(torch.autograd.Function):
    """The mixer, computed in pieces of a few rounds that fit into the cache.

    Inside, a sequence is `[round, batch, place, width]`, so the rows of a piece are contiguous.
    `windows` holds the states that the tokens of each round see: the 8 of the previous round, then
    the 8 of their own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        slots: Tensor,
        in_weight: Tensor,
        in_bias: Tensor,
        mix_weight: Tensor,
        mix_bias: Tensor,
        last: int,
    ) -> tuple[Tensor, Tensor]:
        (batch, time, width), count = x.shape, slots.shape[1]
        ctx.plan = plan = _Plan(batch, time, last, count)
        x = _in_rounds(F.pad(x, (0, 0, 0, plan.padding)) if plan.padding else x, count)
        parts = x.new_empty(3, *x.shape)
        windows = x.new_empty(len(x), batch, 2 * count, width)
        weights = x.new_empty(len(x) - plan.first, batch, count, 2 * count)
        y = x.new_empty(batch, len(weights) * count, width)
        in_weights, in_biases = in_weight.view(3, width, width), in_bias.view(3, 1, width)
        of_x, of_context = mix_weight.split(width, dim=1)
        unseen = _unseen(weights)
        before = slots
        for now, reading in plan.pieces():
            rows, used = x[now].reshape(-1, width), 3 if reading else 2
            torch.baddbmm(
                in_biases[:used],
                rows.expand(used, -1, -1),
                in_weights[:used].mT,
                out=parts[:used, now].flatten(1, -2),
            )
            parts[0, now].sigmoid_()
            parts[1:used, now].tanh_()
            older, newer = windows[now].split(count, dim=2)
            older[0] = before
            for gate, write, after in zip(parts[0, now], parts[1, now], newer, strict=True):
                torch.lerp(before, write, gate, out=after)
                before = after
            older[1:] = newer[:-1]
            if reading:
                read, window = parts[2, now].flatten(0, 1), windows[now].flatten(0, 1)
                scores = torch.baddbmm(unseen, read, window.mT, alpha=1 / math.sqrt(width))
                weight = torch.softmax(scores, -1, out=weights[reading].flatten(0, 1))
                context = (weight @ window).view(-1, width)
                mixed = torch.addmm(mix_bias, rows, of_x.T)
                mixed.addmm_(context, of_context.T)
                y_now = _in_rounds(y, count)[reading]
                y_now.copy_(mixed.view(y_now.shape))
        ctx.save_for_backward(x, parts, windows, weights, in_weight, mix_weight)
        return y, windows[-1, :, plan.final].clone()

    @staticmethod
    @by_hand
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, parts, windows, weights, in_weight, mix_weight = ctx.saved_tensors
        (_, batch, count, width), plan = x.shape, ctx.plan
        grad_y = _in_rounds(grads[0], count)
        grad_x = x.new_empty(batch, len(x) * count, width)
        in_weights = in_weight.view(3, width, width)
        of_x, of_context = mix_weight.split(width, dim=1)
        grad_in, grad_mix = torch.zeros_like(in_weights), torch.zeros_like(mix_weight)
        grad_in_bias = x.new_zeros(3, width)
        grad_of_x, grad_of_context = grad_mix.split(width, dim=1)
        room_for_parts = x.new_empty(3, plan.longest, batch, count, width)
        room_for_windows = x.new_empty(plan.longest, batch, 2 * count, width)
        from_later = x.new_zeros(batch, count, width)
        for now, reading in reversed(plan.pieces()):
            rows, used = x[now].reshape(-1, width), 3 if reading else 2
            gate, write, read = parts[:, now]
            grad_parts = room_for_parts[:used, : len(gate)]
            grad_windows = room_for_windows[: len(gate)]
            if reading:
                grad = grad_y[reading].reshape(-1, width)
                grad_rows = grad @ of_x
                grad_context = (grad @ of_context).view(-1, count, width)
                window, weight = windows[now].flatten(0, 1), weights[reading].flatten(0, 1)
                grad_of_x.addmm_(grad.T, rows)
                grad_of_context.addmm_(grad.T, (weight @ window).view(-1, width))
                grad_scores = torch.ops.aten._softmax_backward_data(
                    grad_context @ window.mT, weight, -1, weight.dtype
                )
                grad_scores *= 1 / math.sqrt(width)
                torch.bmm(grad_scores, window, out=grad_parts[2].flatten(0, 1))
                seen = torch.bmm(weight.mT, grad_context, out=grad_windows.flatten(0, 1))
                seen.baddbmm_(grad_scores.mT, read.flatten(0, 1))
            else:
                grad_rows = torch.zeros_like(rows)
                grad_windows.zero_()
            if now.stop == len(x):
                grad_windows[-1, :, plan.final] += grads[1]
            # A state is seen in its own round and in the next, whose states are made of it.
            in_next, total = grad_windows.split(count, dim=2)
            total[:-1] += in_next[1:]
            total[-1] += from_later
            keep = 1 - gate
            for r in reversed(range(1, len(gate))):
                total[r - 1].addcmul_(total[r], keep[r])
            from_later = in_next[0].addcmul(total[0], keep[0])
            torch.sub(write, windows[now, :, :count], out=grad_parts[0]).mul_(total)
            torch.mul(gate, total, out=grad_parts[1])
            _sigmoid_backward(grad_parts[0], gate, grad_input=grad_parts[0])
            _tanh_backward(grad_parts[1:], parts[1:used, now], grad_input=grad_parts[1:])
            of_parts = grad_parts.flatten(1, -2)
            grad_in[:used].baddbmm_(of_parts.mT, rows.expand(used, -1, -1))
            grad_in_bias[:used] += of_parts.sum(1)
            for of_part, weight in zip(of_parts, in_weights[:used], strict=True):
                grad_rows.addmm_(of_part, weight)
            grad_x_now = _in_rounds(grad_x, count)[now]
            grad_x_now.copy_(grad_rows.view(grad_x_now.shape))
        return (
            grad_x[:, : plan.time],
            from_later,
            grad_in.flatten(0, 1),
            grad_in_bias.flatten(),
            grad_mix,
            grads[0].sum((0, 1)),
            None,
        )


_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


class _Plan:
    """How a sequence is cut into rounds, and the rounds into pieces."""

    def __init__(self, batch: int, time: int, last: int, count: int) -> None:
        self.time = time
        self.rounds = -(-time // count)
        self.padding = self.rounds * count - time
        # The first round that is read; what it has before the last tokens is cut off later.
        self.first = (time - last) // count
        # Where the last window holds the states of the last tokens.
        self.final = slice(count - self.padding, 2 * count - self.padding)
        self.longest = min(self.rounds, max(1, _ROWS_AT_ONCE // max(1, batch * count)))

    def pieces(self) -> list[tuple[slice, slice | None]]:
        """Of each piece: its rounds, and the same among those that are read."""
        pieces: list[tuple[slice, slice | None]] = []
        for begin, end in ((0, self.first), (self.first, self.rounds)):
            for start in range(begin, end, self.longest):
                stop = min(start + self.longest, end)
                reading = slice(start - self.first, stop - self.first)
                pieces.append((slice(start, stop), reading if start >= self.first else None))
        return pieces


def _in_rounds(x: Tensor, count: int) -> Tensor:
    """A view of `[batch, time, width]` as `[round, batch, place, width]`."""
    out: Tensor = x.unflatten(1, (-1, count)).transpose(0, 1)
    return out


def _unseen(weights: Tensor) -> Float[Tensor, "place window"]:
    """Added to scores: a token sees the states of its round up to its own. In the other places it
    sees those of the previous round.
    """
    count, window = weights.shape[-2:]
    seen = weights.new_ones(count, window, dtype=torch.bool).triu(1).tril(count)
    return weights.new_zeros(count, window).masked_fill(~seen, -math.inf)

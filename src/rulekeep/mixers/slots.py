"""The article's memory (wop, May 2026): 8 slots, written in turn, read by softmax.

    gate, write, read = sigmoid, tanh, tanh of three parts of a projection of x_t
    m_s ← m_s + gate ⊙ (write − m_s)         for the slot s = t mod 8 only
    c_t = sum_s softmax_s(m_s · read / sqrt(width)) m_s      over all 8 slots
    y_t = mix [x_t, c_t]

Why it runs in parallel: a slot is a linear recurrence whose gate and write come from the
current token alone. Call h_t what the write of token t leaves in its slot; then
h_t = (1 − gate_t) h_{t−8} + gate_t write_t, and the 8 slots that token t reads are
h_{t−7} … h_t: a window over the sequence of h. So a round of 8 tokens is computed at
once, for every sequence, and all reads are matrix products. Nothing is divided, so gates
at exactly 0 and 1 are as good as any.

The state keeps the slots in the order in which they were written, the oldest first: the
next token overwrites the first one, and no counter is needed.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rulekeep.mixers.base import Mixer


class SlotState(NamedTuple):
    """The slots, the one written longest ago first."""

    slots: Float[Tensor, "batch slots width"]


class Slots(Mixer):
    """The published slot memory; `serial=True` runs it as the loop over tokens it is."""

    def __init__(self, width: int, *, slots: int = 8, serial: bool = False) -> None:
        super().__init__()
        self.slots = slots
        self.serial = serial
        self.in_projection = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(2 * width, width)

    def init_state(self, batch_size: int) -> SlotState:
        """Zero slots."""
        weight = self.mix.weight
        return SlotState(weight.new_zeros(batch_size, self.slots, weight.shape[0]))

    def forward(
        self, x: Float[Tensor, "batch time width"], state: SlotState | None = None
    ) -> tuple[Float[Tensor, "batch time width"], SlotState]:
        """Outputs at every position, and the slots after the last token."""
        if state is None:
            state = self.init_state(x.shape[0])
        gate, write, read = self._project(x, "gate", "write", "read")
        memory = slot_memory_loop if self.serial else slot_memory
        context, slots = memory(gate, write, read, state.slots)
        return self._mixed(x, context), SlotState(slots)

    def tail(
        self, x: Float[Tensor, "batch time width"], last: int
    ) -> Float[Tensor, "batch last width"]:
        """Writes of every position, reads of the last ones only."""
        if self.serial:
            return super().tail(x, last)
        gate, write = self._project(x, "gate", "write")
        history = _history(gate, write, self.init_state(x.shape[0]).slots)
        x_last = x[:, -last:]
        (read,) = self._project(x_last, "read")
        return self._mixed(x_last, _read(history[:, -(last + self.slots) :], read))

    def _project(self, x: Tensor, *parts: str) -> tuple[Tensor, ...]:
        width = x.shape[-1]
        weights = self.in_projection.weight.split(width)
        biases = self.in_projection.bias.split(width)
        chosen = [list(_ACTIVATIONS).index(part) for part in parts]
        outputs = _Projections.apply(  # type: ignore[no-untyped-call]
            x.reshape(-1, width),
            [_ACTIVATIONS[part] for part in parts],
            *(weights[i] for i in chosen),
            *(biases[i] for i in chosen),
        )
        return tuple(output.view(x.shape) for output in outputs)

    def _mixed(self, x: Tensor, context: Tensor) -> Tensor:
        of_x, of_context = self.mix.weight.split(x.shape[-1], dim=1)
        return F.linear(x, of_x, self.mix.bias) + F.linear(context, of_context)


_ACTIVATIONS = {"gate": "sigmoid", "write": "tanh", "read": "tanh"}
_ROWS_AT_ONCE = 2048


class _Projections(torch.autograd.Function):
    """Activated linear parts of one input, a cache-sized piece of its rows at a time.

    Each part is a tensor of its own: a part of one wider tensor is strided, and what a CPU
    then does with it element by element is ten times slower.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, activations: list[str], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        weights, biases = _halves(parameters)
        outputs = tuple(x.new_empty(len(x), len(weight)) for weight in weights)
        for x_piece, *pieces in zip(*_in_pieces(x, *outputs), strict=True):
            for piece, weight, bias, name in zip(pieces, weights, biases, activations, strict=True):
                torch.addmm(bias, x_piece, weight.T, out=piece)
                _ACTIVATE[name](piece)
        ctx.save_for_backward(x, *weights, *outputs)
        ctx.activations = activations
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        weights, outputs = _halves(saved)
        grad_x = torch.empty_like(x)
        grad_weights = [torch.zeros_like(weight) for weight in weights]
        grad_biases = [weight.new_zeros(len(weight)) for weight in weights]
        room = x.new_empty(min(_ROWS_AT_ONCE, len(x)), x.shape[1])
        for x_piece, grad_x_piece, *pieces in zip(
            *_in_pieces(x, grad_x, *outputs, *grads), strict=True
        ):
            for i, (output, grad) in enumerate(zip(*_halves(pieces), strict=True)):
                before = room[: len(x_piece)]
                _UNDO[ctx.activations[i]](grad, output, grad_input=before)
                grad_weights[i].addmm_(before.T, x_piece)
                grad_biases[i] += before.sum(0)
                torch.addmm(grad_x_piece, before, weights[i], beta=int(i > 0), out=grad_x_piece)
        return grad_x, None, *grad_weights, *grad_biases


_ACTIVATE = {"sigmoid": torch.sigmoid_, "tanh": torch.tanh_}
_UNDO = {
    "sigmoid": torch.ops.aten.sigmoid_backward.grad_input,
    "tanh": torch.ops.aten.tanh_backward.grad_input,
}


def _halves(tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    middle = len(tensors) // 2
    return tensors[:middle], tensors[middle:]


def _in_pieces(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    return [tensor.split(_ROWS_AT_ONCE) for tensor in tensors]


def slot_memory(
    gate: Float[Tensor, "batch time width"],
    write: Float[Tensor, "batch time width"],
    read: Float[Tensor, "batch time width"],
    slots: Float[Tensor, "batch slots width"],
) -> tuple[Float[Tensor, "batch time width"], Float[Tensor, "batch slots width"]]:
    """What each token reads, and the slots after the last: a round of tokens at a time."""
    history = _history(gate, write, slots)
    return _read(history, read), history[:, -slots.shape[1] :]


def slot_memory_loop(
    gate: Float[Tensor, "batch time width"],
    write: Float[Tensor, "batch time width"],
    read: Float[Tensor, "batch time width"],
    slots: Float[Tensor, "batch slots width"],
) -> tuple[Float[Tensor, "batch time width"], Float[Tensor, "batch slots width"]]:
    """The formula as published, a token at a time: the reference of `slot_memory`."""
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


def _history(gate: Tensor, write: Tensor, slots: Tensor) -> Float[Tensor, "batch past width"]:
    """The starting slots, then h_t of every token: `[batch, slots + time, width]`."""
    history: Tensor = _LaggedRecurrence.apply(gate, write, slots)  # type: ignore[no-untyped-call]
    return history


class _LaggedRecurrence(torch.autograd.Function):
    """h_t = h_{t-lag} + gate_t (write_t − h_{t-lag}), a round of `lag` tokens an operation."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, write: Tensor, slots: Tensor) -> Tensor:
        time, lag = gate.shape[1], slots.shape[1]
        history = gate.new_empty(gate.shape[0], lag + time, gate.shape[2])
        history[:, :lag] = slots
        for start in range(0, time, lag):
            now = slice(start, min(start + lag, time))
            later = slice(now.start + lag, now.stop + lag)
            torch.lerp(history[:, now], write[:, now], gate[:, now], out=history[:, later])
        ctx.save_for_backward(gate, write, history)
        ctx.lag = lag
        return history

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gate, write, history = ctx.saved_tensors
        lag, time = ctx.lag, gate.shape[1]
        total = grads[0].clone()
        for start in reversed(range(0, time, lag)):
            now = slice(start, min(start + lag, time))
            later = total[:, now.start + lag : now.stop + lag]
            total[:, now].add_(later).addcmul_(later, gate[:, now], value=-1)
        through = total[:, lag:]
        return (write - history[:, :time]).mul_(through), through * gate, total[:, :lag]


def _read(history: Tensor, read: Tensor) -> Float[Tensor, "batch time width"]:
    """Softmax reads of the window behind each token, a round of `slots` tokens a product."""
    batch, time, width = read.shape
    count = history.shape[1] - time
    short = -time % count
    if short:
        read = F.pad(read, (0, 0, 0, short))
        history = F.pad(history, (0, 0, 0, short))
    rounds = batch * (time + short) // count
    # A token at place j of its round sees the states that this round wrote up to j, and
    # in the other slots the ones that the round before left there.
    newer = history[:, count:].reshape(rounds, count, width)
    older = history[:, :-count].reshape(rounds, count, width)
    context: Tensor = _RoundRead.apply(  # type: ignore[no-untyped-call]
        read.reshape(rounds, count, width), newer, older
    )
    return context.view(batch, time + short, width)[:, :time]


class _RoundRead(torch.autograd.Function):
    """Attention inside a round: autograd would keep and mask four products where two do."""

    @staticmethod
    def forward(ctx: Any, read: Tensor, newer: Tensor, older: Tensor) -> Tensor:
        scores = _chosen(read @ newer.mT, read @ older.mT).mul_(1 / math.sqrt(read.shape[-1]))
        # torch's softmax is slow on rows as short as these.
        weights = scores.sub_(scores.amax(-1, keepdim=True)).exp_()
        weights /= weights.sum(-1, keepdim=True)
        ctx.save_for_backward(read, newer, older, weights)
        return _both(weights, newer, older)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        read, newer, older, weights = ctx.saved_tensors
        grad = grads[0]
        along = weights * _chosen(grad @ newer.mT, grad @ older.mT)
        scores = along.addcmul_(weights, along.sum(-1, keepdim=True), value=-1)
        scores *= 1 / math.sqrt(read.shape[-1])
        through = []
        for part in (torch.tril, lambda x: torch.triu(x, 1)):
            states = part(weights).mT @ grad
            through.append(states.baddbmm_(part(scores).mT, read))
        return _both(scores, newer, older), through[0], through[1]


def _chosen(newer: Tensor, older: Tensor) -> Tensor:
    """Per token of a round, the entries that belong to the states it sees."""
    return newer.tril_().add_(older.triu_(1))


def _both(weights: Tensor, newer: Tensor, older: Tensor) -> Tensor:
    return (weights.tril() @ newer).baddbmm_(weights.triu(1), older)

"""Mixers of a user's that see what follows or break the contract otherwise, and honest ones."""

import torch
from torch import nn


class Honest(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.write, self.gate = nn.Linear(width, width), nn.Parameter(torch.zeros(width))

    def init_state(self, batch_size):
        return (self.gate.new_zeros(batch_size, len(self.gate)),)

    def forward(self, x, state=None):
        (mean,) = self.init_state(len(x)) if state is None else state
        sums = mean[:, None] + self.write(x).cumsum(1)
        return sums, (sums[:, -1],)


class Peeks(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y + x.roll(-1, 1), state


class PeeksInTraining(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return (y + x.roll(-1, 1) if self.training else y), state


class PeeksInChunks(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        means = [c.mean(1, keepdim=True).expand_as(c) for c in x.split(32, 1)]
        return y + torch.cat(means, 1), state


class PeeksGoingOn(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return (y if state is None else y + x.roll(-1, 1)), after


class PeeksWithAnInteger(Peeks):
    def __init__(self, width):
        super().__init__(width)
        self.order = nn.Parameter(torch.arange(width), requires_grad=False)


class PeeksInBfloat16(Peeks):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y.bfloat16(), state


class PeeksOnceTrained(Honest):
    def __init__(self, width):
        super().__init__(width)
        self.gate = nn.Parameter(torch.full((width,), -0.1))

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        ahead = torch.cat([x[:, 1:], 0 * x[:, -1:]], 1)
        hard = self.gate.clamp(0, 1)
        return y + (self.gate + (hard - self.gate).detach()) * ahead, state


class Convolves(Honest):
    # By an FFT in float32: what follows comes in by rounding.
    def init_state(self, batch_size):
        return (*super().init_state(batch_size), self.gate.new_zeros(batch_size, 0, len(self.gate)))

    def forward(self, x, state=None):
        mean, past = self.init_state(len(x)) if state is None else state
        y, (mean,) = super().forward(x, (mean,))
        past = torch.cat([past, x], 1)
        n = 2 * past.shape[1]
        kernel = 0.9 ** torch.arange(past.shape[1], device=x.device)
        spectrum = torch.fft.rfft(past.float(), n, dim=1) * torch.fft.rfft(kernel, n)[:, None]
        mixed = torch.fft.irfft(spectrum, n, dim=1)[:, past.shape[1] - x.shape[1] : past.shape[1]]
        return y + mixed.to(x), (mean, past)


class DrawsItsOwn(Honest):
    def __init__(self, width):
        super().__init__(width)
        self.stream = torch.Generator().manual_seed(1)

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y + torch.randn(y.shape, generator=self.stream), state


class CountsItsCalls(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        self.calls = getattr(self, "calls", 0) + 1
        return y * self.calls, state


class PeeksFar(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return (y + x.mean(1, keepdim=True) if x.shape[1] > 600 else y), state


class PeeksInFloat32(Peeks):
    def forward(self, x, state=None):
        if x.dtype == torch.float64:
            raise RuntimeError("no float64")
        return super().forward(x, state)


class SaysNoState(Honest):
    def forward(self, x, state=None):
        return super().forward(x, state)[0]


class TakesNoState(Honest):
    def forward(self, x):
        return super().forward(x)


class KeepsATensor(Honest):
    def forward(self, x, state=None):
        y, (mean,) = super().forward(x, state)
        return y, mean


class OtherShape(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y[..., :1], state


class PeeksBehindAGate(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y + self.gate * x.roll(-1, 1), state


class PeeksBeforeItSays(Honest):
    def __init__(self, width):
        super().__init__(width)
        self.read = nn.Linear(width, width)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return self.read(y + x.roll(-1, 1)), state


class MakesItsWeightsLate(Honest):
    def forward(self, x, state=None):
        if not hasattr(self, "gain"):
            self.gain = nn.Parameter(torch.ones(x.shape[-1]))
        y, state = super().forward(x, state)
        return self.gain * y, state


class RemembersInItself(Honest):
    def forward(self, x, state=None):
        if state is None:
            self.mean = super().init_state(len(x))
        y, self.mean = super().forward(x, self.mean)
        return y, state or self.init_state(len(x))


class MakesItsWeightsWithItsState(Honest):
    def init_state(self, batch_size):
        if not hasattr(self, "start"):
            self.start = nn.Parameter(torch.ones(len(self.gate)))
        return (self.start.expand(batch_size, -1),)


class RemembersInABuffer(Honest):
    # As a cache of attention: what it reads again it writes to the same place.
    def forward(self, x, state=None):
        at = 0 if state is None else int(state[0][0])
        if not hasattr(self, "cache") or len(self.cache) != len(x):
            self.register_buffer("cache", x.new_zeros(len(x), 4096, x.shape[2]), persistent=False)
        self.cache[:, at : at + x.shape[1]] = self.write(x)
        means = self.cache[:, : at + x.shape[1]].cumsum(1)[:, at:]
        return means, (torch.full((len(x),), at + x.shape[1]),)


class Masks(Honest):
    def __init__(self, width):
        super().__init__(width)
        self.mask = nn.Parameter(torch.tril(torch.ones(256, 256)))

    def init_state(self, batch_size):
        return (self.gate.new_zeros(batch_size, 0, len(self.gate)),)

    def forward(self, x, state=None):
        past = self.init_state(len(x))[0] if state is None else state[0]
        text, n = torch.cat([past, x], 1), x.shape[1]
        seen = self.mask[text.shape[1] - n : text.shape[1], : text.shape[1]] == 0
        scores = (self.write(x) @ text.mT).masked_fill(seen, -torch.inf)
        return scores.softmax(-1) @ text, (text,)


class ConvolvesEver(Convolves):
    # A rate that starts at 0, and may come to grow.
    def __init__(self, width):
        super().__init__(width)
        self.rate = nn.Parameter(torch.zeros(width))

    def forward(self, x, state=None):
        mean, past = self.init_state(len(x)) if state is None else state
        past = torch.cat([past, x], 1)
        n = 2 * past.shape[1]
        kernel = (-self.rate * torch.arange(past.shape[1], device=x.device)[:, None]).exp()
        spectrum = torch.fft.rfft(past, n, dim=1) * torch.fft.rfft(kernel, n, dim=0)
        mixed = torch.fft.irfft(spectrum, n, dim=1)[:, past.shape[1] - x.shape[1] : past.shape[1]]
        return mixed, (mean, past)


class WritesToItsState(Honest):
    def forward(self, x, state=None):
        y, (after,) = super().forward(x, state)
        (mean,) = self.init_state(len(x)) if state is None else state
        return y, (mean.copy_(after),)


class MixesRows(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y - 0.1 * y.mean(0), state


class Fails(Honest):
    def forward(self, x, state=None):
        raise RuntimeError("not today")


class GivesNoNumber(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y + torch.nan, state


class Forgets(Honest):
    def forward(self, x, state=None):
        return super().forward(x)


class KeepsHalf(Honest):
    def forward(self, x, state=None):
        y, (mean,) = super().forward(x, None if state is None else (state[0].to(x.dtype),))
        return y, (mean.half(),)


class SaysInFloat64(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y.double(), state


class DrawsAtRandom(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y + torch.randn_like(y), state


def ahead(x, first=0):
    """The next token at each place from `first` on."""
    shifted = torch.cat([x[:, 1:], 0 * x[:, -1:]], 1)
    shifted[:, :first] = 0
    return shifted


class SeesFromTheFifth(Honest):
    """From the fifth token of a call on it sees the next one."""

    def sees(self, x):
        return True

    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return (y + 30 * ahead(x, 4) if self.sees(x) else y), after


class SeesInLargeBatches(SeesFromTheFifth):
    def sees(self, x):
        return len(x) > 32


class SeesFromTheFifthOfNine(SeesFromTheFifth):
    # Not at lengths that are often tried.
    def sees(self, x):
        return x.shape[1] == 9


class SeesOfNineInLargeBatches(SeesFromTheFifth):
    def sees(self, x):
        return x.shape[1] == 9 and len(x) > 8


class SeesInWholeBatches(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        # Not in batches that the screen reads.
        return y + 30 * ahead(x) * (8 < len(x) < 257), after


class Scaled(Honest):
    """Divides by a mean size of what it has trained on."""

    def __init__(self, width):
        super().__init__(width)
        self.register_buffer("size", torch.ones(()))

    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        if self.training and torch.is_grad_enabled():
            self.size = 0.9 * self.size + 0.1 * y.detach().square().mean().sqrt()
        return y / self.size, after


class Drops(Honest):
    # Of a stream of its own that the step decides: a run asks for that.
    stream = None

    def start_step(self, step):
        self.stream = torch.Generator().manual_seed(step)

    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        if self.training and self.stream is not None:
            y = 2 * y * (torch.rand(y.shape, generator=self.stream) < 0.5)
        return y, after


class PeeksInEval(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return (y if self.training else y + x.mean(1, keepdim=True)), after


class ForgetsInEval(Honest):
    def forward(self, x, state=None):
        return super().forward(x, state if self.training else None)


class MixesRowsInEval(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return (y if self.training else y - 0.1 * y.mean(0)), state


class ChangesItsInputInEval(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        if not self.training:
            x.mul_(0.5)
        return y, state


class DrawsInEval(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return (y if self.training else y + torch.randn_like(y)), state


class SaysNoStateInEval(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return (y, state) if self.training else y


class LengthensATable(Honest):
    """As a table of angles, from 32 places on."""

    def __init__(self, width):
        super().__init__(width)
        self.register_buffer("table", torch.ones(32, width))

    def forward(self, x, state=None):
        if len(self.table) < x.shape[1]:
            self.table = self.table.new_ones(x.shape[1], x.shape[2])
        return super().forward(x * self.table[: x.shape[1]].to(x.dtype), state)


class KeepsLayersInAList(Honest):
    def __init__(self, width):
        super().__init__(width)
        self.parts = [nn.Linear(width, width)]

    def forward(self, x, state=None):
        return super().forward(self.parts[0](x), state)


class KeepsItsPenalty(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        self.auxiliary_loss = y.square().mean()
        return y, state


class HasAFloatAsPenalty(Honest):
    def auxiliary_loss(self, step):
        return 0.1


class HoldsExtraState(Honest):
    """Counts its calls in training, and a checkpoint holds the count."""

    calls = 0

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        self.calls += self.training
        return y * (1 + 0.01 * self.calls), state

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


class GivesExtraStateAlone(Honest):
    def get_extra_state(self):
        return {"calls": 1}


class MixesRowsOfALargeBatch(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return (y + y[:1] if len(x) > 16 else y), state


class ClampsItsInput(Honest):
    def forward(self, x, state=None):
        x.data.clamp_(-0.5, 0.5)
        return super().forward(x, state)

"""Mixers of a user's: an honest one, honest ones of other kinds, and violators of the contract.

Most violators differ from the honest one in what they say, read or keep: `says`, `reads`, `keeps`.
`test_check_mixer.py` has the property that each violates.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from rulekeep.mixers import Mixer


class Honest(nn.Module):
    """A sum of what was written; no `Mixer`, as an outsider's."""

    def __init__(self, width):
        super().__init__()
        self.write, self.gate = nn.Linear(width, width), nn.Parameter(torch.zeros(width))

    def init_state(self, batch_size):
        return (self.gate.new_zeros(batch_size, len(self.gate)),)

    def forward(self, x, state=None):
        (mean,) = self.init_state(len(x)) if state is None else state
        sums = mean[:, None] + self.write(x).cumsum(1)
        return sums, (sums[:, -1],)


def says(change: Callable[..., Any], base: type[nn.Module] = Honest) -> type[nn.Module]:
    """One whose output is `change(module, y, x, state)`."""

    class Changed(base):  # type: ignore[valid-type, misc]
        def forward(self, x, state=None):
            y, after = super().forward(x, state)
            return change(self, y, x, state), after

    return Changed


def reads(change: Callable[..., Any], base: type[nn.Module] = Honest) -> type[nn.Module]:
    """One that reads `change(module, x, state)`: another text and state."""

    class Changed(base):  # type: ignore[valid-type, misc]
        def forward(self, x, state=None):
            return super().forward(*change(self, x, state))

    return Changed


def keeps(change: Callable[..., Any], base: type[nn.Module] = Honest) -> type[nn.Module]:
    """One whose state afterwards is `change(after, x, state)`."""

    class Changed(base):  # type: ignore[valid-type, misc]
        def forward(self, x, state=None):
            y, after = super().forward(x, state)
            return y, change(after, x, state)

    return Changed


def ahead(x, first=0):
    """The next token at each place from `first` on."""
    shifted = torch.cat([x[:, 1:], 0 * x[:, -1:]], 1)
    shifted[:, :first] = 0
    return shifted


def within(x, chunk):
    """At each place the mean of its chunk."""
    return torch.cat([part.mean(1, keepdim=True).expand_as(part) for part in x.split(chunk, 1)], 1)


# What sees later tokens.
Peeks = says(lambda _, y, x, state: y + x.roll(-1, 1))
PeeksALittle = says(lambda _, y, x, state: y + 1e-4 * ahead(x))
PeeksInTraining = says(lambda own, y, x, state: y + x.roll(-1, 1) * own.training)
PeeksInEval = says(lambda own, y, x, state: y if own.training else y + x.mean(1, keepdim=True))
PeeksInChunks = says(lambda _, y, x, state: y + within(x, 32))
PeeksInLongChunks = says(lambda _, y, x, state: y if x.shape[1] % 512 else y + within(x, 512))
PeeksGoingOn = says(lambda _, y, x, state: y if state is None else y + x.roll(-1, 1))
PeeksInBfloat16 = says(lambda _, y, x, state: (y + x.roll(-1, 1)).bfloat16())
PeeksBehindAGate = says(lambda own, y, x, state: y + own.gate * x.roll(-1, 1))
PeeksFar = says(lambda _, y, x, state: y + x.mean(1, keepdim=True) if x.shape[1] > 600 else y)
PeeksFurther = says(lambda _, y, x, state: y + x.mean(1, keepdim=True) if x.shape[1] > 2048 else y)
PeeksBetweenTheUsualLengths = says(
    lambda _, y, x, state: y + y[:, -1:] if 258 <= x.shape[1] <= 500 else y
)
# From the fifth token of a call on; of large batches; at a length that is seldom tried.
SeesFromTheFifth = says(lambda _, y, x, state: y + 30 * ahead(x, 4))
SeesInLargeBatches = says(lambda _, y, x, state: y + 30 * ahead(x, 4) * (len(x) > 32))
SeesFromTheFifthOfNine = says(lambda _, y, x, state: y + 30 * ahead(x, 4) * (x.shape[1] == 9))
SeesOfNineInLargeBatches = says(
    lambda _, y, x, state: y + 30 * ahead(x, 4) * (x.shape[1] == 9 and len(x) > 8)
)
# Not in batches that the screen reads.
SeesInWholeBatches = says(lambda _, y, x, state: y + 30 * ahead(x) * (8 < len(x) < 256))


class PeeksWithAnInteger(Peeks):
    def __init__(self, width):
        super().__init__(width)
        self.order = nn.Parameter(torch.arange(width), requires_grad=False)


class PeeksInFloat32(Peeks):
    def forward(self, x, state=None):
        if x.dtype == torch.float64:
            raise RuntimeError("no float64")
        return super().forward(x, state)


class PeeksOnceTrained(Honest):
    """A gate that is shut as it starts, and that training opens."""

    def __init__(self, width):
        super().__init__(width)
        self.gate = nn.Parameter(torch.full((width,), -0.1))

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        hard = self.gate.clamp(0, 1)
        return y + (self.gate + (hard - self.gate).detach()) * ahead(x), state


class PeeksBeforeItSays(Honest):
    def __init__(self, width):
        super().__init__(width)
        self.read = nn.Linear(width, width)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return self.read(y + x.roll(-1, 1)), state


# What is not in the state, or stands beside it.
Forgets = reads(lambda _, x, state: (x, None))
ForgetsInEval = reads(lambda own, x, state: (x, state if own.training else None))
ForgetsAtASplit = reads(lambda _, x, state: (x, None if x.shape[1] > 1 else state))
ForgetsFar = reads(lambda _, x, state: (x, None if x.shape[1] > 300 else state))
ForgetsInChunks = reads(lambda _, x, state: (x, None if x.shape[1] % 512 == 0 else state))
ForgetsAToken = keeps(
    lambda after, x, state: state if state is not None and x.shape[1] == 1 else after
)
StartsElsewhere = reads(lambda own, x, state: (x, state or (own.init_state(len(x))[0] + 100,)))
KeepsHalf = keeps(
    lambda after, x, state: (after[0].half(),),
    reads(lambda _, x, state: (x, None if state is None else (state[0].to(x.dtype),))),
)


class RemembersInItself(Honest):
    def forward(self, x, state=None):
        if state is None:
            self.mean = super().init_state(len(x))
        y, self.mean = super().forward(x, self.mean)
        return y, state or self.init_state(len(x))


class RemembersInABuffer(Honest):
    # As a cache of attention: what it reads again it writes to the same place.
    def forward(self, x, state=None):
        at = 0 if state is None else int(state[0][0])
        if not hasattr(self, "cache") or len(self.cache) != len(x):
            self.register_buffer("cache", x.new_zeros(len(x), 4096, x.shape[2]), persistent=False)
        self.cache[:, at : at + x.shape[1]] = self.write(x)
        means = self.cache[:, : at + x.shape[1]].cumsum(1)[:, at:]
        return means, (torch.full((len(x),), at + x.shape[1]),)


class WritesToItsState(Honest):
    def forward(self, x, state=None):
        y, (after,) = super().forward(x, state)
        (mean,) = self.init_state(len(x)) if state is None else state
        return y, (mean.copy_(after),)


# Rows of a batch.
MixesRows = says(lambda _, y, x, state: y - 1e-3 * y.mean(0))
MixesRowsInEval = says(lambda own, y, x, state: y if own.training else y - 0.1 * y.mean(0))
MixesRowsOfALargeBatch = says(lambda _, y, x, state: y + 1e-3 * y[:1] if len(x) > 16 else y)
LeaksTheBatchIntoTheState = keeps(lambda after, x, state: (after[0] + 1e-3 * after[0].mean(0),))

# What is another thing at another time.
DrawsFromTorch = says(lambda _, y, x, state: y + torch.randn_like(y))
DrawsFromNumpy = says(lambda _, y, x, state: y * float(np.random.random() > -1))
DrawsInEval = says(lambda own, y, x, state: y if own.training else y + torch.randn_like(y))


class DrawsItsOwn(Honest):
    def __init__(self, width):
        super().__init__(width)
        self.stream = torch.Generator().manual_seed(1)

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y + torch.randn(y.shape, generator=self.stream), state


class DrawsWeightsUnseeded(Honest):
    def __init__(self, width):
        super().__init__(width)
        drawn = np.random.default_rng().normal(0, 0.1, (width, width))
        self.write.weight = nn.Parameter(torch.from_numpy(drawn).float())


class CountsItsCalls(Honest):
    calls = 0

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        self.calls += 1
        return y * (1 + 1e-3 * self.calls), state


class StepsAreOthersAfterACheckpoint(Honest):
    """Counts its steps, and no checkpoint holds the count."""

    calls = 0

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        self.calls += self.training
        return y * (1 + 0.01 * self.calls), state


class HoldsExtraState(StepsAreOthersAfterACheckpoint):
    """A checkpoint holds the count."""

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


class GivesExtraStateAlone(Honest):
    def get_extra_state(self):
        return {"calls": 1}


# Forms.
SaysNoState = type(
    "SaysNoState", (Honest,), {"forward": lambda own, x, state=None: Honest.forward(own, x)[0]}
)
TakesNoState = type("TakesNoState", (Honest,), {"forward": lambda own, x: Honest.forward(own, x)})
KeepsATensor = keeps(lambda after, x, state: after[0])
KeepsAList = keeps(lambda after, x, state: [*after])
OtherShape = says(lambda _, y, x, state: y[..., :1])
SaysInFloat64 = says(lambda _, y, x, state: y.double())
SaysInFloat32 = says(lambda _, y, x, state: y.float())
GivesNoNumber = says(lambda _, y, x, state: y + torch.nan)


class PutsTheBatchLast(Honest):
    def init_state(self, batch_size):
        return (super().init_state(batch_size)[0].T,)


class KeepsAStateInFloat32(Honest):
    def init_state(self, batch_size):
        return (torch.zeros(batch_size, len(self.gate), dtype=torch.float32),)


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


class MakesItsWeightsLate(Honest):
    def forward(self, x, state=None):
        if not hasattr(self, "gain"):
            self.gain = nn.Parameter(torch.ones(x.shape[-1]))
        y, state = super().forward(x, state)
        return self.gain * y, state


class LengthensATable(Honest):
    """As a table of angles, from 32 places on."""

    def __init__(self, width):
        super().__init__(width)
        self.register_buffer("table", torch.ones(32, width))

    def forward(self, x, state=None):
        if len(self.table) < x.shape[1]:
            self.table = self.table.new_ones(x.shape[1], x.shape[2])
        return super().forward(x * self.table[: x.shape[1]].to(x.dtype), state)


class StartsAnew(Honest):
    def forward(self, x, state=None):
        with torch.no_grad():
            self.write.bias.fill_(1.0)
        return super().forward(x, state)


# What changes its input.
def halved(x, where):
    """Half of the input, written to it."""
    return x.mul_(0.5) if where and not x.requires_grad else x


ChangesItsInput = reads(lambda _, x, state: (halved(x, True), state))
ChangesItsInputInTraining = reads(lambda _, x, state: (halved(x, torch.is_grad_enabled()), state))
ChangesItsInputInEval = reads(lambda own, x, state: (halved(x, not own.training), state))


# Gradients.
class Scaled(torch.autograd.Function):
    """The same value, and a gradient that is a thousandth too large."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 1.001 * grad


WrongGradient = reads(lambda _, x, state: (Scaled.apply(x), state))
WrongGradientInChunks = reads(lambda _, x, state: (Scaled.apply(x) if x.shape[1] > 1 else x, state))
WrongGradientOfTheState = reads(
    lambda _, x, state: (
        x, (Scaled.apply(state[0]),) if state is not None and x.shape[1] > 1 else state
    )
)  # fmt: skip
CutsTheFirstToken = reads(lambda _, x, state: (torch.cat([x[:, :1].detach(), x[:, 1:]], 1), state))
SeesOnlyItself = says(lambda own, y, x, state: own.write(x))


class CutsTheFirstTokenAndExcusesItself(CutsTheFirstToken):
    surrogate_gradient = True


class CutsWhatItStartsFrom(Honest):
    def __init__(self, width):
        super().__init__(width)
        self.start = nn.Parameter(torch.randn(width))

    def init_state(self, batch_size):
        return (self.start.detach().expand(batch_size, -1),)


# Precision and device.
RoundsInFloat32 = reads(
    lambda _, x, state: (x.bfloat16().float() if x.dtype is torch.float32 else x, state)
)
TakesTheDefaultDevice = reads(
    lambda _, x, state: (x * torch.ones(x.shape[1], 1, dtype=x.dtype), state)
)
Overflows = says(lambda _, y, x, state: y + x.exp() - x.exp())


class Complex(Honest):
    """A state that turns as it fades; its weights are complex too."""

    def __init__(self, width):
        super().__init__(width)
        self.turn = nn.Parameter(torch.polar(torch.full((width,), 0.9), torch.arange(width) / 3.0))

    def init_state(self, batch_size):
        return (self.turn.new_zeros(batch_size, len(self.turn)),)

    def forward(self, x, state=None):
        (mean,), means = state or self.init_state(len(x)), []
        for new in self.write(x).unbind(1):
            mean = self.turn * mean + new
            means.append(mean.real + mean.imag)
        return torch.stack(means, 1), (mean,)


CutsAComplexState = reads(
    lambda _, x, state: (x, None if state is None else (state[0].detach(),)), Complex
)
DropsImaginaryParts = reads(
    lambda _, x, state: (x, None if state is None else (state[0].real + 0j,)), Complex
)
KeepsHalfAComplexState = keeps(lambda after, x, state: (after[0].to(torch.complex64),), Complex)


# Forms that have another form of their own.
class WithALoop(Honest):
    def __init__(self, width, *, serial: bool = False):
        super().__init__(width)
        self.serial = serial

    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return y + (0 if self.serial else 1e-6), after


class WithATail(Honest, Mixer):
    def tail(self, x, last):
        return self.forward(x[:, 1:] if x.shape[1] > last else x)[0][:, -last:]


# Honest ones of other kinds.
class Convolves(Honest):
    """By an FFT in float32: what follows comes in by rounding."""

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


class Masks(Honest):
    """Trained weights that are 0 in places."""

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


class GrowsOnceItIsTrained(Honest):
    """A kernel that is held at 1 as it starts, and overflows far out for some weights."""

    def __init__(self, width):
        super().__init__(width)
        self.rate = nn.Parameter(torch.zeros(width))

    def forward(self, x, state=None):
        (sums,), all_sums = state or self.init_state(len(x)), []
        for new in x.unbind(1):
            sums = (10 * self.rate).exp() * sums + new
            all_sums.append(sums)
        return torch.stack(all_sums, 1), (sums,)


class ScaledByWhatItTrainedOn(Honest):
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


class Fails(Honest):
    def forward(self, x, state=None):
        raise RuntimeError("not today")


for _name, _kind in list(globals().items()):
    if getattr(_kind, "__name__", "") == "Changed":
        _kind.__name__ = _kind.__qualname__ = _name

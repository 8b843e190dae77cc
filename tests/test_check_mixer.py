"""`check_mixer`: an honest mixer holds, and every way to break one is named, with a figure."""

import math
import random
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from leaks import (
    ChangesItsInputInEval,
    DrawsInEval,
    ForgetsInEval,
    HasAFloatAsPenalty,
    HoldsExtraState,
    KeepsHalf,
    KeepsItsPenalty,
    KeepsLayersInAList,
    LengthensATable,
    MakesItsWeightsLate,
    MixesRowsInEval,
    PeeksBeforeItSays,
    PeeksBehindAGate,
    PeeksInEval,
    SaysNoState,
    SaysNoStateInEval,
    SeesFromTheFifthOfNine,
    TakesNoState,
    WritesToItsState,
)
from torch import Tensor, nn

from rulekeep.checks import mixers, properties
from rulekeep.checks.gaps import Gaps
from rulekeep.checks.measures import trace_half_life
from rulekeep.checks.mixers import check_mixer
from rulekeep.checks.rows import Row
from rulekeep.mixers import Mixer, Stateless
from rulekeep.mixers.base import Outside
from rulekeep.running.model import LanguageModel
from rulekeep.specs import UsageError

WIDTH, LENGTHS = 8, (1, 2, 17, 33)


def checked(cls: type[Any], **options: Any) -> dict[str, Row]:
    rows = check_mixer(cls, options, width=WIDTH, lengths=LENGTHS)
    return {row.property: row for row in rows}


def only(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """Leaves out all properties but the first and this one."""
    first = next(iter(properties.PROPERTIES))
    kept = {name: properties.PROPERTIES[name] for name in (first, named)}
    monkeypatch.setattr(mixers, "PROPERTIES", kept)


class State(NamedTuple):
    mean: Tensor


class Honest(nn.Module):
    """A running mean that keeps as much as it has learned to; no `Mixer`, as an outsider's."""

    def __init__(self, width: int, *, keep: float = 0.9) -> None:
        super().__init__()
        if not 0 < keep < 1:
            raise ValueError(f"keep {keep}: must be between 0 and 1")
        self.keep = nn.Parameter(torch.full((width,), keep).logit())
        self.write, self.read = nn.Linear(width, width), nn.Linear(width, width)

    def init_state(self, batch_size: int) -> State:
        return State(self.keep.new_zeros(batch_size, len(self.keep)))

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        (mean,), keep, means = state or self.init_state(len(x)), self.keep.sigmoid(), []
        for new in self.write(x).tanh().unbind(1):
            mean = keep * mean + (1 - keep) * new
            means.append(mean)
        return self.read(torch.stack(means, 1)), State(mean)


class StartsElsewhere(Honest):
    def forward(self, x, state=None):
        return super().forward(x, state or State(self.init_state(len(x)).mean + 100))


class Peeks(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return y + 1e-4 * torch.cat([x[:, 1:], x[:, -1:]], 1), after


class ForgetsAtASplit(Honest):
    def forward(self, x, state=None):
        return super().forward(x, None if x.shape[1] > 1 else state)


class PeeksFar(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return (y + x.mean(1, keepdim=True) if x.shape[1] > 600 else y), after


class PeeksFurther(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return (y + x.mean(1, keepdim=True) if x.shape[1] > 2048 else y), after


class PeeksInItsChunk(Honest):
    """Where chunks of 512 divide the text."""

    chunk = 512

    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        if x.shape[1] % self.chunk == 0:
            chunks = x.unflatten(1, (-1, self.chunk))
            y = y + chunks.mean(2, keepdim=True).expand_as(chunks).flatten(1, 2)
        return y, after


class PeeksInOtherChunks(PeeksInItsChunk):
    chunk = 2048


class ForgetsInChunks(Honest):
    def forward(self, x, state=None):
        return super().forward(x, None if x.shape[1] % 512 == 0 else state)


class Complex(Honest):
    """A state that turns as it fades; its weights are complex too."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.turn = nn.Parameter(torch.polar(torch.full((width,), 0.9), torch.arange(width) / 3.0))

    def init_state(self, batch_size: int) -> State:
        return State(self.turn.new_zeros(batch_size, len(self.turn)))

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        (mean,), means = state or self.init_state(len(x)), []
        for new in self.write(x).unbind(1):
            mean = self.turn * mean + new
            means.append(mean.real + mean.imag)
        return self.read(torch.stack(means, 1)), State(mean)


class CutsAComplexState(Complex):
    def forward(self, x, state=None):
        return super().forward(x, None if state is None else State(state.mean.detach()))


class DropsImaginaryParts(Complex):
    def forward(self, x, state=None):
        return super().forward(x, None if state is None else State(state.mean.real + 0j))


class KeepsHalfAComplexState(Complex):
    def forward(self, x, state=None):
        y, (mean,) = super().forward(x, state)
        return y, State(mean.to(torch.complex64))


class CutsWhatItStartsFrom(Honest):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.start = nn.Parameter(torch.randn(width))

    def init_state(self, batch_size: int) -> State:
        return State(self.start.detach().expand(batch_size, -1))


class DrawsWeightsUnseeded(Honest):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        drawn = np.random.default_rng().normal(0, 0.1, (width, width))
        self.write.weight = nn.Parameter(torch.from_numpy(drawn).float())


class RoundsInside(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x.float().to(x), state)
        return y, after


class MixesManyRows(Honest):
    def forward(self, x, state=None):
        return super().forward(x + 1e-4 * x.mean(0) if len(x) > 3 else x, state)


class MixesRowsOfALargeBatch(Honest):
    def forward(self, x, state=None):
        return super().forward(x + 1e-4 * x.mean(0) if len(x) > 8 else x, state)


class PeeksBetweenTheUsualLengths(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return (y + y[:, -1:] if 258 <= x.shape[1] <= 500 else y), after


class ChangesItsInputInTraining(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        if torch.is_grad_enabled() and not x.requires_grad:
            x *= 0.5
        return y, after


class KeepsTheTextBehindAView(Honest):
    """Its state is a number a channel, which stands in front of all that was read."""

    def forward(self, x, state=None):
        y, (mean,) = super().forward(x, state)
        read = 0 if state is None else state.mean.untyped_storage().nbytes() // mean.nbytes
        store = mean.new_zeros(read + x.shape[1], *mean.shape)
        return y, State(store[0].copy_(mean))


class ForgetsFar(Honest):
    def forward(self, x, state=None):
        return super().forward(x, None if x.shape[1] > 300 else state)


class ForgetsAToken(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return y, state if state is not None and x.shape[1] == 1 else after


class Scaled(torch.autograd.Function):
    """The same value, and a gradient that is a thousandth too large."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 1.001 * grad


class WrongGradientInChunks(Honest):
    def forward(self, x, state=None):
        return super().forward(Scaled.apply(x) if x.shape[1] > 1 else x, state)


class WrongGradientOfTheState(Honest):
    def forward(self, x, state=None):
        if state is not None and x.shape[1] > 1:
            state = State(Scaled.apply(state.mean))
        return super().forward(x, state)


class WrongGradient(Honest):
    def forward(self, x, state=None):
        return super().forward(Scaled.apply(x), state)


class MixesRows(Honest):
    def forward(self, x, state=None):
        return super().forward(x + 1e-4 * x.mean(0), state)


class LeaksTheBatchIntoTheState(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return y, State(after.mean + 1e-4 * after.mean.mean(0))


class DrawsFromTorch(Honest):
    def forward(self, x, state=None):
        return super().forward(x * (torch.rand(()) > -1), state)


class DrawsFromNumpy(Honest):
    def forward(self, x, state=None):
        return super().forward(x * float(np.random.random() > -1), state)


class DrawsFromPython(Honest):
    def forward(self, x, state=None):
        return super().forward(x * float(random.random() > -1), state)


class Counts(Honest):
    calls = 0

    def forward(self, x, state=None):
        type(self).calls += 1
        y, after = super().forward(x, state)
        return y * (1 + 1e-6 * (self.calls % 7)), after


class ChangesItsInput(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        if not x.requires_grad:
            x *= 0.5
        return y, after


class CutsTheFirstToken(Honest):
    def forward(self, x, state=None):
        return super().forward(torch.cat([x[:, :1].detach(), x[:, 1:]], 1), state)


class CutsTheFirstTokenAndExcusesItself(CutsTheFirstToken):
    surrogate_gradient = True


class SeesOnlyItself(Honest):
    def forward(self, x, state=None):
        return self.read(x), state or self.init_state(len(x))


class IgnoresPrecision(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return y.float(), after


class KeepsAStateInFloat32(Honest):
    def init_state(self, batch_size):
        return State(torch.zeros(batch_size, WIDTH, dtype=torch.float32))


class TakesTheDefaultDevice(Honest):
    def forward(self, x, state=None):
        return super().forward(x * torch.ones(x.shape[1], 1, dtype=x.dtype), state)


class StartsAnew(Honest):
    def forward(self, x, state=None):
        with torch.no_grad():
            self.keep.fill_(0.0)
        return super().forward(x, state)


class Overflows(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return y + x.exp() - x.exp(), after


class RoundsInFloat32(Honest):
    def forward(self, x, state=None):
        if x.dtype is not torch.float32:
            return super().forward(x, state)
        y, after = super().forward(x.bfloat16().float(), state)
        return y.bfloat16().float(), after


class KeepsAList(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state if state is None else State(*state))
        return y, list(after)


class PutsTheBatchLast(Honest):
    def init_state(self, batch_size):
        return State(super().init_state(batch_size).mean.T)


class WithALoop(Honest):
    def __init__(self, width: int, *, serial: bool = False) -> None:
        super().__init__(width)
        self.serial = serial

    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return y + (0 if self.serial else 1e-6), after


class WithATail(Honest, Mixer):
    def tail(self, x, last):
        return self.forward(x[:, 1:] if x.shape[1] > last else x)[0][:, -last:]


class Fails(Honest):
    def forward(self, x, state=None):
        if x.shape[1] == 33 and state is not None and state.mean.any():
            raise RuntimeError("no more than 32 tokens")
        return super().forward(x, state)


class StartsSilent(Honest):
    """A projection that is 0 as it starts, as many are."""

    def __init__(self, width):
        super().__init__(width)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)


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
        return torch.stack(all_sums, 1), State(sums)


class InBytes(Honest):
    """The mean in steps of a hundredth, as bytes or as numbers that say the same."""

    kept = torch.uint8

    def init_state(self, batch_size):
        return State(torch.full((batch_size, len(self.keep)), 128, dtype=self.kept))

    def forward(self, x, state=None):
        (mean,) = state or self.init_state(len(x))
        y, (mean,) = super().forward(x, State((mean.to(x) - 128) / 100))
        return y, State((100 * mean + 128).round().to(self.kept))


class InNumbers(InBytes):
    kept = torch.float32


BROKEN: list[tuple[type[Any], str, str]] = [
    (
        StartsElsewhere,
        "no state is the initial state",
        r"state mean differs by 9\.0e\+01 \(1 tokens",
    ),
    (Peeks, "causal", r"at token \d+ .* batch [13], tokens from \d+ on replaced"),
    (PeeksBehindAGate, "causal", r"on replaced"),
    (PeeksBeforeItSays, "causal", r"on replaced"),
    (MakesItsWeightsLate, "initialisation not overwritten", r"makes module\.gain: make it in the"),
    (PeeksFar, "causal", r"1024 tokens, .* from 341 on"),
    (PeeksFurther, "causal", r"4096 tokens, .* from 1 on"),
    (PeeksInItsChunk, "causal", r"4096 tokens, .* from 1 on"),
    (PeeksInOtherChunks, "causal", r"4096 tokens, .* from 1 on"),
    (
        ForgetsInChunks,
        "any split gives what the whole gives",
        r"1100 tokens, pieces \[76, 1024\]",
    ),
    (MixesManyRows, "rows of a batch are independent", r"of 8 sequences"),
    (MixesRowsOfALargeBatch, "rows of a batch are independent", r"of 257 sequences"),
    (PeeksBetweenTheUsualLengths, "causal", r"300 tokens"),
    (ChangesItsInputInTraining, "input and state not changed", r"x differs by .*in training"),
    (KeepsTheTextBehindAView, "state bytes, constant or growing", r"constant: 32 .* but they are"),
    (
        ForgetsFar,
        "any split gives what the whole gives",
        r"1100 tokens, pieces \[76, 1024\]",
    ),
    (SaysNoState, "output and state have their form", r"returned a Tensor: must return y, state"),
    (TakesNoState, "output and state have their form", r"takes \(x\): must take \(x, state=None\)"),
    (ForgetsAtASplit, "any split gives what the whole gives", r"\(.*the last alone|pieces"),
    (ForgetsAToken, "token by token gives what the whole gives", r"\(.*token by token"),
    (WrongGradientInChunks, "token by token gives what the whole gives", r"gradient of x at"),
    (WrongGradientOfTheState, "token by token gives what the whole gives", r"gradient of state m"),
    (WrongGradient, "gradients are slopes", r"slope along x .* 1\.0e-03 of the largest"),
    (CutsWhatItStartsFrom, "gradients are slopes", r"slope along module.start .*tokens after 0"),
    (CutsAComplexState, "gradients are slopes", r"slope along state mean"),
    (DropsImaginaryParts, "token by token gives what the whole gives", r"state mean differs"),
    (WrongGradient, "gradient reaches token 0", r"slope along token 0 .* 1\.0e-03 of the"),
    (MixesRows, "rows of a batch are independent", r"the first of 3 sequences another"),
    (LeaksTheBatchIntoTheState, "rows of a batch are independent", r"state mean"),
    (DrawsFromTorch, "no global random draw", r"torch moved"),
    (DrawsFromNumpy, "no global random draw", r"numpy moved"),
    (DrawsFromPython, "no global random draw", r"random moved"),
    (Counts, "deterministic", r"differs by \d\.\de-0[5-7] \(.*, called again\)"),
    (DrawsWeightsUnseeded, "deterministic", r"made again with the same seed"),
    (ChangesItsInput, "input and state not changed", r"x differs by"),
    (WritesToItsState, "input and state not changed", r"state 0 differs"),
    (CutsTheFirstToken, "gradient reaches token 0", r"1\.0e\+00 of the largest"),
    (CutsTheFirstTokenAndExcusesItself, "gradient reaches token 0", r"never reaches it"),
    (SeesOnlyItself, "gradient reaches token 0", r"never reaches it"),
    (IgnoresPrecision, "dtype and device followed", r"output is torch.float32 .* torch.float64"),
    (KeepsAStateInFloat32, "dtype and device followed", r"state mean is torch.float32"),
    (RoundsInside, "dtype and device followed", r"float64 is rounded inside: .* 1e-08 may fail"),
    (KeepsHalfAComplexState, "dtype and device followed", r"is torch.complex64 .* torch.float64"),
    (KeepsHalf, "dtype and device followed", r"state 0 is torch.float16 .* torch.float64"),
    (
        TakesTheDefaultDevice,
        "dtype and device followed",
        r"device=x.device: .*test_check_mixer",
    ),
    (SeesFromTheFifthOfNine, "causal", r"9 tokens, batch 3, tokens from \d on replaced"),
    (StartsAnew, "initialisation not overwritten", r"keep differs by 2\.2e\+00 \(after its use"),
    (Overflows, "finite in float32, near float64", r"not finite \(output, values of 1e3"),
    (RoundsInFloat32, "finite in float32, near float64", r"output at .* [23]\.\de-03 of"),
    (SaysNoStateInEval, "output and state have their form", r"^in eval mode: forward returned"),
    (ChangesItsInputInEval, "input and state not changed", r"^in eval mode: x differs by"),
    (DrawsInEval, "no global random draw", r"^in eval mode: .*torch moved"),
    (DrawsInEval, "deterministic", r"^in eval mode: output at .* called again\)"),
    (PeeksInEval, "causal", r"^in eval mode: it sees later tokens: output at token 0"),
    (ForgetsInEval, "any split gives what the whole gives", r"^in eval mode: .* differs"),
    (ForgetsInEval, "token by token gives what the whole gives", r"^in eval mode: .* differs"),
    (MixesRowsInEval, "rows of a batch are independent", r"^in eval mode: output at token"),
    (LengthensATable, "initialisation not overwritten", r"a call turns module.table from"),
    (KeepsLayersInAList, "output and state have their form", r"a weight of shape \[8, 8\] is in"),
    (KeepsItsPenalty, "output and state have their form", r"auxiliary_loss of .* is a Tensor"),
    (HasAFloatAsPenalty, "output and state have their form", r"auxiliary_loss of .* is a float"),
    (KeepsAList, "output and state have their form", r"the state is a list: must be a tuple"),
    (PutsTheBatchLast, "output and state have their form", r"\[8, 2\].*|\[8, 1\].* the batch"),
    (nn.Identity, "output and state have their form", r"no init_state: .*rulekeep\.Stateless"),
    (WithALoop, "the form that runs is its own loop", r"output at .* differs by 1\.0e-06"),
    (WithATail, "the tail is the end of the whole", r"the last 1 of 2 tokens|the last 1 of 17"),
    (
        Fails,
        "causal",
        r"RuntimeError: no more than 32 tokens \(test_check_mixer.py, line \d+\), "
        r"last called on 33 tokens, batch 1",
    ),
]


@pytest.mark.slow
def test_an_honest_mixer_holds() -> None:
    rows = checked(Honest, keep=0.5)
    assert not [row for row in rows.values() if row.passed is False]
    skipped = {row.property for row in rows.values() if row.passed is None}
    assert skipped == {"the form that runs is its own loop", "the tail is the end of the whole"}
    state, memory = list(rows.values())[-2:]
    assert state.compared == "constant: 32 bytes at 64 to 16,384 tokens"
    # It keeps a half of itself, a little more or less.
    assert re.fullmatch(r"half of .* is left after [12] random tokens", memory.compared)


def test_a_gradient_is_a_slope_however_sharply_a_function_bends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Bends(Honest):
        def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
            y, state = super().forward(x, state)
            return (1e4 * y).sin() / 1e4, state

    only(monkeypatch, "gradients are slopes")
    assert checked(Bends)["gradients are slopes"].passed


def test_extra_state_that_is_no_tensor_is_no_initialisation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, "initialisation not overwritten")
    assert checked(HoldsExtraState)["initialisation not overwritten"].passed


@pytest.mark.slow
def test_one_that_says_nothing_as_it_starts_is_held_to_what_it_will_say() -> None:
    rows = checked(StartsSilent)
    assert not [row for row in rows.values() if row.passed is False]
    assert rows["gradient reaches token 0"].compared.startswith("reaches it from 33 tokens on")


def test_one_whose_drawn_weights_overflow_is_compared_as_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, "causal")
    row = checked(GrowsOnceItIsTrained)["causal"]
    assert (row.passed, row.compared.partition(" in ")[0]) == (True, "no difference")
    drawn = properties.randomize_zero_parameters(Outside(GrowsOnceItIsTrained(WIDTH)))
    with torch.no_grad():
        assert not drawn(torch.randn(1, 4096, WIDTH))[0].isfinite().all()


def test_a_trace_in_bytes_lasts_as_long_as_in_numbers() -> None:
    lasts = []
    for kind in (InBytes, InNumbers):
        torch.manual_seed(0)
        lasts.append(trace_half_life(Outside(kind(8, keep=0.9)), 8))
    assert lasts[0] == lasts[1] == pytest.approx(math.log(0.5) / math.log(0.9), abs=2)


def test_bytes_are_as_far_apart_as_the_numbers_that_they_hold() -> None:
    for kind, least, most in ((torch.int8, -128, 0), (torch.uint8, 0, 255), (torch.bool, 0, 1)):
        gaps = Gaps(0.5)
        one, other = (torch.tensor([[value]], dtype=kind) for value in (least, most))
        gaps.add({"state": one}, {"state": other}, "here")
        gaps.add({"state": other}, {"state": one}, "there")
        assert gaps.verdict[0] is False
        assert f"differs by {most - least:.1e}" in gaps.verdict[1]


def test_an_output_that_differs_is_said_before_its_gradient() -> None:
    gaps, one, other = Gaps(0.1), torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    gaps.add({"output": one, "gradient of x": one}, {"output": one / 2, "gradient of x": other}, "")
    assert gaps.verdict[1].startswith("output at token 0 differs by 5.0e-01")


@pytest.mark.slow
def test_a_mixer_of_complex_numbers_is_checked_as_the_one_it_is() -> None:
    rows = checked(Complex)
    assert not [row for row in rows.values() if row.passed is False]
    # Two numbers a channel.
    assert rows["state bytes, constant or growing"].compared.startswith("constant: 64 bytes at")


class Flagged(Honest):
    """Beside the mean, whether anything has come."""

    def init_state(self, batch_size):
        (mean,) = super().init_state(batch_size)
        return mean, mean.new_zeros(batch_size, 1, dtype=torch.bool)

    def forward(self, x, state=None):
        mean, come = self.init_state(len(x)) if state is None else state
        y, (mean,) = super().forward(x, State(mean))
        return y, (mean, come | (x.shape[1] > 0))


@pytest.mark.slow
def test_a_mixer_with_flags_in_its_state_holds() -> None:
    rows = checked(Flagged)
    assert not [row for row in rows.values() if row.passed is False]


@pytest.mark.parametrize(
    ("mixer", "named", "said"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_broken_mixer_fails_in_the_row_of_what_is_broken(
    mixer: type[Any], named: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, named)
    if "1024" not in said and "4096" not in said:
        # What shorter texts show needs none of the long ones.
        for name, tokens in {"ROUND": 128, "LONG": 140, "FURTHEST": 256}.items():
            monkeypatch.setattr(properties, name, tokens)
    row = checked(mixer)[named]
    assert row.passed is False
    assert re.search(said, row.compared), row.compared


class Drops(Honest):
    def forward(self, x, state=None):
        y, after = super().forward(x, state)
        return torch.dropout(y, 0.1, True), after


@pytest.mark.parametrize(
    ("mixer", "cause"),
    [(Drops, "deterministic"), (WritesToItsState, "input and state not changed")],
)
def test_what_a_cause_breaks_is_not_looked_at(mixer: type[Any], cause: str) -> None:
    rows = list(checked(mixer).values())
    place = [row.property for row in rows].index(cause)
    assert rows[place].passed is False
    assert {row.passed for row in rows[place + 1 :]} == {None}


def test_a_row_is_said_as_soon_as_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    held = list[str]()

    def holds(name: str) -> Callable[[Any], properties.Verdict]:
        return lambda _: held.append(name) or (True, "held")

    monkeypatch.setattr(mixers, "PROPERTIES", {name: holds(name) for name in ("one", "two")})
    found = check_mixer(Honest)
    assert not held
    assert next(found) == Row("one", True, "held")
    assert held == ["one"]


def test_a_model_that_draws_a_mixers_weights_anew_is_found(monkeypatch) -> None:
    class Redraws(LanguageModel):
        def __init__(self, *arguments: Any, **sizes: Any) -> None:
            super().__init__(*arguments, **sizes)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02)

    monkeypatch.setattr(properties, "LanguageModel", Redraws)
    only(monkeypatch, "initialisation not overwritten")
    row = checked(Honest)["initialisation not overwritten"]
    assert row.passed is False
    assert "weight differs by" in row.compared


def test_a_state_that_grows_is_a_fact_and_no_failure() -> None:
    class Keeps(Honest):
        def init_state(self, batch_size):
            return State(self.keep.new_zeros(batch_size, 0, WIDTH))

        def forward(self, x, state=None):
            seen = torch.cat([(state or self.init_state(len(x))).mean, x], 1)
            count = torch.arange(1, seen.shape[1] + 1, device=x.device, dtype=x.dtype)
            means = seen.cumsum(1) / count[:, None]
            return self.read(means[:, seen.shape[1] - x.shape[1] :]), State(seen)

    row = checked(Keeps)["state bytes, constant or growing"]
    assert row.passed is True
    assert row.compared == (
        "growing, 32 bytes a token: 2,048 at 64, 8,192 at 256, 32,896 at 1,028, "
        "131,072 at 4,096, 524,288 at 16,384 tokens"
    )


def test_of_a_layer_without_a_state_what_is_about_states_is_skipped_and_said_so() -> None:
    class Layer(Stateless):
        def __init__(self, width: int, *, fault: Callable[[Tensor], Tensor] | None = None) -> None:
            super().__init__(nn.Sequential(nn.Linear(width, width), Cumulated()))

    class Cumulated(nn.Module):
        def forward(self, x):
            return x.cumsum(1)

    rows = checked(Layer)
    assert not [row for row in rows.values() if row.passed is False]
    for name in (
        "any split gives what the whole gives", "token by token gives what the whole gives",
        "state bytes, constant or growing", "memory half-life at the start",
    ):  # fmt: skip
        assert rows[name].passed is None
        assert "has no state" in rows[name].compared
    assert rows["causal"].passed
    assert rows["gradient reaches token 0"].passed


def test_what_cannot_be_made_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'kept': there is no such option; did you mean 'keep'"):
        checked(Honest, kept=0.5)
    with pytest.raises(UsageError, match=r"mixer 'Honest': keep 2.0: must be between 0 and 1"):
        checked(Honest, keep=2.0)

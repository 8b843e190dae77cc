"""`check_mixer`: an honest mixer holds, and every way to break one is named, with a figure."""

import re
from collections.abc import Callable
from typing import Any

import leaks
import pytest
import torch
from leaks import Honest
from torch import Tensor, nn

from rulekeep.checks import mixers, properties
from rulekeep.checks.mixers import check_mixer
from rulekeep.checks.rows import Row
from rulekeep.checks.subject import Differences
from rulekeep.mixers import Stateless

WIDTH, LENGTHS = 8, (1, 2, 17, 33)


def checked(cls: type[Any], **options: Any) -> dict[str, Row]:
    rows = check_mixer(cls, options, width=WIDTH, lengths=LENGTHS)
    return {row.property: row for row in rows}


def only(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """Leaves out all properties but the first and this one."""
    first = next(iter(properties.PROPERTIES))
    kept = {name: properties.PROPERTIES[name] for name in (first, named)}
    monkeypatch.setattr(mixers, "PROPERTIES", kept)


FORM = "output and state have their form"
UNTOUCHED = "input and state not changed"
SPLITS = "any split gives what the whole gives"
TOKENS = "token by token gives what the whole gives"
ROWS = "rows of a batch are independent"
FOLLOWS = "dtype and device followed"
REACH = "gradient reaches token 0"
KEPT = "initialisation not overwritten"
DRAWS = "no global random draw"
RESUMES = "a step again from a checkpoint is the same"
# Of each violator the property that it violates, and what the row says.
VIOLATED: dict[str, tuple[str, str]] = {
    "Peeks": ("causal", r"^it sees later tokens: output at token \d+ .* from \d+ on replaced"),
    "PeeksALittle": ("causal", r"at token \d+ .* batch [13], tokens from \d+ on replaced"),
    "PeeksInTraining": ("causal", r"^it sees later tokens"),
    "PeeksInEval": ("causal", r"^in eval mode: it sees later tokens: output at token 0"),
    "PeeksInChunks": ("causal", r"^it sees later tokens"),
    "PeeksInLongChunks": ("causal", r"(1024|4096) tokens, .* from \d+ on"),
    "PeeksGoingOn": ("causal", r"^it sees later tokens"),
    "PeeksWithAnInteger": ("causal", r"^it sees later tokens"),
    "PeeksBehindAGate": ("causal", r"on replaced"),
    "PeeksBeforeItSays": ("causal", r"on replaced"),
    "PeeksFar": ("causal", r"(1024|1100) tokens"),
    "PeeksFurther": ("causal", r"4096 tokens, .* from 1 on"),
    "PeeksBetweenTheUsualLengths": ("causal", r"300 tokens"),
    "SeesFromTheFifth": ("causal", r"^it sees later tokens"),
    "SeesFromTheFifthOfNine": ("causal", r"9 tokens, batch 3, tokens from \d on replaced"),
    "PeeksInBfloat16": (FORM, r"torch.bfloat16 for .* torch.float32"),
    "SaysNoState": (FORM, r"returned a Tensor: must return y, state"),
    "TakesNoState": (FORM, r"takes 2 positional arguments but 3 were given"),
    "KeepsATensor": (FORM, r"the state is a Tensor: must be a tuple of tensors"),
    "KeepsAList": (FORM, r"the state is a list: must be a tuple"),
    "OtherShape": (FORM, r"the output is \[1, 17, 1\], .* for \[1, 17, 8\]"),
    "SaysInFloat64": (FORM, r"torch.float64 for .* torch.float32"),
    "SaysInFloat32": (FORM, r"torch.float32 for .* torch.float64"),
    "GivesNoNumber": (FORM, r"136 of 136 outputs are not finite as it starts"),
    "PutsTheBatchLast": (FORM, r"\[8, 8\].* the batch comes first"),
    "KeepsLayersInAList": (FORM, r"a weight of shape \[8, 8\] is in no parameter of the module"),
    "Fails": (FORM, r"^RuntimeError: not today \(leaks.py, line \d+\)$"),
    "KeepsItsPenalty": (FORM, r"TypeError: 'Tensor' object is not callable"),
    "ChangesItsInput": (UNTOUCHED, r"x differs by"),
    "ChangesItsInputInTraining": (UNTOUCHED, r"x differs by .*in training"),
    "ChangesItsInputInEval": (UNTOUCHED, r"^in eval mode: x differs by"),
    "WritesToItsState": (UNTOUCHED, r"state 0 differs"),
    "DrawsFromTorch": (DRAWS, r"torch moved"),
    "DrawsFromNumpy": (DRAWS, r"numpy moved"),
    "DrawsInEval": (DRAWS, r"^in eval mode: .*torch moved"),
    "DrawsItsOwn": ("deterministic", r"differs by .*, called again\)"),
    "DrawsWeightsUnseeded": ("deterministic", r"made again with the same seed"),
    "CountsItsCalls": ("deterministic", r"differs by .*, called again\)"),
    "RemembersInItself": ("deterministic", r"backward through the graph a second time"),
    "RemembersInABuffer": ("deterministic", r"output .*\(33 tokens"),
    "StepsAreOthersAfterACheckpoint": (RESUMES, r"^a resumed run would be another: output"),
    "GivesExtraStateAlone": (RESUMES, r"no checkpoint could: .*; get_extra_state needs set_extra"),
    "StartsElsewhere": ("no state is the initial state", r"output .* differs by 1\.0e\+02"),
    "Forgets": (SPLITS, r"differs"),
    "ForgetsInEval": (SPLITS, r"^in eval mode: .* differs"),
    "ForgetsAtASplit": (SPLITS, r"\(.*the last alone|pieces"),
    "ForgetsFar": (SPLITS, r"1100 tokens, pieces"),
    "ForgetsInChunks": (SPLITS, r"1100 tokens, pieces \[(588, 512|76, 1024)\]"),
    "ForgetsAToken": (TOKENS, r"\(.*token by token"),
    "KeepsHalf": (SPLITS, r"differs"),
    "DropsImaginaryParts": (TOKENS, r"output at .* differs"),
    "WrongGradientInChunks": (TOKENS, r"gradient of x at"),
    "WrongGradientOfTheState": (TOKENS, r"gradient of state 0"),
    "MixesRows": (ROWS, r"the first of 3 sequences another"),
    "MixesRowsInEval": (ROWS, r"^in eval mode: output at token"),
    "MixesRowsOfALargeBatch": (ROWS, r"of 257 sequences"),
    "LeaksTheBatchIntoTheState": (ROWS, r"state 0"),
    "WithALoop": ("the form that runs is its own loop", r"output at .* differs by 1\.0e-06"),
    "WithATail": ("the tail is the end of the whole", r"the last 1 of 2 tokens|the last 1 of 17"),
    "WrongGradient": ("gradients are slopes", r"Jacobian mismatch"),
    "CutsWhatItStartsFrom": ("gradients are slopes", r"tokens after 0, .* Jacobian"),
    "CutsAComplexState": ("gradients are slopes", r"tokens after 9, .* Jacobian"),
    "CutsTheFirstToken": (REACH, r"never reaches it"),
    "CutsTheFirstTokenAndExcusesItself": (REACH, r"never reaches it"),
    "SeesOnlyItself": (REACH, r"never reaches it"),
    "MakesItsWeightsLate": (KEPT, r"makes module\.gain: make it in the constructor"),
    "LengthensATable": (KEPT, r"a call turns module.table from \[32, 8\] to"),
    "StartsAnew": (KEPT, r"bias differs by .* \(after its use"),
    "Overflows": ("finite in float32, near float64", r"not finite \(output, values of 1e3"),
    "RoundsInFloat32": ("finite in float32, near float64", r"output at .* \d\.\de-03 of"),
    "KeepsAStateInFloat32": (FOLLOWS, r"state 0 is torch.float32"),
    "KeepsHalfAComplexState": (FOLLOWS, r"is torch.complex64 .* torch.float64"),
    "TakesTheDefaultDevice": (FOLLOWS, r"device=x.device: .*leaks.py"),
}  # fmt: skip


class Remembers(nn.Module):
    """A running mean that keeps as much as it has learned to."""

    def __init__(self, width: int, *, keep: float = 0.9) -> None:
        super().__init__()
        if not 0 < keep < 1:
            raise ValueError(f"keep {keep}: must be between 0 and 1")
        self.keep = nn.Parameter(torch.full((width,), keep).logit())
        self.write, self.read = nn.Linear(width, width), nn.Linear(width, width)

    def init_state(self, batch_size: int) -> tuple[Tensor]:
        return (self.keep.new_zeros(batch_size, len(self.keep)),)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, tuple[Tensor]]:
        (mean,), keep, means = state or self.init_state(len(x)), self.keep.sigmoid(), []
        for new in self.write(x).tanh().unbind(1):
            mean = keep * mean + (1 - keep) * new
            means.append(mean)
        return self.read(torch.stack(means, 1)), (mean,)


class StartsSilent(Honest):
    """A projection that is 0 as it starts, as many are."""

    def __init__(self, width):
        super().__init__(width)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)


@pytest.mark.parametrize("name", VIOLATED)
def test_a_violator_fails_in_the_row_of_what_it_violates(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, said = VIOLATED[name]
    only(monkeypatch, named)
    row = checked(getattr(leaks, name))[named]
    assert row.passed is False
    assert re.search(said, row.compared), row.compared


@pytest.mark.slow
def test_an_honest_mixer_holds() -> None:
    rows = checked(Remembers, keep=0.5)
    assert not [row for row in rows.values() if row.passed is False]
    skipped = {row.property for row in rows.values() if row.passed is None}
    assert skipped == {"the form that runs is its own loop", "the tail is the end of the whole"}
    state, memory = list(rows.values())[-2:]
    assert state.compared == "constant: 32 bytes at 64 to 16,384 tokens"
    # It keeps a half of itself, a little more or less.
    assert re.fullmatch(r"half of .* is left after [12] random tokens", memory.compared)


class Flagged(Honest):
    """Beside the sum, whether anything has come."""

    def init_state(self, batch_size):
        (mean,) = super().init_state(batch_size)
        return mean, mean.new_zeros(batch_size, 1, dtype=torch.bool)

    def forward(self, x, state=None):
        mean, come = self.init_state(len(x)) if state is None else state
        y, (mean,) = super().forward(x, (mean,))
        return y, (mean, come | (x.shape[1] > 0))


class Keeps(Honest):
    """All that it has read."""

    def init_state(self, batch_size):
        return (self.gate.new_zeros(batch_size, 0, WIDTH),)

    def forward(self, x, state=None):
        seen = torch.cat([(state or self.init_state(len(x)))[0], x], 1)
        count = torch.arange(1, seen.shape[1] + 1, device=x.device, dtype=x.dtype)
        means = seen.cumsum(1) / count[:, None]
        return self.write(means[:, seen.shape[1] - x.shape[1] :]), (seen,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mixer", "named", "said"),
    [
        (StartsSilent, REACH, "reaches it from 33 tokens on"),
        # Two numbers a channel.
        (leaks.Complex, "state bytes, constant or growing", "constant: 64 bytes at"),
        (Flagged, "state bytes, constant or growing", "constant: 33 bytes at"),
        (Keeps, "state bytes, constant or growing", "growing, 32 bytes a token: 2,048 at 64, 8,1"),
    ],
)
def test_an_honest_mixer_of_another_kind_holds(mixer: type[Any], named: str, said: str) -> None:
    rows = checked(mixer)
    assert not [row for row in rows.values() if row.passed is False]
    assert rows[named].compared.startswith(said)


# It bends sharply; it keeps what is no tensor; once its weights are drawn it overflows, and is
# compared as it starts.
ODD = {
    "gradients are slopes": leaks.says(lambda _, y, x, state: (1e4 * y).sin() / 1e4, Remembers),
    KEPT: leaks.HoldsExtraState,
    "causal": leaks.GrowsOnceItIsTrained,
}


@pytest.mark.parametrize("named", ODD)
def test_an_odd_and_honest_mixer_holds(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, named)
    assert checked(ODD[named])[named].passed


def test_bytes_are_as_far_apart_as_the_numbers_that_they_hold() -> None:
    for kind, least, most in ((torch.int8, -128, 0), (torch.uint8, 0, 255), (torch.bool, 0, 1)):
        differences = Differences(0.5)
        one, other = (torch.tensor([[value]], dtype=kind) for value in (least, most))
        differences.add({"state": one}, {"state": other}, "here")
        differences.add({"state": other}, {"state": one}, "there")
        assert differences.verdict[0] is False
        assert f"differs by {most - least:.1e}" in differences.verdict[1]


def test_no_number_equals_nothing() -> None:
    differences, nothing = Differences(1.0), torch.full((1, 1, 1), torch.nan)
    differences.add({"output": nothing}, {"output": nothing}, "")
    assert differences.verdict[0] is False


def test_of_a_layer_without_a_state_what_is_about_states_is_skipped_and_said_so() -> None:
    class Cumulated(nn.Module):
        def forward(self, x):
            return x.cumsum(1)

    class Layer(Stateless):
        def __init__(self, width: int, *, fault: Callable[[Tensor], Tensor] | None = None) -> None:
            super().__init__(nn.Sequential(nn.Linear(width, width), Cumulated()))

    rows = checked(Layer)
    assert not [row for row in rows.values() if row.passed is False]
    of_states = (
        SPLITS, TOKENS, "state bytes, constant or growing", "memory half-life at the start"
    )  # fmt: skip
    for name in of_states:
        assert rows[name].passed is None
        assert "has no state" in rows[name].compared
    assert rows["causal"].passed
    assert rows[REACH].passed
    row = next(check_mixer(nn.Identity, {}, width=WIDTH))
    assert (row.property, row.passed) == (FORM, False)
    assert "no init_state: a layer without a state goes behind rulekeep.Stateless" in row.compared

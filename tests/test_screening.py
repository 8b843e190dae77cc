"""A mixer from outside that sees what follows is not trained: its scores would mean nothing."""

import re
from pathlib import Path

import pytest

from rulekeep.checks import screening
from rulekeep.checks.screening import LONGEST, screen, sizes_of
from rulekeep.executors import LocalExecutor
from rulekeep.mixers import MIXERS
from rulekeep.mixers.base import MixerError
from rulekeep.running.resolving import resolve, resolve_any
from rulekeep.specs import ArticleCell, RunSpec
from rulekeep.sweeps.sweep import JobFinished, execute, plan

CODE = """
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
        nn.init.zeros_(self.read.weight), nn.init.zeros_(self.read.bias)

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
        self.mask = nn.Parameter(torch.tril(torch.ones(4096, 4096)))

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
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return str(path)


def spec(mixer: str, **values: object) -> RunSpec:
    return RunSpec.parse(
        **{"mixer": mixer, "width": 8, "context": 64, "task_options": {"rules": 2}, **values}
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Peeks", r"its output at token 0 changes by .* when tokens from 1 on are others: it sees"),
        ("PeeksInTraining", r"it sees what follows, and would be scored for that"),
        ("PeeksInChunks", r"it sees what follows"),
        ("PeeksGoingOn", r"it sees what follows"),
        ("PeeksWithAnInteger", r"it sees what follows"),
        ("PeeksInFloat32", r"it sees what follows"),
        ("SaysNoState", r"forward returned a Tensor: must return y, state"),
        ("TakesNoState", r"forward takes \(x\): must take \(x, state=None\)"),
        ("KeepsATensor", r"the state is a Tensor: must be a tuple of tensors"),
        ("OtherShape", r"the output is \[3, 12, 1\] for \[3, 12, 8\]"),
        ("SaysInFloat64", r"the output is torch.float64 for an input of torch.float32: return y"),
        ("PeeksInBfloat16", r"the output is torch.bfloat16 for an input of torch.float32"),
        ("Forgets", r"output after a state differs by \d.* the state of 12 tokens must hold all"),
        ("KeepsHalf", r"its output after a state differs by 0\.00\d+ from that of the whole"),
        ("PeeksBehindAGate", r"it sees what follows"),
        ("PeeksBeforeItSays", r"it sees what follows"),
        ("MakesItsWeightsLate", r"its first call makes module\.gain: make it in the constructor"),
        ("MakesItsWeightsWithItsState", r"its first call makes module\.start: make it in the"),
        ("RemembersInABuffer", r"differs by \d.* when it goes on from that state once more"),
        ("RemembersInItself", r"differs by \d.* when it goes on from that state once more"),
        ("WritesToItsState", r"forward may not write to the state it is given"),
        ("MixesRows", r"its output differs by \d.* without the other sequences of the batch"),
        ("GivesNoNumber", r"576 of 576 outputs are not finite as it starts"),
    ],
)
def test_what_sees_later_tokens_or_breaks_the_contract_otherwise_is_refused_in_one_line(
    file: str, name: str, said: str
) -> None:
    with pytest.raises(MixerError, match=said) as found:
        screen(resolve_any(spec(f"{file}:{name}")))
    assert re.search(rf"rulekeep check .*mine\.py:{name}$", str(found.value))
    assert "\n" not in str(found.value)


def test_a_leak_that_only_long_texts_have_is_found_where_they_are_tested(file: str) -> None:
    screen(resolve_any(spec(f"{file}:PeeksFar", test_contexts=(64, 600))))
    for longest in (1028, LONGEST, 16384):
        with pytest.raises(MixerError, match="tokens from 1 on are others: it sees what follows"):
            screen(resolve_any(spec(f"{file}:PeeksFar", test_contexts=(64, longest))))


@pytest.mark.parametrize(
    "name",
    [
        "Honest",
        "Fails",
        "DrawsAtRandom",
        "DrawsItsOwn",
        "CountsItsCalls",
        "Convolves",
        "ConvolvesEver",
        pytest.param("Masks", marks=pytest.mark.slow),
    ],
)
def test_what_is_no_leak_is_let_through(file: str, name: str) -> None:
    """What fails in a call is a record with its reason, and chance is no look ahead."""
    screen(resolve_any(spec(f"{file}:{name}")))


@pytest.mark.parametrize("name", MIXERS)
def test_what_a_mixer_from_outside_is_tried_by_holds_of_the_catalogue(name: str) -> None:
    (make,) = set(resolve(spec(name, width=64)).mixers)
    assert screening._fault(make, 64, sizes_of([67], 5, seed=1), "cpu") is None


def test_a_hybrids_part_is_tried_too_and_nothing_of_the_catalogue_is(file: str) -> None:
    with pytest.raises(MixerError, match="Peeks': its output"):
        screen(resolve_any(spec(f"attention+{file}:Peeks")))
    screen(resolve_any(spec("attention+slots")))


@pytest.mark.process
def test_a_run_of_one_that_leaks_fails_with_the_reason_and_the_others_go_on(
    file: str, tmp_path: Path
) -> None:
    values = {"steps": 2, "warmup_steps": 0, "batch_size": 2, "validation_examples": 2}
    specs = [spec(f"{file}:{name}", test_examples=2, **values) for name in ("Peeks", "Honest")]
    events = list(execute(plan(specs, tmp_path / "runs"), LocalExecutor(1)))
    records = [event.record for event in events if isinstance(event, JobFinished)]
    leaks, honest = sorted(records, key=lambda record: record.status, reverse=True)
    assert (leaks.status, honest.status) == ("failed", "done")
    assert "it sees what follows, and would be scored for that" in leaks.reason
    assert leaks.history == ()


def test_a_screen_leaves_the_random_streams_where_they_were(file: str) -> None:
    import torch

    before = torch.get_rng_state()
    screen(resolve_any(spec(f"{file}:Honest", seed=7)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_mixer_that_joins_the_articles_contest_is_tried_too(file: str) -> None:
    cell = ArticleCell(context=64, model=f"{file}:Peeks", seed=7, steps=1)
    with pytest.raises(MixerError, match="it sees what follows"):
        screen(resolve_any(cell))
    screen(resolve_any(ArticleCell(context=64, model="attention", seed=7, steps=1)))


@pytest.mark.process
def test_a_leak_that_opens_in_training_is_seen_in_the_answers(file: str, tmp_path: Path) -> None:
    """As it starts nothing is wrong with it: its scores would be those of a perfect memory."""
    values = {
        "steps": 150, "warmup_steps": 10, "batch_size": 16, "learning_rate": 0.03, "layers": 1,
        "test_examples": 64, "validation_examples": 8, "width": 32,
    }  # fmt: skip
    specs = [spec(f"{file}:{name}", **values) for name in ("PeeksOnceTrained", "Honest")]
    # Trained in bfloat16 it answers in float32 too.
    specs += [one.model_copy(update={"precision": "bfloat16"}) for one in specs]
    screen(resolve_any(specs[0]))
    events = list(execute(plan(specs, tmp_path / "runs"), LocalExecutor(1)))
    records = [event.record for event in events if isinstance(event, JobFinished)]
    assert len(records) == 4
    for record in records:
        honest = record.spec.mixer.endswith("Honest")
        assert record.status == ("done" if honest else "failed")
        said = (
            r"MixerError: Causality check failed at \d+ tokens: \d+ of \d+ teacher-forced answers "
        )
        assert honest or re.search(said, record.reason)

"""A mixer from outside that sees what follows is not trained: its scores would mean nothing."""

import re
from pathlib import Path

import pytest

from rulekeep.executors import LocalExecutor
from rulekeep.mixers.base import MixerError
from rulekeep.screening import LONGEST, screen
from rulekeep.specs import RunSpec
from rulekeep.sweep import JobFinished, execute, plan

CODE = """
import torch
from torch import nn


class Honest(nn.Module):
    def __init__(self, width, *, far=False, low=False):
        super().__init__()
        self.write, self.gate = nn.Linear(width, width), nn.Parameter(torch.zeros(width))
        self.far, self.low = far, low

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


class PeeksOnceTrained(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y + self.gate * x.mean(1, keepdim=True), state


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


class Fails(Honest):
    def forward(self, x, state=None):
        raise RuntimeError("not today")


class GivesNoNumber(Honest):
    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y + torch.nan, state


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
        ("Peeks", r"its output at token 31 changes by .* when tokens from 32 on are others"),
        ("PeeksOnceTrained", r"when tokens from 32 on are others: it sees what follows"),
        ("PeeksInFloat32", r"it sees what follows"),
        ("SaysNoState", r"forward returned a Tensor: must return y, state"),
        ("TakesNoState", r"forward takes \(x\): must take \(x, state=None\)"),
        ("KeepsATensor", r"the state is a Tensor: must be a tuple of tensors"),
        ("OtherShape", r"the output is \[2, 64, 1\] for \[2, 64, 8\]"),
    ],
)
def test_what_sees_later_tokens_or_has_another_form_is_refused_in_one_line(
    file: str, name: str, said: str
) -> None:
    with pytest.raises(MixerError, match=said) as found:
        screen(spec(f"{file}:{name}"))
    assert re.search(rf"rulekeep check .*mine\.py:{name}$", str(found.value))
    assert "\n" not in str(found.value)


def test_a_leak_that_only_long_texts_have_is_found_where_they_are_tested(file: str) -> None:
    screen(spec(f"{file}:PeeksFar", test_contexts=(64, 600)))
    with pytest.raises(MixerError, match="tokens from 514 on are others"):
        screen(spec(f"{file}:PeeksFar", test_contexts=(64, 1028)))
    with pytest.raises(MixerError, match=f"tokens from {LONGEST // 2} on are others"):
        screen(spec(f"{file}:PeeksFar", test_contexts=(64, 16384)))


@pytest.mark.parametrize("name", ["Honest", "Fails", "GivesNoNumber", "DrawsAtRandom"])
def test_what_is_no_leak_is_let_through(file: str, name: str) -> None:
    """What fails or diverges is a record with its reason, and chance is no look ahead."""
    screen(spec(f"{file}:{name}"))


def test_a_hybrids_part_is_tried_too_and_nothing_of_the_catalogue_is(file: str) -> None:
    with pytest.raises(MixerError, match="Peeks': its output"):
        screen(spec(f"attention+{file}:Peeks"))
    screen(spec("attention+slots"))


def test_a_run_of_one_that_leaks_fails_with_the_reason_and_the_others_go_on(
    file: str, tmp_path: Path
) -> None:
    values = {"steps": 2, "warmup_steps": 0, "batch_size": 2, "dev_examples": 2}
    specs = [spec(f"{file}:{name}", test_examples=2, **values) for name in ("Peeks", "Honest")]
    events = list(execute(plan(specs, tmp_path / "runs"), LocalExecutor(1)))
    records = [event.record for event in events if isinstance(event, JobFinished)]
    leaks, honest = sorted(records, key=lambda record: record["status"], reverse=True)
    assert (leaks["status"], honest["status"]) == ("failed", "done")
    assert "it sees what follows, and would be scored for that" in leaks["reason"]
    assert leaks["history"] == []


def test_a_screen_leaves_the_random_streams_where_they_were(file: str) -> None:
    import torch

    before = torch.get_rng_state()
    screen(spec(f"{file}:Honest", seed=7))
    assert torch.equal(torch.get_rng_state(), before)

"""The two examples of trackers, offline: event files are read back, and a fake has wandb's API."""

import math
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny

from rulekeep.executors import LocalExecutor
from rulekeep.running.trackers import TrackerWarning, tracked
from rulekeep.sweeps import making, planning
from rulekeep.sweeps.asked import How

EXAMPLES = Path(__file__).parent.parent / "examples"
TENSORBOARD = f"{EXAMPLES / 'tensorboard_tracker.py'}"
WANDB = f"{EXAMPLES / 'wandb_tracker.py'}"
FIGURES = {25: {"val_loss": 1.5}, 50: {"val_loss": math.nan, "retention": 0.5}}
SPEC = {"mixer": "<b>delta</b>", "seed": 1}


def follow(name: str, folder: Path, figures: Mapping[int, dict[str, float]] = FIGURES) -> None:
    def run(log: Any) -> dict[str, Any]:
        for step, row in figures.items():
            log(step, row)
        return {"status": "done", "costs": {"retention": 0.75}}

    tracked(name, folder, SPEC, run)


class Service(types.ModuleType):
    """What of wandb's API is used: `init`, and of a run `log` and `finish`."""

    def __init__(self, broken: str = "") -> None:
        super().__init__("wandb")
        self.broken = broken
        self.calls: list[tuple] = []

    def init(self, **options):
        return self._note("init", options)

    def log(self, figures, step=None):
        self._note("log", figures, step)

    def finish(self):
        self._note("finish")

    def _note(self, *call):
        self.calls.append(call)
        sys.stdout.write("chatter")
        if call[0] == self.broken:
            raise RuntimeError("no\nservice")
        return self


@pytest.fixture
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Stands for wandb; the example is loaded anew, and imports it."""
    made = Service(getattr(request, "param", ""))
    monkeypatch.setitem(sys.modules, "wandb", made)
    yield made
    for name in [name for name in sys.modules if name.startswith("wandb_tracker_")]:
        del sys.modules[name]


def test_tensorboard_files_hold_every_figure(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    follow(TENSORBOARD, tmp_path)
    events = loader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("retention")] == [(50, 0.5)]
    losses = events.Scalars("val_loss")
    assert [e.step for e in losses] == [25, 50]
    assert losses[0].value == 1.5
    assert math.isnan(losses[1].value)
    # Taken up again, an attempt that ends before it tells anything takes nothing away.
    with pytest.raises(ZeroDivisionError):
        tracked(TENSORBOARD, tmp_path, {}, lambda _: {"costs": 1 / 0})
    again = loader.EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("val_loss")
    assert [e.step for e in again] == [25, 50]
    # Taken up at step 50, what the first attempt told of it is told once.
    follow(TENSORBOARD, tmp_path, {step: {"val_loss": step} for step in (50, 75)})
    again = loader.EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("val_loss")
    assert [(e.step, e.value) for e in again] == [(25, 1.5), (50, 50), (75, 75)]
    (spec,) = events.Tensors("spec/text_summary")
    assert '\n     "mixer": "<b>delta</b>"' in spec.tensor_proto.string_val[0].decode()
    (end,) = events.Tensors("end/text_summary")
    assert end.step == 50
    assert '"status": "done"' in end.tensor_proto.string_val[0].decode()


def test_wandb_gets_the_spec_the_figures_and_the_end(
    service: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    follow(WANDB, tmp_path)
    (_, options), first, _, *last = service.calls
    assert (options["project"], options["mode"]) == ("mine", "offline")
    assert options["id"] == options["name"] == tmp_path.name
    assert options["config"] == SPEC
    assert first == ("log", {"val_loss": 1.5}, 25)
    assert last == [("log", {"status": "done", "retention": 0.75}, None), ("finish",)]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("service", ["init", "log", "finish"], indirect=True)
def test_a_tracker_that_raises_is_left_out_with_one_warning(
    service: Service, tmp_path: Path
) -> None:
    with pytest.warns(TrackerWarning, match="is left out .*: RuntimeError: no service$") as warned:
        follow(WANDB, tmp_path)
    assert len(warned) == 1
    assert service.calls[-1][0] == service.broken


def test_a_tracker_is_looked_for_where_the_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning.plan([tiny.tiny()], tmp_path)
    file = "def tracker(folder, spec):\n    (folder / 'seen').touch()\n"
    (tmp_path / "mine.py").write_text(file)
    monkeypatch.chdir(tmp_path)
    making.make_runs(None, tmp_path, LocalExecutor(1), How(tracker="mine.py"))
    assert [*tmp_path.glob("*/seen")]

"""One spec, one record, the same bits however it came about."""

from pathlib import Path

import leaks
import pytest
import tiny

from rulekeep.records.store import RunFolder, Values
from rulekeep.running import run as running
from rulekeep.running.building import resolve
from rulekeep.specs import RunSpec
from rulekeep.sweeps import planning

SPECS = [
    *(
        tiny.tiny(mixer=mixer, seed=seed, layers=2)
        for mixer, seed in (("attention", 1), ("slots", 1), ("delta+gru", 2))
    ),
    # Charged from its tenth step on: from another one it would be other bits.
    tiny.tiny(
        mixer="sparse_delta", mixer_options={"gate_penalty": 0.5, "penalty_start": 9, "heads": 2}
    ),
    # Its last steps begin from noise that has the spread of other texts' states.
    tiny.tiny(mixer="delta", mixer_options={"heads": 2}, initial_states="noise", state_steps=6),
    # Counts its steps, beside its weights.
    tiny.tiny(mixer=f"{leaks.__file__}:HoldsExtraState"),
]


class StoppedError(Exception):
    """Raised in the middle of a run."""


def here(spec: RunSpec, folder: Path, stop_after: int | None = None) -> Values:
    """A run in this process, interrupted after a step if one is given."""

    def progress(step: int) -> None:
        if step == stop_after:
            raise StoppedError

    folder.mkdir(exist_ok=True)
    record = running.run(resolve(spec), RunFolder(folder), progress, lambda *_: None)
    return tiny.timeless(record)


def swept(specs: list[RunSpec], root: Path, workers: int) -> list[Values]:
    """Runs in processes of their own; their records in the order of the specs."""
    assert {record.status for record in tiny.made(specs, root, workers)} == {"done"}
    found = tiny.timeless_records(root)
    records = [found[planning.identity(spec)] for spec in specs]
    for record in records:
        # What a sweep says of a run beside what came of it.
        del record["id"], record["kind"], record["versions"], record["asked"]
    return records


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Values]:
    return [here(spec, tmp_path_factory.mktemp("here")) for spec in SPECS]


def test_the_same_bits_in_this_process_again(tmp_path: Path, expected: list[Values]) -> None:
    assert [here(spec, tmp_path) for spec in SPECS] == expected


@pytest.mark.parametrize(("workers", "turn"), [(1, 1), (3, -1)], ids=["in order", "in reverse"])
def test_the_same_bits_by_any_number_of_workers_in_any_order(
    tmp_path: Path, expected: list[Values], workers: int, turn: int
) -> None:
    assert swept(SPECS[::turn], tmp_path, workers) == expected[::turn]


@pytest.mark.core
@pytest.mark.parametrize("step", [1, 7, 11])
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(n, marks=[pytest.mark.slow] if 0 < n < len(SPECS) - 1 else [])
        for n in range(len(SPECS))
    ],
)
def test_the_same_bits_after_an_interruption(
    tmp_path: Path,
    expected: list[Values],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    step: int,
) -> None:
    monkeypatch.setattr(running, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(StoppedError):
        here(SPECS[number], tmp_path, stop_after=step)
    assert (tmp_path / "checkpoint").exists() == (step > 1)
    steps = []
    monkeypatch.setattr(running, "history_row", spy(running.history_row, steps))
    assert here(SPECS[number], tmp_path) == expected[number]
    # It went on, and did not begin anew.
    assert min(steps) >= step


def spy(function, steps):
    def row(step, look):
        steps.append(step.number)
        return function(step, look)

    return row

"""How a run trains and is tested: lengths, early stops, and what is not defined."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from rulekeep import run as running
from rulekeep.store import Record, RunFolder


def made(folder: Path, **changes: Any) -> Record:
    return running.run(
        tiny.tiny(**changes), RunFolder(folder), lambda _step: None, lambda _step, _figures: None
    )


def drawn(count: int, shortest: int = 40, **changes: Any) -> np.ndarray:
    return np.array(list(islice(running.lengths(tiny.tiny(**changes), shortest), count)))


def test_lengths_are_log_uniform_from_64_to_the_context() -> None:
    found = drawn(20_000, context=1024)
    assert (found.min(), found.max()) == (64, 1024)
    # Equal shares of the batches between 64, 128, 256, 512 and 1024.
    shares = np.histogram(found, bins=[64, 128, 256, 512, 1025])[0] / len(found)
    assert shares == pytest.approx([0.25] * 4, abs=0.015)


def test_a_task_that_needs_more_starts_at_what_it_needs() -> None:
    assert drawn(5_000, shortest=100, context=256).min() == 100


def test_the_longest_length_grows_by_equal_factors_and_then_stays() -> None:
    found = drawn(2_000, context=1024, steps=2_000, length_growth=0.5)
    for step in (0, 250, 500, 750):
        longest = 64 * 16 ** (step / 1000)
        assert found[: step + 1].max() <= round(longest)
    assert found[1000:].max() > 1000
    assert np.histogram(found[1000:], bins=[64, 256, 1025])[0] == pytest.approx([500] * 2, abs=60)


def test_lengths_can_be_fixed() -> None:
    assert set(drawn(50, context=96, mixed_lengths=False)) == {96}


def test_lengths_are_the_same_for_every_mechanism_and_differ_by_seed() -> None:
    one = drawn(100, context=256)
    assert np.array_equal(one, drawn(100, context=256, mixer="delta", width=16, learning_rate=0.01))
    assert not np.array_equal(one, drawn(100, context=256, seed=2))


@pytest.mark.parametrize("stop", [False, True])
def test_a_run_is_solved_at_the_first_look_that_reaches_it_and_stops_only_if_asked(
    stop: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    look, exact = running._look, iter([0.0, 0.99, 0.995, 0.2, 1.0])

    def looked(model: Any, resolved: Any, split: Any, context: int, examples: int) -> Any:
        found = look(model, resolved, split, context, examples)
        return found | {"exact": next(exact, 0.0)}

    monkeypatch.setattr(running, "_look", looked)
    record = made(tmp_path, stop_when_solved=stop)
    # Looks at steps 1, 4, 8 and 12; the last exact of them is no longer reached.
    assert record["costs"]["steps_to_solve"] == 8
    assert record["costs"]["steps"] == (8 if stop else 12)
    assert [row["step"] for row in record["history"]] == ([1, 4, 8] if stop else [1, 4, 8, 12])


def test_a_run_that_never_gets_there_is_not_solved(tmp_path: Path) -> None:
    assert made(tmp_path)["costs"]["steps_to_solve"] is None


def test_learned_positions_are_not_scored_beyond_the_length_trained_on(tmp_path: Path) -> None:
    record = made(tmp_path, added_positions="learned", test_contexts=[64, 96])
    tested = [row["context"] for row in record["evaluations"] if row["split"] == "test"]
    assert tested == [64]
    assert record["notes"] == ["test at 96: not defined, learned positions end at 64"]
    assert set(record["costs"]["state_bytes"]) == {"64"}

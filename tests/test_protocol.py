"""How a run trains and is tested: lengths, early stops, and what is not defined."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from rulekeep.records.store import Record, RunFolder
from rulekeep.running import run as running
from rulekeep.running.building import resolve
from rulekeep.running.training import build, lengths, optimizer_of
from rulekeep.tasks import Recite


def made(folder: Path, **changes: Any) -> Record:
    return running.run(
        resolve(tiny.tiny(**changes)),
        RunFolder(folder),
        lambda _step: None,
        lambda _step, _figures: None,
    )


def drawn(count: int, shortest: int = 40, **changes: Any) -> np.ndarray:
    return np.array(list(islice(lengths(tiny.tiny(**changes), shortest), count)))


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


def test_lengths_are_the_same_for_every_mechanism_and_differ_by_seed() -> None:
    one = drawn(100, context=256)
    assert np.array_equal(one, drawn(100, context=256, mixer="delta", width=16, learning_rate=0.01))
    assert not np.array_equal(one, drawn(100, context=256, seed=2))


@pytest.mark.parametrize("stop", [False, True])
def test_a_run_is_solved_at_the_first_look_that_reaches_it_and_stops_only_if_asked(
    stop: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    validate, exact = running.validate, iter([0.0, 0.99, 0.995, 0.2, 1.0])
    monkeypatch.setattr(
        running, "validate", lambda *given: validate(*given) | {"exact": next(exact)}
    )
    record = made(tmp_path, stop_when_solved=stop)
    # Looks at steps 1, 4, 8 and 12; the last exact of them is no longer reached.
    assert record["costs"]["steps_to_solve"] == 8
    assert record["costs"]["steps"] == (8 if stop else 12)
    assert [row["step"] for row in record["history"]] == ([1, 4, 8] if stop else [1, 4, 8, 12])


def test_learned_positions_are_not_scored_beyond_the_length_trained_on(tmp_path: Path) -> None:
    record = made(tmp_path, added_positions="learned", test_contexts=[64, 96])
    tested = [row["context"] for row in record["evaluations"] if row["split"] == "test"]
    assert tested == [64]
    assert record["notes"] == ["test at 96: not defined, learned positions end at 64"]
    assert set(record["costs"]["state_bytes"]) == {"64"}


def test_a_run_trains_on_batches_in_turn_looks_at_dev_and_draws_test_only_at_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    draws, sample = [], Recite.sample

    def spied(
        self: Recite, split: Any, context: int, n: int, *, seed: int = 0, start: int = 0
    ) -> Any:
        draws.append((split, context, n, seed, start))
        return sample(self, split, context, n, seed=seed, start=start)

    monkeypatch.setattr(Recite, "sample", spied)
    changes: dict[str, Any] = {"context": 96, "seed": 3}
    made(
        tmp_path, **changes, test_contexts=[64, 1028, 1029], validation_examples=3, test_examples=5,
        long_test_examples=2,
    )  # fmt: skip
    drawn_lengths = [int(length) for length in drawn(12, **changes)]
    assert len(set(drawn_lengths)) > 5
    trained = [("train", length, 4, 3, 4 * i) for i, length in enumerate(drawn_lengths)]
    look = ("validation", 96, 3, 3, 0)
    tests = [("test", 64, 5, 3, 0), ("test", 1028, 5, 3, 0), ("test", 1029, 2, 3, 0)]
    # Looks at steps 1, 4, 8 and 12. What is measured last, operations and decoding, is of one
    # example of validation.
    assert draws == [
        trained[0], look, *trained[1:4], look, *trained[4:8], look, *trained[8:], look,
        ("validation", 64, 3, 3, 0), look, *tests,
        *(("validation", context, 1, 3, 0) for context in (96, 64, 1028, 1029)),
    ]  # fmt: skip


def test_linear_layers_decay_and_nothing_else_does() -> None:
    model = build(resolve(tiny.tiny(mixer="attention", added_positions="learned")))
    spec = tiny.tiny(weight_decay=0.3, learning_rate=0.02).training
    decaying, others = optimizer_of(model, spec).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [(group["weight_decay"], group["lr"]) for group in (decaying, others)] == [
        (0.3, 0.02), (0.0, 0.02),
    ]  # fmt: skip
    assert {names[id(parameter)] for parameter in decaying["params"]} == {
        "blocks.0.mixer.in_projection.weight", "blocks.0.mixer.out_projection.weight",
        "blocks.0.expand.weight", "blocks.0.contract.weight", "head.weight",
    }  # fmt: skip
    assert {names[id(parameter)] for parameter in others["params"]} == {
        "embedding.weight", "position_embedding.weight", "norm.weight", "norm.bias", "head.bias",
        "blocks.0.mixer.in_projection.bias", "blocks.0.mixer.out_projection.bias",
        "blocks.0.norm.weight", "blocks.0.norm.bias", "blocks.0.norm_mixed.weight",
        "blocks.0.norm_mixed.bias", "blocks.0.expand.bias", "blocks.0.contract.bias",
    }  # fmt: skip
    # A mixer's own, other than its linear layers, start and stay as it says.
    model = build(resolve(tiny.tiny(mixer="gru")))
    decaying, others = optimizer_of(model, spec).param_groups
    own = {id(parameter) for parameter in model.blocks[0].mixer.parameters()}
    assert own
    assert own <= {id(parameter) for parameter in others["params"]}


def test_a_run_records_the_bytes_of_every_layers_state_and_the_operations_of_a_token(
    tmp_path: Path,
) -> None:
    width, hidden, context = 8, 24, 96
    record = made(
        tmp_path, mixer="attention", layers=2, width=width, hidden=hidden, context=context,
        test_contexts=[64, context], steps=1, warmup_steps=0,
    )  # fmt: skip
    # Keys and values of two layers, four bytes a number.
    assert record["costs"]["state_bytes"] == {
        str(tokens): 2 * 2 * width * 4 * tokens for tokens in (64, context)
    }
    words = len(Recite(resolve(tiny.tiny()).task.options).vocabulary)
    # Of a layer: projections, queries with keys and weights with values, the feed-forward layer's
    # first product; its second is added in place (`addmm_`), which torch does not count.
    layer = 2 * (4 * width * width) + 2 * 2 * (context * width) + 2 * (width * hidden)
    assert record["costs"]["flops_per_token"] == 2 * layer + 2 * (width * words)

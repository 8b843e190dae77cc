"""The literature check: its runs, what they take, and what is said of their figures."""

from itertools import product

import pytest
from report_records import typed
from scripts import script

from rulekeep.records.store import Record
from rulekeep.running.building import resolve
from rulekeep.running.training import build
from rulekeep.specs import RunSpec

STUDY = script("literature", "studies")


def test_a_mixer_has_a_grid_on_seed_1_and_two_seeds_at_its_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = STUDY.MIXERS[1::6]
    monkeypatch.setattr(STUDY, "MIXERS", few)
    # Grids, their extensions and what follows, 1e-3 the best rate of each.
    records: list[Record] = []
    specs: list[RunSpec] = []
    while len(found := STUDY.literature(records)) > len(specs):
        new = [spec for spec in found if spec not in specs]
        specs += new
        for spec in new:
            made = resolve(spec)
            loss = abs(spec.learning_rate - 1e-3)
            rows = [
                {"split": split, "context": spec.context, "val_loss": by}
                for split, by in (("validation", loss), ("test", -loss))
            ]
            values = {
                "id": made.id, "kind": "run", "status": "done", "asked": made.asked,
                "versions": made.versions, "spec": made.spec.model_dump(mode="json"),
            }  # fmt: skip
            records += typed([{**values, "evaluations": rows}])
    full = [spec for spec in specs if spec.steps == STUDY.STEPS]
    grid = [spec for spec in specs if spec.steps == STUDY.GRID_STEPS]
    assert len(full) + len(grid) == len(specs)
    assert len(full) == 2 * len(few)
    assert {(s.mixer, s.seed) for s in full} == set(product((m.mixer for m in few), STUDY.SEEDS))
    assert {spec.learning_rate for spec in full} == {1e-3}
    assert {spec.seed for spec in grid} == {1}
    assert len(grid) == 4 * len(few)


def test_models_are_small_and_states_are_what_is_compared() -> None:
    # One of each mixer: its rates change no model.
    first = {(s.mixer, s.width, str(s.mixer_options)): s for s in STUDY.literature([])}
    assert len(first) == len(STUDY.MIXERS)
    assert {(mixer, width) for mixer, width, _ in first} == set(
        product(("attention", "ssd", "gated_delta"), (16, 32, 64))
    )
    for spec in first.values():
        model = build(resolve(spec))
        assert sum(parameter.numel() for parameter in model.parameters()) < 100_000
        assert spec.hidden == 1
        mixer = model.blocks[0].mixer
        if spec.mixer == "ssd":
            assert (mixer.key_width, mixer.value_width) in ((16, 8), (32, 8))
        if spec.mixer == "gated_delta":
            assert mixer.key_width == spec.width // 2


@pytest.mark.parametrize(
    ("key", "accuracies", "said"),
    [
        ("ssd-64", (79.0, 78.0), "agrees: 77.4 to 100.0"),
        ("ssd-16", (70.0, 72.0), "24.1 above"),
        ("ssd-32", (60.0, 58.0), "16.1 below"),
        ("gated_delta-32", (3.0, 1.0), "the look-up is not found"),
        ("gated_delta-16", (36.0, 35.0), "agrees: 33.4 to 43.4"),
        ("gated_delta-16", (1.0, 76.0), "seeds disagree"),
        ("attention-16", (98.4, 99.0), "agrees: from 98.5"),
        ("attention-32", (6.0, 100.0), "seeds disagree"),
    ],
)
def test_verdicts(key: str, accuracies: tuple[float, ...], said: str) -> None:
    assert STUDY.verdict(STUDY.PUBLISHED[key], accuracies) == said

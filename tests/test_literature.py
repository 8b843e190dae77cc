"""The literature check: its models, and what is said of its figures.

tests/test_study.py holds that it plans the runs that its folder has.
"""

from itertools import product

import pytest
from scripts import script

from rulekeep.running.building import resolve
from rulekeep.running.training import build

STUDY = script("literature", "studies")


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

"""A mixer from outside that sees what follows is not trained: its scores would mean nothing."""

import re
from pathlib import Path

import leaks
import pytest
import tiny
from test_check_mixer import VIOLATED

from rulekeep.checks import mixers
from rulekeep.checks.mixers import LONGEST, screen, subject_of
from rulekeep.mixers import MIXERS
from rulekeep.mixers.base import MixerError
from rulekeep.running.building import resolve
from rulekeep.specs import ArticleCell, RunSpec
from rulekeep.sweeps.planning import resolve_any

FILE = leaks.__file__


def spec(mixer: str, **values: object) -> RunSpec:
    return RunSpec.parse(
        **{"mixer": mixer, "width": 8, "context": 64, "task_options": {"rules": 2}, **values}
    )


# What a run of 64 tokens in float32 does not rest on, or does not meet.
NOT_LOOKED_AT = {
    # Gradients, forms of its own, bytes.
    "WrongGradient", "WrongGradientInChunks", "WrongGradientOfTheState", "CutsWhatItStartsFrom",
    "CutsAComplexState", "CutsTheFirstToken", "CutsTheFirstTokenAndExcusesItself", "SeesOnlyItself",
    "WithALoop", "WithATail", "TakesNoState",
    # float64, another device, long texts.
    "SaysInFloat32", "KeepsAStateInFloat32", "KeepsHalfAComplexState", "RoundsInFloat32",
    "TakesTheDefaultDevice", "Overflows", "PeeksFar", "PeeksFurther", "PeeksInLongChunks",
    "PeeksBetweenTheUsualLengths", "SeesFromTheFifthOfNine", "ForgetsFar", "ForgetsInChunks",
    "KeepsItsPenalty",
    # What fails in a call: a record says so.
    "Fails",
}  # fmt: skip


@pytest.mark.parametrize("name", [*sorted(VIOLATED.keys() - NOT_LOOKED_AT), "PeeksInFloat32"])
def test_a_violator_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(MixerError, match=f"leaks.py:{name}': ") as bad:
        screen(resolve_any(spec(f"{FILE}:{name}")))
    assert re.search(rf"rulekeep check .*leaks\.py:{name}$", str(bad.value))
    assert "\n" not in str(bad.value)


def test_a_leak_that_only_long_texts_have_is_found_where_they_are_tested() -> None:
    screen(resolve_any(spec(f"{FILE}:PeeksFar", test_contexts=(64, 600))))
    for longest in (1028, LONGEST, 16384):
        with pytest.raises(MixerError, match="it sees later tokens"):
            screen(resolve_any(spec(f"{FILE}:PeeksFar", test_contexts=(64, longest))))


@pytest.mark.parametrize(
    "name",
    [
        "Honest",
        "Fails",
        "Drops",
        "HoldsExtraState",
        "Convolves",
        "GrowsOnceItIsTrained",
        "Masks",
    ],
)
def test_what_is_no_leak_is_let_through(name: str) -> None:
    """What fails in a call is a record with its reason; noise of a step is no look ahead."""
    screen(resolve_any(spec(f"{FILE}:{name}")))


@pytest.mark.parametrize("name", MIXERS)
def test_what_a_mixer_from_outside_is_tried_by_holds_of_the_catalogue(name: str) -> None:
    (make,) = set(resolve(spec(name, width=64)).mixers)
    mixers.hold(f"its:{name}", subject_of(make, 64, [67], 5, seed=1))


def test_a_hybrids_part_is_tried_too_and_nothing_of_the_catalogue_is() -> None:
    with pytest.raises(MixerError, match="Peeks': causal: it sees later"):
        screen(resolve_any(spec(f"attention+{FILE}:Peeks")))
    screen(resolve_any(spec("attention+slots")))


@pytest.mark.process
def test_a_run_of_one_that_leaks_fails_with_the_reason_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    values = {"steps": 2, "warmup_steps": 0, "batch_size": 2, "validation_examples": 2}
    specs = [spec(f"{FILE}:{name}", test_examples=2, **values) for name in ("Peeks", "Honest")]
    leaking, honest = tiny.made(specs, tmp_path / "runs")
    assert (leaking.status, honest.status) == ("failed", "done")
    assert "it sees later tokens" in leaking.reason
    assert leaking.history == ()


def test_a_mixer_that_joins_the_articles_contest_is_tried_too() -> None:
    cell = ArticleCell(context=64, model=f"{FILE}:Peeks", seed=7, steps=1)
    with pytest.raises(MixerError, match="it sees later tokens"):
        screen(resolve_any(cell))
    screen(resolve_any(ArticleCell(context=64, model="attention", seed=7, steps=1)))


@pytest.mark.process
def test_a_leak_that_opens_in_training_is_seen_in_the_answers(tmp_path: Path) -> None:
    """As it starts nothing is wrong with it: its scores would be those of a perfect memory."""
    values = {
        "steps": 150, "warmup_steps": 10, "batch_size": 16, "learning_rate": 0.03, "layers": 1,
        "test_examples": 64, "validation_examples": 8, "width": 32,
    }  # fmt: skip
    specs = [spec(f"{FILE}:{name}", **values) for name in ("PeeksOnceTrained", "Honest")]
    # Trained in bfloat16 it answers in float32 too.
    specs += [one.model_copy(update={"precision": "bfloat16"}) for one in specs]
    screen(resolve_any(specs[0]))
    for record in tiny.made(specs, tmp_path / "runs"):
        honest = record.spec.mixer.endswith("Honest")
        assert record.status == ("done" if honest else "failed")
        said = (
            r"MixerError: Causality check failed at \d+ tokens: \d+ of \d+ teacher-forced answers "
        )
        assert honest or re.search(said, record.reason)

"""A mixer from outside that sees what follows is not trained: its scores would mean nothing."""

import re
from pathlib import Path

import leaks
import pytest
import tiny

from rulekeep.checks import screening
from rulekeep.checks.screening import LONGEST, screen, sizes_of
from rulekeep.mixers import MIXERS
from rulekeep.mixers.base import MixerError
from rulekeep.running.resolving import resolve
from rulekeep.specs import ArticleCell, RunSpec
from rulekeep.sweeps.runners import resolve_any

FILE = leaks.__file__


def spec(mixer: str, **values: object) -> RunSpec:
    return RunSpec.parse(
        **{"mixer": mixer, "width": 8, "context": 64, "task_options": {"rules": 2}, **values}
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "Peeks",
            r"its output at token 0 changes by .* when tokens from 1 on are",
        ),
        ("PeeksInTraining", r"it sees later tokens"),
        ("PeeksInChunks", r"it sees later tokens"),
        ("PeeksGoingOn", r"it sees later tokens"),
        ("PeeksWithAnInteger", r"it sees later tokens"),
        ("PeeksInFloat32", r"it sees later tokens"),
        ("SaysNoState", r"forward returned a Tensor: must return y, state"),
        ("TakesNoState", r"forward takes \(x\): must take \(x, state=None\)"),
        ("KeepsATensor", r"the state is a Tensor: must be a tuple of tensors"),
        ("OtherShape", r"the output is \[3, 12, 1\] for \[3, 12, 8\]"),
        ("SaysInFloat64", r"the output is torch.float64 for an input of torch.float32: return y"),
        ("PeeksInBfloat16", r"the output is torch.bfloat16 for an input of torch.float32"),
        ("Forgets", r"output after a state differs by \d.* the state of 12 tokens must hold all"),
        ("KeepsHalf", r"its output after a state differs by 0\.00\d+ from that of the whole"),
        ("PeeksBehindAGate", r"it sees later tokens"),
        ("PeeksBeforeItSays", r"it sees later tokens"),
        ("MakesItsWeightsLate", r"its first call makes module\.gain: make it in the constructor"),
        ("MakesItsWeightsWithItsState", r"its first call makes module\.start: make it in the"),
        ("RemembersInABuffer", r"differs by \d.* when it goes on from that state once more"),
        ("RemembersInItself", r"differs by \d.* when it goes on from that state once more"),
        ("WritesToItsState", r"forward may not write to the state it is given"),
        ("MixesRows", r"its output differs by \d.* without the other sequences of the batch"),
        ("MixesRowsOfALargeBatch", r"without the other sequences of a batch of 257: each"),
        ("DrawsInEval", r"in eval mode its output differs by \d.* reads the same text once more"),
        ("ClampsItsInput", r"it changed its input in place: work on a copy"),
        ("PeeksInEval", r"in eval mode it sees later tokens"),
        ("ForgetsInEval", r"in eval mode its output after a state differs by \d"),
        ("LengthensATable", r"a call turns module\.table from \[32, 8\] to \[67, 8\]: make"),
        ("DrawsAtRandom", r"differs by \d.* when a training step is done again"),
        ("DrawsItsOwn", r"a resumed run would be another: seed a generator of its own"),
        ("CountsItsCalls", r"differs by \d.* when a training step is done again"),
        ("KeepsLayersInAList", r"a weight of shape \[8, 8\] is in no parameter of the module"),
        ("KeepsItsPenalty", r"auxiliary_loss of KeepsItsPenalty is a Tensor"),
        ("HasAFloatAsPenalty", r"auxiliary_loss of HasAFloatAsPenalty is a float"),
        ("GivesExtraStateAlone", r"no checkpoint could: .*; get_extra_state needs set_extra_state"),
        ("GivesNoNumber", r"576 of 576 outputs are not finite as it starts"),
    ],
)
def test_what_sees_later_tokens_or_breaks_the_contract_otherwise_is_refused_in_one_line(
    name: str, said: str
) -> None:
    with pytest.raises(MixerError, match=said) as found:
        screen(resolve_any(spec(f"{FILE}:{name}")))
    assert re.search(rf"rulekeep check .*leaks\.py:{name}$", str(found.value))
    assert "\n" not in str(found.value)


def test_a_leak_that_only_long_texts_have_is_found_where_they_are_tested() -> None:
    screen(resolve_any(spec(f"{FILE}:PeeksFar", test_contexts=(64, 600))))
    for longest in (1028, LONGEST, 16384):
        with pytest.raises(MixerError, match="tokens from 1 on are replaced"):
            screen(resolve_any(spec(f"{FILE}:PeeksFar", test_contexts=(64, longest))))


@pytest.mark.parametrize(
    "name",
    [
        "Honest",
        "Fails",
        "Drops",
        "HoldsExtraState",
        "Convolves",
        "ConvolvesEver",
        pytest.param("Masks", marks=pytest.mark.slow),
    ],
)
def test_what_is_no_leak_is_let_through(name: str) -> None:
    """What fails in a call is a record with its reason; noise of a step is no look ahead."""
    screen(resolve_any(spec(f"{FILE}:{name}")))


@pytest.mark.parametrize("name", MIXERS)
def test_what_a_mixer_from_outside_is_tried_by_holds_of_the_catalogue(name: str) -> None:
    (make,) = set(resolve(spec(name, width=64)).mixers)
    screening._try("slots", make, 64, sizes_of([67], 5, seed=1), "cpu")


def test_a_hybrids_part_is_tried_too_and_nothing_of_the_catalogue_is() -> None:
    with pytest.raises(MixerError, match="Peeks': it sees later"):
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


def test_a_screen_leaves_the_random_streams_where_they_were() -> None:
    import torch

    before = torch.get_rng_state()
    screen(resolve_any(spec(f"{FILE}:Honest", seed=7)))
    assert torch.equal(torch.get_rng_state(), before)


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

"""Outputs that are not finite are no forgetting: no score is made of them, and all say so."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from report_records import groups_of
from report_records import record as made_record

import rulekeep as rk
from rulekeep.checks.mixers import screen
from rulekeep.mixers.base import MixerError
from rulekeep.records import Record
from rulekeep.records.pack import CorruptRecordError
from rulekeep.running.causality import moved
from rulekeep.running.evaluation import LogitsPredictor, NotFiniteError, evaluate_samples
from rulekeep.running.predicting import check
from rulekeep.sweeps.planning import resolve_any
from rulekeep.tasks import TASKS

# Tokens are counted in the state: in pieces or at once, outputs end at the same one.
FROM = 100
ENDS = f"""
    (before,) = state
    at = before[:, None, :] + torch.arange(x.shape[1])[None, :, None].to(x)
    y = torch.where(at >= {FROM}, torch.nan, y)
    state = (before + x.shape[1],)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    folder = tmp_path_factory.mktemp("ends")
    mixer = tiny.plugin(folder, "ends", forward=ENDS)
    (made,) = tiny.made([tiny.tiny(mixer=mixer, test_contexts=(64, 128, 256))], folder / "runs")
    return folder / "runs", made


def test_outputs_that_end_beyond_the_training_length_are_a_status_and_no_score(
    run: tuple[Path, Record],
) -> None:
    root, made = run
    assert (made.status, made.is_result, made.has_model) == ("not_finite", True, True)
    assert made.reason == (
        "outputs are not finite at 128 tokens from token 100 on, at 256 tokens from token 100 on"
    )
    short, *long = made.tests()
    assert short.not_finite_from is None
    assert "retention" in short.figures
    for one in long:
        assert one.not_finite_from == FROM
        assert one.figures == {"n": 4}
        assert not one.chance
    (values,) = tiny.records(root).values()
    assert values["status"] == "not_finite"


def test_a_later_test_of_such_a_length_changes_the_status(tmp_path: Path) -> None:
    mixer = tiny.plugin(tmp_path, "ends", forward=ENDS)
    (made,) = tiny.made([tiny.tiny(mixer=mixer, test_contexts=(64,))], tmp_path / "runs")
    assert made.status == "done"
    later = rk.test(tmp_path / "runs" / made.id, contexts=[128, 80])
    assert later.record.status == "not_finite"
    by_length = {one.context: one for one in later.record.tests()}
    assert by_length[128].not_finite_from == FROM
    assert {64, 80} == {at for at, one in by_length.items() if "retention" in one.figures}
    words = ("explain", str(later.folder), "--contexts", "128", "--examples", "200")
    assert "not finite from token 100 on" in tiny.rulekeep(*words, cwd=tmp_path).stderr


def odd(record: dict[str, Any], context: int) -> dict[str, Any]:
    """The record, with outputs that are not finite in the test at this length."""
    rows = [
        {"split": one["split"], "context": one["context"], "n": 10, "not_finite_from": 7}
        if (one["split"], one["context"]) == ("test", context)
        else one
        for one in record["evaluations"]
    ]
    return {**record, "status": "not_finite", "reason": "x", "evaluations": rows}


def test_no_mean_holds_it_and_it_comes_after_all_others() -> None:
    runs = [made_record("delta", seed) for seed in (1, 2, 3)]
    runs[1] = odd(runs[1], 256)
    (group,) = groups_of(runs)
    assert group.by_seed("retention", 256)[1] == 0.5
    assert group.finite("retention", 256).keys() == {1, 3}
    summary = group.summary("retention", 256)
    assert (summary.mean, summary.seeds, summary.diverged) == (0.5, 2, 1)
    assert group.summary("retention", 64).seeds == 3
    assert group.cost("parameters").keys() == {1, 2, 3}


def test_a_rate_whose_outputs_end_on_validation_is_not_chosen() -> None:
    runs = [made_record("delta", rate=rate) for rate in (0.003, 0.01)]
    for made, loss in zip(runs, (2.0, 0.5), strict=True):
        short = {**made["evaluations"][0], "context": 32, "val_loss": loss}
        made["evaluations"].insert(0, short)
    # The higher rate is better at 32 tokens, and no number at the 64 it was trained at.
    runs[1]["evaluations"][1] = {"split": "validation", "context": 64, "not_finite_from": 7}
    runs[1] |= {"status": "not_finite", "reason": "x"}
    (group,) = groups_of(runs)
    assert group.rate == 0.003


def test_a_record_cannot_have_a_score_of_outputs_that_are_not_finite() -> None:
    values = made_record("delta")
    values["evaluations"][-1]["not_finite_from"] = 3
    with pytest.raises(CorruptRecordError, match="not finite"):
        Record.read(json.loads(json.dumps(values)))


class Fades(LogitsPredictor):
    """Logits without a number from a token on."""

    def __init__(self, token: int, words: int) -> None:
        self.token, self.words = token, words

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        made = torch.zeros(*tokens.shape, self.words)
        made[:, self.token :] = torch.nan
        return made


def test_an_outside_model_is_scored_where_its_logits_are_numbers() -> None:
    task = TASKS["recite"]()
    fades = Fades(80, len(task.vocabulary))
    assert "retention" in evaluate_samples(fades, task, "test", 64, 4, seed=1)
    row = evaluate_samples(fades, task, "test", 128, 4, seed=1)
    assert row == {"split": "test", "context": 128, "n": 4, "not_finite_from": 80}
    with pytest.raises(NotFiniteError, match="gave NaN"):
        check(fades, task, 128, 1)


LENGTH_OF_NAN = f"""
    y = y * (torch.nan if x.shape[1] > {FROM} else 1.0)
"""


def test_what_is_not_finite_is_not_taken_for_the_same(tmp_path: Path) -> None:
    nothing = torch.full((1, 2, 3), torch.nan)
    assert moved(nothing, nothing, torch.zeros(1, 2, dtype=torch.long)).all()
    # As it starts, finite up to the training length: the evaluation says where it ends.
    for name, forward in (("ends", ENDS), ("breaks", LENGTH_OF_NAN)):
        mixer = tiny.plugin(tmp_path, name, forward=forward)
        screen(resolve_any(tiny.tiny(mixer=mixer, test_contexts=(64, 512))))
    # It sees a later token where all else is no number.
    sees = tiny.plugin(
        tmp_path, "sees", forward=f"{ENDS}    y = torch.where(at == 0, x[:, -1:].mean(), y)"
    )
    with pytest.raises(MixerError, match="it sees later tokens"):
        screen(resolve_any(tiny.tiny(mixer=sees, test_contexts=(64, 512))))


def test_a_check_of_a_mixer_does_not_pass_where_its_outputs_end(tmp_path: Path) -> None:
    forward = ENDS.replace(str(FROM), "1000")
    mixer = tiny.plugin(tmp_path, "ends", forward=forward)
    rows = {row.property: row for row in rk.check(mixer)}
    assert rows["causal"].passed is False
    assert "not finite as it starts" in rows["causal"].compared

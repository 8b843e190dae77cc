"""What competes in a preset, and how its learning rate is chosen."""

from itertools import pairwise

import pytest

from rulekeep.contestants import RATES, Contestant, chosen_rate, contestants, rate_runs
from rulekeep.presets import EXAM_MIXERS, PRESETS, SEEDS, exam
from rulekeep.registry import resolve
from rulekeep.specs import RunSpec, UsageError
from rulekeep.store import Record

BASE = {"task": "recite", "task_options": {"placement": "early"}, "seed": 1}


def made(spec: RunSpec, dev_loss: float) -> Record:
    filled = resolve(spec).spec.model_dump(mode="json")
    rows = [{"split": "dev", "val_loss": dev_loss}, {"split": "test", "val_loss": -99.0}]
    return {"spec": filled, "evaluations": rows if dev_loss == dev_loss else []}


def test_options_in_brackets_go_to_the_mixer_or_to_the_run() -> None:
    one, two = contestants(
        "delta[heads=8,added_positions=earliness], my.py:M[on=true,a=null,b=none]"
    )
    assert one == Contestant("delta", {"heads": 8}, {"added_positions": "earliness"})
    assert two == Contestant("my.py:M", {"on": True, "a": None, "b": "none"}, {})
    assert one.spec(seed=3).mixer_options == {"heads": 8}


@pytest.mark.parametrize("text", ["", "delta[", "delta[heads]", "a]b", "delta[heads=8]]"])
def test_what_is_no_contestant_is_said(text: str) -> None:
    with pytest.raises(UsageError):
        contestants(text)


def test_the_lowest_dev_loss_chooses_and_test_is_not_looked_at() -> None:
    (one,) = contestants("delta")
    losses = dict(zip(RATES, (2.0, 1.0, 3.0), strict=True))
    records: list[Record] = []
    assert chosen_rate(one, records, BASE) is None
    for spec in rate_runs(one, records, BASE):
        records.append(made(spec, losses[spec.learning_rate]))
    assert len(rate_runs(one, records, BASE)) == 3
    assert chosen_rate(one, records, BASE) == 3e-3


def test_a_grid_is_extended_once_where_its_edge_is_best() -> None:
    (one,) = contestants("delta")
    records = [made(spec, spec.learning_rate) for spec in rate_runs(one, [], BASE)]
    extended = rate_runs(one, records, BASE)
    assert [spec.learning_rate for spec in extended] == [*RATES, 0.000333333]
    assert chosen_rate(one, records, BASE) is None
    records.append(made(extended[-1], 0.0))
    assert rate_runs(one, records, BASE) == extended
    assert chosen_rate(one, records, BASE) == 0.000333333


def test_a_rate_that_diverged_never_wins() -> None:
    (one,) = contestants("delta")
    losses = dict(zip(RATES, (2.0, float("nan"), 3.0), strict=True))
    records = [made(spec, losses[spec.learning_rate]) for spec in rate_runs(one, [], BASE)]
    records += [made(spec, 4.0) for spec in rate_runs(one, records, BASE)[3:]]
    assert chosen_rate(one, records, BASE) == 1e-3


def test_contestants_do_not_take_each_others_records() -> None:
    rotary, plain = contestants("attention[positions=rotary],attention[positions=none]")
    records = [made(spec, 1.0) for spec in rate_runs(rotary, [], BASE)]
    assert rotary.ran(records[0])
    assert not plain.ran(records[0])
    assert chosen_rate(plain, records, BASE) is None


def test_the_exam_gives_every_mixer_the_same_runs_at_its_own_rate() -> None:
    first = exam([])
    assert len(first) == 3 * len(EXAM_MIXERS)
    records = [
        made(spec, abs(spec.learning_rate - (3e-3 if spec.mixer == "slots" else 4e-3)))
        for spec in first
    ]
    second = exam(records)
    rest = [spec for spec in second if spec not in first]
    by_mixer = {}
    for spec in second:
        key = (spec.mixer, str(spec.mixer_options), spec.added_positions)
        same = spec.model_dump(exclude={"mixer", "mixer_options", "added_positions"})
        by_mixer.setdefault(key, []).append(same)
    assert len(by_mixer) == len(EXAM_MIXERS)
    assert all(one == other for one, other in pairwise(by_mixer.values()))
    assert len(rest) == len(EXAM_MIXERS) * (8 * len(SEEDS) - 1)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_made(name: str) -> None:
    function = PRESETS[name]
    specs = function([]) if name in ("exam", "exam-long") else function()
    assert specs
    for spec in specs:
        if isinstance(spec, RunSpec):
            resolve(spec)

"""What competes in a preset, and how its learning rate is chosen."""

from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path

import pytest
import torch
from report_records import typed
from scripts import script

from rulekeep.records.store import Record
from rulekeep.running.building import resolve
from rulekeep.running.costs import state_bytes
from rulekeep.running.training import build
from rulekeep.specs import AnySpec, MixerSpec, RunSpec, UsageError, mixer_specs
from rulekeep.sweeps.asked import Grid, grid_of
from rulekeep.sweeps.presets import (
    CATALOGUE,
    PRESETS,
    SEEDS,
    catalogue,
    quick,
)
from rulekeep.sweeps.rates import RATES, tuned

ROOT = Path(__file__).parent.parent
# test_literature.py has those of its study.
BEYOND, LADDER, SIZES, BOUNDS = (
    script(name, "studies") for name in ("beyond", "ladder", "catalogue", "bounds")
)
SIZED, BYTES = SIZES.CATALOGUE_16_KIB, SIZES.STATE_BYTES
OF_STUDIES = [SIZES.catalogue_16_kib, SIZES.state_bytes, BEYOND.beyond, BEYOND.beyond_attention]
OF_STUDIES += [LADDER.ladder, BOUNDS.rule_counts, BOUNDS.wide]
BASE = {"task": "recite", "task_options": {"placement": "early"}, "seed": 1}


def made(
    spec: RunSpec,
    *validation_losses: float,
    test_loss: float = -99.0,
    scores: tuple[float, float] | None = None,
) -> Record:
    """A run that was validated so often; one that diverged, a NaN, has no evaluations.

    `scores` are retention and exact on 128 examples.
    """
    found = resolve(spec)
    scored = {} if scores is None else {"retention": scores[0], "exact": scores[1], "n": 128}
    rows = [
        {"split": split, "context": spec.context, "val_loss": loss, **scored}
        for split, loss in (
            *(("validation", loss) for loss in validation_losses),
            ("test", test_loss),
        )
    ]
    ended = all(loss == loss for loss in validation_losses)
    values = {
        "id": found.id, "kind": "run", "status": "done" if ended else "diverged",
        "asked": found.asked, "versions": found.versions,
        "spec": found.spec.model_dump(mode="json"), "evaluations": rows if ended else [],
    }  # fmt: skip
    (one,) = typed([values])
    return one


def test_options_in_brackets_go_to_the_mixer_or_to_the_run() -> None:
    one, two = mixer_specs(
        "delta[heads=8,added_positions=earliness], my.py:M[on=true,a=null,b=none]"
    )
    assert one == MixerSpec("delta", {"heads": 8}, {"added_positions": "earliness"})
    assert two == MixerSpec("my.py:M", {"on": True, "a": None, "b": "none"}, {})
    assert one.spec(seed=3).mixer_options == {"heads": 8}


def test_a_variant_is_written_as_it_is_read() -> None:
    others = mixer_specs(
        'my.py:M[on=true,off=false,a=null,b=none,c=0.5,d="1e3",e="true",f="null",g="NaN",'
        'h="a,b",i="[c]",j="\\"d",k=d",l="]"],my.py:N[a="],b=["]'
    )
    assert [*others[0].options.values()] == [
        True, False, None, "none", 0.5, "1e3", "true", "null", "NaN", "a,b", "[c]", '"d', 'd"', "]",
    ]  # fmt: skip
    for one in (*CATALOGUE, *SIZED, *BYTES, *LADDER.LADDER, *others):
        assert mixer_specs(one.text) == (one,)


def test_a_rate_of_its_own_is_refused_where_a_grid_chooses_it() -> None:
    (one,) = mixer_specs("delta[learning_rate=0.01]")
    assert {spec.learning_rate for spec in quick(mixers=[one])} == {0.01}
    with pytest.raises(UsageError, match="delta: the preset chooses learning_rate"):
        catalogue([], mixers=[one])


def test_the_lowest_mean_dev_loss_chooses_and_test_is_not_looked_at() -> None:
    (one,) = mixer_specs("delta")
    # At either length alone, by its better or its worse length another rate would be chosen.
    losses = dict(zip(RATES, ((0.0, 7.0), (1.0, 5.0), (4.0, 4.0)), strict=True))
    # On test the lowest rate is by far the best, alone and beside validation.
    on_test = dict(zip(RATES, (-9.0, 0.0, 0.0), strict=True))
    records: list[Record] = []
    assert tuned(one, records, BASE).rate is None
    for spec in tuned(one, records, BASE).grid:
        rate = spec.learning_rate
        records.append(made(spec, *losses[rate], test_loss=on_test[rate]))
    assert len(tuned(one, records, BASE).grid) == 3
    assert tuned(one, records, BASE).rate == 3e-3


def test_the_extension_of_a_grid_is_chosen_where_it_is_best() -> None:
    (one,) = mixer_specs("delta")
    records = [made(spec, spec.learning_rate) for spec in tuned(one, [], BASE).grid]
    (extension,) = tuned(one, records, BASE).grid[3:]
    records.append(made(extension, extension.learning_rate))
    assert extension.learning_rate < RATES[0]
    assert tuned(one, records, BASE).rate == extension.learning_rate


def test_a_length_that_was_tested_later_chooses_no_rate() -> None:
    (one,) = mixer_specs("delta")
    worst, *others = (
        made(spec, abs(spec.learning_rate - 3e-3)) for spec in reversed(tuned(one, [], BASE).grid)
    )
    (dev, *_) = worst.evaluations
    easy = dev.model_copy(update={"context": dev.context // 2, "figures": {"val_loss": -9.0}})
    tested = worst.model_copy(update={"evaluations": (easy, *worst.evaluations)})
    assert tuned(one, [tested, *others], BASE).rate == 3e-3


def test_three_seeds_choose_what_one_does_not() -> None:
    """The rate that is best in seed 1 learns nothing in the next two."""
    (one,), seeds = mixer_specs("delta"), (1, 2, 3)

    def exact(spec: RunSpec) -> float:
        return 1.0 if spec.learning_rate == 3e-3 or spec.seed == 1 else 0.1

    def done(specs: list[RunSpec]) -> list[Record]:
        return [made(spec, -spec.learning_rate, scores=(1.0, exact(spec))) for spec in specs]

    alone = done(tuned(one, [], BASE).grid)
    asked = tuned(one, alone, BASE, seeds).grid
    assert [(spec.learning_rate, spec.seed) for spec in asked] == [
        (rate, seed) for rate in RATES for seed in seeds
    ]
    assert tuned(one, alone, BASE, seeds).rate is None
    by_one = [*alone, *done(tuned(one, alone, BASE).grid[3:])]
    assert tuned(one, by_one, BASE).rate > 3e-3
    assert tuned(one, [*alone, *done(asked)], BASE, seeds).rate == 3e-3


def test_a_model_that_was_tested_at_other_lengths_is_not_trained_again_for_the_grid() -> None:
    (one,) = mixer_specs("delta")
    near, far = (
        {**BASE, "context": 256, "test_contexts": at} for at in ([64, 256], [64, 256, 512])
    )
    asked = {spec.learning_rate: spec for spec in tuned(one, [], far).grid}
    shorter = {
        spec.learning_rate: made(spec, spec.learning_rate) for spec in tuned(one, [], near).grid
    }
    records = [shorter[rate] for rate in RATES[1:]]
    assert tuned(one, records, far).grid == [asked[RATES[0]]]
    assert tuned(one, records, far).rate is None
    # One that was tested as is asked goes before: it is a run of this sweep.
    records += [shorter[RATES[0]], made(asked[RATES[0]], 1.0)]
    assert tuned(one, records, far).grid == [asked[RATES[0]]]
    assert tuned(one, records, far).rate == RATES[1]
    assert [spec.learning_rate for spec in tuned(one, list(shorter.values()), far).grid] == [
        pytest.approx(RATES[0] / 3, rel=1e-3)
    ]


@pytest.mark.parametrize(
    "other",
    [{"test_contexts": [256, 512]}, {"validation_examples": 64}, {"seed": 2}, {"steps": 700}],
)
def test_a_model_that_was_trained_or_looked_at_otherwise_chooses_no_rate(other: dict) -> None:
    (one,) = mixer_specs("delta")
    base = {**BASE, "context": 256, "test_contexts": [64, 256]}
    records = [made(spec, spec.learning_rate) for spec in tuned(one, [], {**base, **other}).grid]
    assert [spec.learning_rate for spec in tuned(one, records, base).grid] == [*RATES]
    assert tuned(one, records, base).rate is None


@pytest.mark.parametrize(
    ("taker", "other"),
    [
        ("attention[positions=none]", "attention[positions=rotary]"),
        ("attention", "attention[positions=rotary]"),
        ("delta", "delta[heads=8]"),
        ("delta", "delta[width=32]"),
        ("delta", "delta[added_positions=earliness]"),
    ],
)
def test_variants_do_not_take_each_others_records(taker: str, other: str) -> None:
    (one,), (two,) = mixer_specs(taker), mixer_specs(other)
    records = [made(spec, abs(spec.learning_rate - 3e-3)) for spec in tuned(two, [], BASE).grid]
    assert tuned(two, records, BASE).rate == 3e-3
    assert tuned(one, records, BASE).rate is None
    older = [row.model_copy(update={"versions": {**row.versions, two.mixer: 0}}) for row in records]
    assert tuned(two, older, BASE).rate is None
    # Where a record comes from says nothing about what it is of.
    elsewhere = [row.model_copy(update={"source": "older"}) for row in records]
    assert tuned(two, elsewhere, BASE).rate == 3e-3


def test_the_catalogue_chooses_on_early_recite_and_keeps_the_grids_run_of_the_chosen_rate() -> None:
    (one,) = mixer_specs("delta")
    specs = catalogue([], mixers=[one])
    records = [made(spec, abs(spec.learning_rate - 3e-3)) for spec in specs]
    runs = {spec.model_dump_json(): spec for spec in catalogue(records, mixers=[one])}.values()
    cells = [(spec.task, spec.task_options["placement"], spec.seed) for spec in runs]
    assert len(specs) == 3
    assert len(runs) == 2 + 2 * len(SEEDS)
    assert cells.count(("recite", "early", 1)) == 3
    assert {(task, placement) for task, placement, _ in cells} == {
        ("recite", "early"), ("override", "marked"),
    }  # fmt: skip
    assert {spec.steps for spec in runs} == {1000}


@pytest.mark.slow
@pytest.mark.parametrize("function", [*PRESETS.values(), *OF_STUDIES], ids=lambda one: one.__name__)
def test_every_preset_and_sweep_of_a_study_can_be_made(
    function: Callable[..., Sequence[AnySpec]],
) -> None:
    specs = function([]) if "records" in signature(function).parameters else function()
    assert specs
    # One of each mixer with its options, and one of each task with its own.
    asked = [spec for spec in specs if isinstance(spec, RunSpec)]
    first = {f"{spec.mixer}{spec.mixer_options}": spec for spec in asked}
    first |= {f"{spec.task}{spec.task_options}": spec for spec in asked}
    for spec in first.values():
        resolve(spec)


@pytest.mark.slow
@pytest.mark.parametrize("one", [*CATALOGUE, *SIZED, *BYTES], ids=str)
def test_the_catalogue_is_run_at_attentions_number_of_parameters(one: MixerSpec) -> None:
    def parameters(one: MixerSpec) -> int:
        model = build(resolve(one.spec(context=256)))
        return sum(parameter.numel() for parameter in model.parameters())

    share = parameters(one) / parameters(CATALOGUE[0])
    assert abs(share - 1) <= (0.01 if one in CATALOGUE else 0.05)


_SIZES = [(one, 16) for one in SIZED]
_SIZES += [(one, (1, 4, 16, 64)[i % 4]) for i, one in enumerate(BYTES)]


@pytest.mark.slow
@pytest.mark.parametrize(("one", "kib"), _SIZES, ids=str)
def test_equal_bytes_are_so_many_kib_of_state_a_layer(one: MixerSpec, kib: int) -> None:
    model = build(resolve(one.spec(context=256)))
    with torch.no_grad():
        _, state = model(torch.zeros(1, 300, dtype=torch.long))
    # What sparse_delta's gate has pending is 28 bytes a head more than its memory.
    pending = 28 * one.options.get("heads", 4) if one.mixer == "sparse_delta" else 0
    held = state_bytes(state.layers) / 2
    # A short convolution's last inputs come in steps of a key's width.
    most = 1.02 if one.options.get("short_convolution") else 1
    assert 0.99 * kib * 2**10 <= held <= most * kib * 2**10 + pending


def test_a_preset_takes_what_the_command_and_the_function_give() -> None:
    typed = Grid(seeds=["3,4"], tasks=["recite"], test_contexts=["96"])  # type: ignore[arg-type]
    assert typed == Grid(seeds=(3, 4), tasks=("recite",), test_contexts=(96,))
    make, chooses = grid_of("quick", "delta", typed)
    specs = make(Path("none"))
    assert not chooses
    assert {(one.task, one.seed, one.tested[-1]) for one in specs} == {
        ("recite", seed, 96) for seed in (3, 4)
    }
    assert grid_of("standard", None, Grid(learning_rates=(0.001,)))[1]

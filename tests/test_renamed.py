"""Former names: read in specs, records, flags and files, said once, and kept inside ids."""

import json
import warnings
from functools import cache
from pathlib import Path

import pytest
from speed_records import speed_record, steps

from rulekeep.commands.run_options import spec_values
from rulekeep.mixers import MIXERS
from rulekeep.records import Record
from rulekeep.records.identity import identify
from rulekeep.records.store import read_runs, write_record
from rulekeep.running.resolving import resolve
from rulekeep.running.tasks import load_task
from rulekeep.specs import (
    ArticleCell,
    ArticleSpec,
    RunSpec,
    SpeedMixer,
    SpeedSpec,
    UsageError,
    mixer_specs,
    renamed,
)
from rulekeep.specs.renamed import RenamedWarning
from rulekeep.speed.record import read_speed
from rulekeep.sweeps.presets import PRESETS
from rulekeep.sweeps.runners import resolve_any
from rulekeep.tasks import FewCombinationsWarning

RESULTS = Path(__file__).parents[1] / "results"
FOLDERS = sorted(path.parent.name for path in RESULTS.glob("*/records.jsonl"))
FORMER = {
    "task": "rulekeep.mixed_recall:MixedRecall",
    "mixer": "sparse_delta",
    "mixer_options": {
        "toll": 0,
        "gate_taps": 1,
        "margin": 0,
        "toll_after": 0,
        "slack": 0,
        "short_convolution": False,
    },
    "dev_examples": 64,
    "context": 256,
}
PRESENT = {
    "task": "rulekeep.tasks.mixed_recall:MixedRecall",
    "mixer": "sparse_delta",
    "mixer_options": {
        "gate_penalty": 0,
        "gate_kernel": 1,
        "penalty_margin": 0,
        "penalty_start": 0,
        "gate_stretch": 0,
        "short_convolution": False,
    },
    "validation_examples": 64,
    "context": 256,
}


@cache
def records(folder: str) -> list[Record]:
    return read_runs(RESULTS / folder).records


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_committed_record_resolves_to_its_own_id_under_present_names(folder: str) -> None:
    former = {*renamed.FIELDS, *renamed.FORMER_TASKS, *renamed.OPTIONS["sparse_delta"]}
    first: dict[str, Record] = {}
    for record in records(folder):
        assert record.asked is not None
        spec = record.spec
        if spec.mixer == "sparse_delta":
            assert not former & spec.mixer_options.keys()
        assert not former & {spec.task, *spec.rest, *record.asked, *record.versions}
        model = str(spec.rest.get("model"))
        assert renamed.filled_variant(model, {}) == model
        assert identify(record.spec.kind, record.asked, record.versions) == record.id
        apart = {**record.asked, "seed": None, "learning_rate": None}
        # The model of a language run is no part of the repository.
        if record.spec.kind != "language":
            first.setdefault(json.dumps([apart, {**record.versions}], sort_keys=True), record)
    # Of those that differ in no more than seed and rate the first.
    for record in first.values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewCombinationsWarning)
            assert resolve_any(record.spec.parsed()).id == record.id


def test_a_spec_under_former_names_is_that_under_present_ones() -> None:
    with pytest.warns(RenamedWarning) as caught:
        former = RunSpec(**FORMER)
    assert former == RunSpec(**PRESENT)
    assert resolve(former).id == resolve(RunSpec(**PRESENT)).id
    said = [str(one.message) for one in caught]
    assert len(said) == 7
    assert "option 'toll' of sparse_delta is now 'gate_penalty'" in said
    assert "'dev_examples' is now 'validation_examples'" in said
    assert not [one for one in said if "\n" in one]


@pytest.mark.filterwarnings("ignore::rulekeep.specs.renamed.RenamedWarning")
@pytest.mark.parametrize(
    "options", [{"read_first": False, "toll": 0}, {"read_first": False, "gate_penalty": 0}]
)
@pytest.mark.parametrize("examples", ["dev_examples", "validation_examples"])
def test_a_run_of_results_has_its_id_by_either_name(
    options: dict[str, object], examples: str
) -> None:
    asked = {
        "task_options": {"placement": "marked"},
        "mixer": "sparse_delta",
        "mixer_options": {**options, "short_convolution": False},
        "hidden": 240,
        "added_positions": "earliness",
        "context": 256,
        "length_growth": 0.65,
        "test_contexts": [64, 256, 1028, 4096, 16384],
        "seed": 3,
        "steps": 1000,
        examples: 128,
    }
    found = resolve(RunSpec.parse_json(asked)).id
    assert found in {record.id for record in records("catalogue")}


def test_attention_with_a_convolution_is_what_its_records_name_by_a_file() -> None:
    name = "benchmarks/convolved_attention.py:ConvolvedAttention"
    for options, former in (({"conv_size": 8}, {}), ({"conv_size": 4, "heads": 1}, {"taps": 4})):
        asked = {"mixer": "attention", "mixer_options": options}
        former |= {key: value for key, value in options.items() if key == "heads"}
        found = {"mixer": name} | ({"mixer_options": former} if former else {})
        assert (renamed.former(asked), renamed.current(found)) == (found, asked)
    for options in ({}, {"heads": 8}, {"conv_size": 8, "positions": "rotary"}):
        asked = {"mixer": "attention", "mixer_options": options}
        assert renamed.former(asked) == asked
        assert renamed.former_versions({"attention": 1}, asked) == {"attention": 1}
    assert renamed.current({"mixer": name, "mixer_options": 3})["mixer"] == "attention"
    with pytest.warns(RenamedWarning, match="is now 'attention'"):
        assert RunSpec(mixer=name).mixer_options == {"conv_size": 8}


def test_both_names_of_an_option_are_too_many() -> None:
    given = {"toll": 0, "gate_penalty": 1}
    with pytest.raises(UsageError, match="'toll' is now 'gate_penalty', and both are given"):
        RunSpec.parse(mixer="sparse_delta", mixer_options=given)


def test_an_option_of_another_mixer_keeps_its_name() -> None:
    asked = {"mixer": "mine.py:Mine", "mixer_options": {"toll": 1, "margin": 2}}
    assert renamed.current(asked) == asked
    assert renamed.option("attention+mine.py:Mine", "mine.py:Mine.toll") == "mine.py:Mine.toll"
    hybrid = {"sparse_delta.toll": 0, "slack": 1}
    assert renamed.current({"mixer": "delta+sparse_delta", "mixer_options": hybrid}) == {
        "mixer": "delta+sparse_delta",
        "mixer_options": {
            "sparse_delta.gate_penalty": 0,
            "gate_stretch": 1,
            "sparse_delta.short_convolution": False,
        },
    }


def test_what_is_turned_there_and_back_is_what_it_was() -> None:
    text = "sparse_delta[heads=2,gate_kernel=2,gate_penalty=0,short_convolution=false]"
    for asked in (PRESENT, {"model": text}):
        former = renamed.former(asked)
        assert former != asked
        assert renamed.current(former) == asked


@pytest.mark.parametrize("values", [{}, {"mixer": 3, "mixer_options": {"toll": 0}}, {"task": []}])
def test_values_of_any_type_are_read(values: dict[str, object]) -> None:
    assert renamed.current(values) == values


def test_a_variant_as_a_user_writes_it_may_have_former_names() -> None:
    with pytest.warns(RenamedWarning) as caught:
        (one,) = mixer_specs("sparse_delta[toll-after=0,hidden=240,dev-examples=8]")
    assert len(caught) == 2
    assert one.options == {"penalty_start": 0}
    assert one.settings == {"hidden": 240, "validation_examples": 8}


OPTION = "short_convolution"


@pytest.mark.parametrize(
    ("mixer", "key"), [("sparse_delta", OPTION), ("delta+sparse_delta", f"sparse_delta.{OPTION}")]
)
def test_a_record_from_before_a_default_changed_has_the_default_of_then(
    mixer: str, key: str
) -> None:
    before = renamed.current({"mixer": mixer})
    assert before == {"mixer": mixer, "mixer_options": {key: False}}
    assert renamed.former(before) == {"mixer": mixer}
    # What is asked for now is said in its record, and has the id of its former option.
    now = resolve(RunSpec(mixer=mixer))
    assert now.asked == {"mixer": mixer, "mixer_options": {key: True}}
    assert renamed.current(now.asked) == renamed.former(now.asked) == now.asked
    assert now.id == resolve(RunSpec(mixer=mixer, mixer_options={key: True})).id
    assert now.id != resolve(RunSpec(mixer=mixer, mixer_options={key: False})).id


def test_the_table_of_changed_defaults_has_the_present_ones() -> None:
    for mixer, options in renamed.PRESENT.items():
        assert options.keys() == renamed.FORMER[mixer].keys()
        for option, present in options.items():
            assert MIXERS.defaults(mixer)[option] == present != renamed.FORMER[mixer][option]


@pytest.mark.parametrize("text", ["sparse_delta", "sparse_delta[heads=2]"])
def test_an_article_cell_says_an_option_whose_default_has_changed(text: str) -> None:
    (cell,) = ArticleSpec.parse(models=(text,), contexts=(64,)).cells()
    assert cell.joining_mixer is not None
    assert cell.joining_mixer.options[OPTION] is True
    before = renamed.current({"model": text})
    assert ArticleCell(context=64, **before).joining_mixer.options[OPTION] is False
    assert renamed.former(before) == {"model": text}
    given = "sparse_delta[short-convolution=false]"
    assert ArticleCell(context=64, model=given).model == given


def test_an_article_cell_may_have_former_names() -> None:
    text = "sparse_delta[heads=2,gate_taps=2,toll=0]"
    with pytest.warns(RenamedWarning, match="is now 'sparse_delta"):
        cell = ArticleCell(context=64, model=text)
    with pytest.warns(RenamedWarning) as caught:
        cells = ArticleSpec.parse(models=(text,), contexts=(64,)).cells()
    assert cell.model == "sparse_delta[heads=2,gate_kernel=2,gate_penalty=0,short_convolution=true]"
    assert cells == [cell]
    assert len(caught) == 2


def test_a_flag_may_have_its_former_name() -> None:
    with pytest.warns(RenamedWarning, match="'dev_examples' is now 'validation_examples'"):
        assert spec_values(None, {"dev_examples": 8}) == {"validation_examples": 8}


def test_a_task_may_have_its_former_name() -> None:
    with pytest.warns(RenamedWarning, match="is now 'rulekeep.tasks.mixed_recall:MixedRecall'"):
        found = load_task("rulekeep.mixed_recall:MixedRecall")
    assert found is load_task("rulekeep.tasks.mixed_recall:MixedRecall")


@pytest.mark.parametrize("name", renamed.FORMER_PRESETS)
def test_a_preset_may_have_its_former_name(name: str) -> None:
    with pytest.warns(RenamedWarning, match=f"preset '{name}' is now"):
        assert renamed.tell_preset(name) in PRESETS
    assert name not in PRESETS


def test_a_measurement_of_speed_is_read_under_present_names(tmp_path: Path) -> None:
    mixer = SpeedMixer(name="sparse_delta", options={"penalty_start": 0})
    asked = SpeedSpec(mixers=(mixer,), contexts=(64,), threads=(1,))
    rows = {"attention": [1.0], mixer.label: [2.0]}
    made = speed_record(asked, *steps({64: rows}))
    former = json.dumps(made.as_recorded).replace("penalty_start", "toll_after")
    assert "toll_after" in former
    former = former.replace(",short_convolution=false", "").replace(
        ', "short_convolution": false', ""
    )
    assert "short_convolution" not in former
    write_record(tmp_path / "speed.json", json.loads(former))
    record = read_speed(tmp_path / "speed.json")
    assert record.spec.mixers[1].label == "sparse_delta[penalty_start=0,short_convolution=false]"
    assert [set(one.rows) for one in record.measured] == [set(rows)]

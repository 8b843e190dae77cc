"""What the id of a run is made of: what was asked for, and declared versions."""

from pathlib import Path

import pytest
from pydantic import create_model

from rulekeep.mixers import GRU, Delta
from rulekeep.records.identity import identify
from rulekeep.running.building import resolve
from rulekeep.specs import ArticleCell, PredictorSpec, RunSpec
from rulekeep.sweeps.planning import resolve_any
from rulekeep.tasks import Recite

PLUGIN = """
import torch
from torch import nn
{top}

class Mine(nn.Module):
    {inside}

    def __init__(self, width, *, heads: int = 4):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def init_state(self, batch_size):
        return (self.linear.weight.new_zeros(batch_size, 1),)

    def forward(self, x, state=None):
        return self.linear(x) * {factor}, state or self.init_state(len(x))
"""


def plugin(folder: Path, *, top: str = "", inside: str = "", factor: str = "1.0") -> RunSpec:
    """A run of a mixer in a file that is written anew."""
    place = folder / f"v{len(list(folder.iterdir()))}"
    place.mkdir()
    (place / "mine.py").write_text(PLUGIN.format(top=top, inside=inside, factor=factor))
    return RunSpec(mixer=f"{place / 'mine.py'}:Mine")


def version(spec: RunSpec) -> int | str:
    return resolve(spec).versions[spec.mixer]


@pytest.mark.parametrize(
    "spec",
    [
        RunSpec(),
        RunSpec(mixer="delta+sliding_window", context=256, test_contexts=(64, 256)),
        ArticleCell(context=64, model="delta"),
    ],
    ids=["run", "hybrid", "article"],
)
def test_a_field_added_with_a_default_changes_no_id(
    spec: RunSpec | ArticleCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = create_model(type(spec).__name__, __base__=type(spec), brand_new=(int, 7))
    again = wider.model_validate(spec.model_dump())
    assert again.model_dump()["brand_new"] == 7
    assert resolve_any(again).id == resolve_any(spec).id
    other = wider.model_validate({**spec.model_dump(), "brand_new": 8})
    assert resolve_any(other).id != resolve_any(spec).id


def test_an_option_added_with_a_default_changes_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resolve(RunSpec(mixer="delta", task_options={"rules": 2})).id

    def wider(
        self: Delta, width: int, *, heads: int = 4, brand_new: bool = False, **given: object
    ) -> None:
        original(self, width, heads=heads, key_width=None, output_gate=False)

    original = Delta.__init__
    monkeypatch.setattr(Delta, "__init__", wider)
    assert resolve(RunSpec(mixer="delta", task_options={"rules": 2})).id == before


def test_a_tasks_option_added_with_a_default_changes_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = RunSpec(task_options={"rules": 2})
    before = resolve(spec).id
    wider = create_model("Wider", __base__=Recite.options_type, brand_new=(int, 7))
    monkeypatch.setattr(Recite, "options_type", wider)
    after = resolve(spec)
    assert (after.spec.task_options["brand_new"], after.id) == (7, before)


def test_what_is_said_that_is_the_default_changes_no_id() -> None:
    spelt = RunSpec(
        mixer="delta", mixer_options={"heads": 4}, hidden=256, test_contexts=(128,),
        task_options={"rules": 4},
    )  # fmt: skip
    assert resolve(spelt).id == resolve(RunSpec(mixer="delta")).id


def test_a_hybrids_layers_are_in_the_order_of_its_name() -> None:
    made = [make() for make in resolve(RunSpec(mixer="delta+gru", layers=4)).mixers]
    assert [type(mixer) for mixer in made] == [Delta, GRU, Delta, GRU]


def test_every_mixer_of_a_hybrid_has_its_version_in_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resolve(RunSpec(mixer="gru+delta"))
    assert [*before.versions] == ["protocol", "recite", "gru", "delta"]
    for kind in (GRU, Delta):
        with monkeypatch.context() as patch:
            patch.setattr(kind, "version", 2)
            assert resolve(RunSpec(mixer="gru+delta")).id != before.id


def test_runs_of_two_kinds_have_two_ids() -> None:
    assert len({identify(kind, {"seed": 2}, {"protocol": 1}) for kind in ("run", "article")}) == 2


@pytest.mark.parametrize("kind", [Delta, Recite, RunSpec])
def test_a_higher_version_changes_the_id(
    kind: type[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resolve(RunSpec(mixer="delta"))
    monkeypatch.setattr(kind, "version", 2)
    after = resolve(RunSpec(mixer="delta"))
    assert after.id != before.id
    assert sorted(after.versions.values()) == [1, 1, 2]


def test_source_text_is_kept_and_changes_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resolve(RunSpec(mixer="delta"))
    # As a renamed helper would: every digest of source text is another.
    monkeypatch.setattr("rulekeep.records.identity.PACKAGE", "0" * 64)
    after = resolve(RunSpec(mixer="delta"))
    assert (after.id, after.source == before.source) == (before.id, False)


def test_a_changed_plugin_file_changes_the_id_unless_it_declares_a_version(tmp_path: Path) -> None:
    first, same, other = plugin(tmp_path), plugin(tmp_path), plugin(tmp_path, factor="2.0")
    assert version(first) == version(same) != version(other)
    one = plugin(tmp_path, inside="version = 3")
    two = plugin(tmp_path, inside="version = 3", factor="2.0")
    assert (version(one), version(two)) == (3, 3)


def test_a_mixer_of_the_catalogue_lends_a_plugin_no_version(tmp_path: Path) -> None:
    """It changes what it derives from: its own file is what counts."""
    path = tmp_path / "derived.py"
    path.write_text("from rulekeep.mixers import Delta\n\n\nclass Mine(Delta):\n    chunk = 8\n")
    assert isinstance(version(RunSpec(mixer=f"{path}:Mine")), str)


def test_an_outside_model_counts_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(
        "from rulekeep.running.evaluation import GeneratingPredictor\n\n\n"
        "class Mine(GeneratingPredictor):\n"
        "    def __init__(self, task): ...\n"
        "    def generate(self, prompts, given, is_given): return given\n"
    )
    made = resolve_any(PredictorSpec(predictor=f"{path}:Mine"))
    assert [*made.versions] == ["protocol", "recite", f"{path}:Mine"]
    assert isinstance(made.versions[f"{path}:Mine"], str)

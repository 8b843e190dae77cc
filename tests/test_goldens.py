"""The code gives the golden figures: nothing that a version stands for has changed."""

import json
from pathlib import Path
from typing import Any

import pytest
from goldens import figures, kept
from goldens.cases import cases

from rulekeep.mixers import MIXERS
from rulekeep.tasks import TASKS

CHANGELOG = (Path(__file__).parents[1] / "CHANGELOG.md").read_text()
ENTRIES = {family: kept.load(family) for family in kept.FAMILIES}


def named(family: str) -> Any:
    names = sorted({*ENTRIES[family], *kept.FAMILIES[family].names()})
    return pytest.mark.parametrize("name", names, ids=str)


def holds(family: str, name: str) -> None:
    problem = kept.problem(family, name, ENTRIES[family].get(name))
    if problem:
        pytest.fail(problem, pytrace=False)


@named("defaults")
def test_default_values_are_those_of_the_version(name: str) -> None:
    holds("defaults", name)


@named("tasks")
def test_a_task_draws_the_examples_of_its_version(name: str) -> None:
    holds("tasks", name)


@named("mixers")
def test_a_mixer_gives_the_outputs_states_and_gradients_of_its_version(name: str) -> None:
    holds("mixers", name)


@pytest.mark.slow
@named("training")
def test_a_run_begins_with_the_losses_of_its_versions(name: str) -> None:
    holds("training", name)


@pytest.mark.slow
@named("article")
def test_the_article_begins_with_the_losses_of_its_versions(name: str) -> None:
    holds("article", name)


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_of_the_catalogue_has_goldens(name: str) -> None:
    assert f"mixer {name}" in ENTRIES["defaults"], f"{kept.WRITE} defaults"
    assert name in {case["mixer"] for case in cases()["mixers"].values()}
    trained = (figures.mixers_of(case) for case in cases()["training"].values())
    assert any(name in of for of in trained)


@pytest.mark.parametrize("name", [*TASKS, *figures.OUTSIDE_TASKS])
def test_every_task_of_the_catalogue_has_goldens(name: str) -> None:
    assert f"task {name}" in ENTRIES["defaults"], f"{kept.WRITE} defaults"
    assert name in ENTRIES["tasks"], f"{kept.WRITE} tasks"
    trained = {case["task"] for case in cases()["training"].values()}
    # The article's own has runs of another kind.
    assert name in trained or (name == "article" and ENTRIES["article"])


def test_every_higher_version_has_a_changelog_line() -> None:
    lines = CHANGELOG.splitlines()
    for family, entries in ENTRIES.items():
        for one in entries.values():
            for name, version in one["versions"].items():
                for number in range(2, version + 1):
                    said = f"version {number}"
                    found = any(name in line and said in line for line in lines)
                    assert found, f"{family}: {name} has {said}; add a line to CHANGELOG.md"


def test_goldens_are_small() -> None:
    sizes = [path.stat().st_size for path in kept.HERE.glob("*.json")]
    assert sum(sizes) < 1_500_000


def golden(version: int = 1, **figures: Any) -> dict[str, Any]:
    return {"versions": {"delta": version, "protocol": 1}, "figures": figures}


def test_changed_figures_are_written_only_with_a_higher_version() -> None:
    before, other = golden(output=1.5), golden(output=1.25)
    with pytest.raises(kept.RefusedError, match=r"output is 1\.25, was 1\.5, with delta v"):
        kept.renewed("mixers", "delta", before, other)
    higher = golden(2, output=1.25)
    assert kept.renewed("mixers", "delta", before, higher) == higher
    with pytest.raises(kept.RefusedError, match="version"):
        kept.renewed("mixers", "delta", golden(2, output=1.5), other)


def test_a_higher_version_is_written_though_no_figure_changed() -> None:
    higher = golden(2, output=1.5)
    assert kept.renewed("mixers", "delta", golden(output=1.5), higher) == higher


def test_a_new_option_needs_no_higher_version_and_a_changed_default_does() -> None:
    before = golden(heads=4)
    wider = golden(heads=4, taps=8)
    assert kept.renewed("defaults", "mixer delta", before, wider) == wider
    for changed in (golden(heads=8), golden(), golden(heads=8, taps=8)):
        with pytest.raises(kept.RefusedError):
            kept.renewed("defaults", "mixer delta", before, changed)


def test_a_new_figure_beside_the_old_ones_is_no_new_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, beside = golden(retention=0.5), golden(retention=0.5, repeats=0.25)
    assert kept.renewed("tasks", "recite", before, beside) == beside
    with pytest.raises(kept.RefusedError, match=r"retention is 0\.75"):
        kept.renewed("tasks", "recite", before, golden(retention=0.75, repeats=0.25))
    name = "recite"
    held = json.loads(json.dumps(ENTRIES["tasks"][name]))
    monkeypatch.setattr(kept, "entry", lambda *_: ENTRIES["tasks"][name])
    del held["figures"][next(iter(held["figures"]))]
    assert kept.problem("tasks", name, held) is None


def test_what_another_machine_gives_within_bounds_changes_no_golden() -> None:
    before = {**golden(losses=[3.0, 2.5]), "machine": "one"}
    near = {**golden(losses=[3.00001, 2.5]), "machine": "another"}
    far = {**golden(losses=[3.001, 2.5]), "machine": "another"}
    assert kept.renewed("training", "x", before, near) == before
    for other in (far, {**near, "machine": "one"}):
        with pytest.raises(kept.RefusedError):
            kept.renewed("training", "x", before, other)


def test_moments_are_compared_by_the_size_of_the_terms() -> None:
    before = golden(output=[1000, 1e-3, 5000.0, 2.0])
    noise = golden(output=[1000, 1.0001e-3, 5000.0, 2.0])
    change = golden(output=[1000, 1.1e-3, 5000.0, 2.0])
    assert not kept.differences("mixers", "x", before, noise)
    assert kept.differences("mixers", "x", before, change)
    size = golden(output=[999, 1e-3, 5000.0, 2.0])
    assert kept.differences("mixers", "x", before, size) == ["output: 999 numbers, were 1000"]

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


def golden(version: int = 1, **figures: Any) -> dict[str, Any]:
    return {"versions": {"delta": version, "protocol": 1}, "figures": figures}


def on(machine: str, loss: float) -> dict[str, Any]:
    return {**golden(losses=[loss, 2.5]), "machine": machine}


@pytest.mark.parametrize(
    ("family", "before", "now", "is_kept"),
    [
        # Figures change with a higher version alone, which is written by itself too.
        ("mixers", golden(output=1.5), golden(output=1.25), None),
        ("mixers", golden(output=1.5), golden(2, output=1.25), False),
        ("mixers", golden(2, output=1.5), golden(output=1.25), None),
        ("mixers", golden(output=1.5), golden(2, output=1.5), False),
        # A new option or figure needs none; a changed default and a figure that is gone do.
        ("defaults", golden(heads=4), golden(heads=4, taps=8), False),
        ("defaults", golden(heads=4), golden(heads=8, taps=8), None),
        ("defaults", golden(heads=4), golden(), None),
        ("tasks", golden(retention=0.5), golden(retention=0.5, repeats=0.25), False),
        ("tasks", golden(retention=0.5), golden(retention=0.75, repeats=0.25), None),
        # What another machine gives within bounds changes no bit.
        ("training", on("one", 3.0), on("another", 3.00001), True),
        ("training", on("one", 3.0), on("another", 3.001), None),
        ("training", on("one", 3.0), on("one", 3.00001), None),
    ],
)
def test_a_golden_is_written_anew_with_a_higher_version_or_what_is_new_alone(
    family: str, before: dict[str, Any], now: dict[str, Any], is_kept: bool | None
) -> None:
    if is_kept is None:
        with pytest.raises(kept.RefusedError):
            kept.renewed(family, "x", before, now)
    else:
        assert kept.renewed(family, "x", before, now) == (before if is_kept else now)


def test_a_new_figure_beside_the_old_ones_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    held = json.loads(json.dumps(ENTRIES["tasks"]["recite"]))
    monkeypatch.setattr(kept, "entry", lambda *_: ENTRIES["tasks"]["recite"])
    del held["figures"][next(iter(held["figures"]))]
    assert kept.problem("tasks", "recite", held) is None


def test_moments_are_compared_by_the_size_of_the_terms() -> None:
    before = golden(output=[1000, 1e-3, 5000.0, 2.0])
    noise = golden(output=[1000, 1.0001e-3, 5000.0, 2.0])
    change = golden(output=[1000, 1.1e-3, 5000.0, 2.0])
    assert not kept.differences("mixers", "x", before, noise)
    assert kept.differences("mixers", "x", before, change)
    size = golden(output=[999, 1e-3, 5000.0, 2.0])
    assert kept.differences("mixers", "x", before, size) == ["output: 999 numbers, were 1000"]

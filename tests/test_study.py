"""A study: records become tables, figures and claims, and documents are held to them."""

import json
import math
from collections.abc import Callable
from contextlib import chdir
from functools import cache
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from report_records import Values, cell_of_a_study, record, typed, written

from rulekeep import study as studies
from rulekeep.analysis.rows import (
    Rows,
    Span,
    TaskSetting,
    Variant,
)
from rulekeep.analysis.summary import summarise, summarise_scores
from rulekeep.records.store import read_runs, whole_runs
from rulekeep.registry import find_function
from rulekeep.specs import UsageError, mixer_specs
from rulekeep.study import Claim, Family, table_of_families
from rulekeep.sweeps.planning import identity

ROOT = Path(__file__).parent.parent
EARLY = TaskSetting("recite")
FILE = """
from pathlib import Path

from rulekeep.analysis.rows import TaskSetting, Variant, pivot
from rulekeep.specs import RunSpec
from rulekeep.study import Claim, Study, Sweep

EARLY, MARKED = SETTINGS = [TaskSetting("recite", at) for at in ("early", "marked")]
VARIANTS = {"ours": Variant("gru", "our gru"), "theirs": Variant("slots", "slots")}


def kept(rows):
    return pivot(
        "retention", {one.name: one for one in SETTINGS},
        {one.name: key for key, one in VARIANTS.items()},
        lambda setting, key: rows.text(key, setting, "retention", 256),
    )


def mean(rows):
    return rows.known("ours", EARLY, "retention", 256).mean


def sweep():
    return [
        RunSpec(mixer="gru", width=8, layers=1, context=64, steps=2, warmup_steps=1, batch_size=2,
                evaluate_every=2, validation_examples=2, test_examples=2)
    ]


STUDY = Study(
    question="What does a gru keep?", variants=VARIANTS, settings=SETTINGS, context=64,
    seeds=(1, 2), sweeps={"tiny": Sweep("sweep")}, tables={"kept": kept},
    claims={"mean": Claim(mean, minimum=0.5)},
)
"""
README = """# Made up

It keeps <!-- claim:tiny.mean -->?<!-- /claim -->.

<!-- table:tiny.kept -->
<!-- /table -->
"""


RECORDS = [
    cell_of_a_study("gru", 1, 0.5),
    cell_of_a_study("gru", 2, 0.75),
    cell_of_a_study("slots", 1, 0.25),
    # One seed of two: not run in full.
    cell_of_a_study("gru", 1, 0.5, "marked"),
    # Another variant of the same mixer.
    cell_of_a_study("slots", 1, 1.0, mixer_options={"slots": 64}),
]


def write(root: Path) -> None:
    """A project with one study, studies/tiny.py, its records and a document."""
    for place, values in enumerate(RECORDS):
        written(root / "results" / "tiny", values | {"id": f"run{place}"})
    (root / "README.md").write_text(README)
    (root / "studies").mkdir()
    (root / "studies" / "tiny.py").write_text(FILE)


def test_a_study_builds_its_files_fills_its_documents_and_then_they_are_right(
    run: Callable, tmp_path: Path
) -> None:
    write(tmp_path)
    code, output, _ = run("study", "tiny", "build")
    assert (code, output) == (0, b"tiny: 1 table, 0 figures, 1 claim, as the records give them\n")
    results = tmp_path / "results" / "tiny"
    assert json.loads((results / "claims.json").read_text()) == {"mean": "0.625"}
    table = (results / "tables" / "kept.md").read_text()
    # One seed of two is not a row, and 64 slots are another variant.
    assert [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]
    ] == [
        ["recite, early", summarise_scores([0.5, 0.75]).text(), "not run"],
        ["recite, marked", "not run", "not run"],
    ]
    readme = (tmp_path / "README.md").read_text()
    assert "It keeps <!-- claim:tiny.mean -->0.625<!-- /claim -->" in readme
    assert f"<!-- table:tiny.kept -->\n\n{table.strip()}\n\n<!-- /table -->" in readme
    # What stands beside the records is no broken one.
    code, output, _ = run("verify", "results/tiny")
    assert (code, output) == (0, b"5 records whole, 0 broken, 0 runs without a record\n")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run("study", "tiny", "build")[0] == 0
    assert run("study", "--all", "check")[0] == 0
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


def test_a_study_makes_what_its_records_lack(run: Callable, tmp_path: Path) -> None:
    write(tmp_path)
    code, output, _ = run("study", "tiny", "run", "--workers", "1")
    assert code == 0
    assert b"(1 of 1 run finished)" in output
    assert len([*(tmp_path / "results" / "tiny").iterdir()]) == len(RECORDS) + 1


def test_the_example_of_the_documents_is_a_study(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "studies.md").read_text()
    file = tmp_path / "my_study.py"
    file.write_text(text.split("```python\n")[1].split("```")[0])
    one = studies.opened(str(file))
    assert (one.name, one.root, [*one.study.sweeps]) == ("my_study", tmp_path, ["my_study"])
    for key, share in (("mine", 0.75), ("delta", 0.5)):
        values = record(
            one.study.variants[key].mixer, 1, {512: share}, context=128, hidden=256,
            added_positions="none", task_options={"placement": "early", "rules": 4},
        )  # fmt: skip
        written(tmp_path / "results" / "my_study", values | {"id": key})
    assert studies.build(one) == []
    claims = json.loads((one.folder / "claims.json").read_text())
    assert claims["more"].startswith("0.250")


# Several studies read one folder.
WHOLE_RUNS, MIXER_SPECS = cache(whole_runs), cache(mixer_specs)
with chdir(ROOT):
    STUDIES = studies.names()


@pytest.mark.parametrize("name", STUDIES)
def test_the_documents_are_what_the_committed_records_give(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_what_it_shows(_: Figure, file: BytesIO, *, metadata: dict[str, str], **__: Any) -> None:
        file.write(metadata["Description"].encode())

    # Only what a figure shows is compared.
    monkeypatch.setattr(Figure, "savefig", of_what_it_shows)
    monkeypatch.setattr(studies, "whole_runs", WHOLE_RUNS)
    monkeypatch.setattr("rulekeep.analysis.rows.mixer_specs", MIXER_SPECS)
    monkeypatch.chdir(ROOT)
    assert studies.check(studies.opened(name)) == []


def test_every_mark_of_a_document_is_of_a_study() -> None:
    assert studies.stray(ROOT, STUDIES) == []


def rows(*values: Values, **variants: Variant) -> Rows:
    given = variants or {"ours": Variant("gru", "ours")}
    return Rows(typed(values), given, [EARLY], context=64, seeds=(1, 2))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("beyond", "beyond-attention"),
        ("beyond", "attention-controls"),
        ("beyond", "attention-controls-aside"),
        ("bounds", "longer-training"),
        ("bounds", "rule-counts-aside"),
        ("literature", "literature"),
    ],
)
def test_a_study_plans_every_run_that_its_folder_has(
    name: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Mixers of files are named by where they stand in the project.
    monkeypatch.chdir(ROOT)
    one = studies.opened(name)
    function = find_function(f"{one.path}:{one.study.sweeps[folder].what}", {}, "sweep")
    records = read_runs(ROOT / "results" / folder).records
    planned = function(records) if signature(function).parameters else function()
    # It may plan more, which nobody has run yet.
    assert {record.id for record in records} <= {identity(spec) for spec in planned}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"versions": {"protocol": 1, "gru": 2}}, "old-1 and new are of two versions of the code"),
        (cell_of_a_study("gru", 2, 1.0, steps=2000), "old-2 and new are both seed 2 at rate 0.003"),
    ],
)
def test_results_of_two_versions_or_of_two_trainings_are_no_seeds_of_one_cell(
    other: Values, said: str
) -> None:
    old = [cell_of_a_study("gru", seed, 0.5) | {"id": f"old-{seed}"} for seed in (1, 2)]
    new = cell_of_a_study("gru", 2, 1.0) | other | {"id": "new"}
    with pytest.raises(UsageError) as found:
        rows(*old, new)
    assert str(found.value) == (
        f"recite, early, variant 'ours': runs {said}; "
        "keep one of them, or choose by `only` of the Variant"
    )
    # A run without a result is none of two, and `only` chooses.
    rows(*old, new | {"status": "failed"})
    chosen = Variant("gru", "ours", lambda one: one.id.startswith("old"))
    assert rows(*old, new, ours=chosen).known("ours", EARLY, "retention", 256).mean == 0.5


@pytest.mark.core
@pytest.mark.parametrize("diverged", [1, 2])
def test_a_diverged_seed_leaves_no_lowest_and_no_span_whichever_it_is(diverged: int) -> None:
    kept = {1: 0.5, 2: 0.75}
    found = rows(*(
        cell_of_a_study("gru", seed, share, status="diverged" if seed == diverged else "done")
        for seed, share in kept.items()
    )).known("ours", EARLY, "retention", 256)  # fmt: skip
    span = Span.of(found.seeds.values())
    assert [math.isnan(one) for one in (found.mean, found.lowest, *span)] == [True] * 4
    # No claim states it, though it sets no bound.
    assert Claim(len).failure(span, rows()) is not None


CLEAR, NONE = [0.5, 0.6, 0.55], [0.5, -0.4, 0.1]


def test_every_comparison_of_a_study_is_in_its_table_and_one_seed_is_no_test() -> None:
    family = Family(
        lambda _: {
            "clear": -summarise(CLEAR), "none": summarise(NONE), "one": summarise([0.5]),
            "lost": summarise([0.5, 0.6, float("nan")]),
        }
    )  # fmt: skip
    table = table_of_families({"`gru` beside others": family}, rows())
    lines = [[cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()[2:]]
    assert [(name, *rest) for name, _, *rest in lines] == [
        ("clear", "0.003", "0.008", "shown, behind"),
        ("none", "0.822", "1.000", "not shown"),
        # The others' difference is not that of a variant with a seed that diverged.
        ("lost", "1.000", "1.000", "not shown"),
    ]

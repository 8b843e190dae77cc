"""Every figure that README states comes out of the committed records."""

import json
import statistics
from pathlib import Path

import pytest
from report_records import asked, written
from report_records import record as made_up
from scripts import script

from rulekeep.analysis.groups import grouped
from rulekeep.analysis.table import merged, tabulated
from rulekeep.article.published import comparison, published_figures
from rulekeep.commands.records import verify
from rulekeep.records.store import Record, read_runs
from rulekeep.running.building import resolve
from rulekeep.specs import ArticleCell, mixer_specs
from rulekeep.sweeps.presets import PRESETS

ROOT = Path(__file__).parent.parent
RUN_FOLDERS = (
    "exam",
    "quick",
    "beyond",
    "beyond-attention",
    "catalogue",
    "attention-controls",
    "attention-controls-aside",
    "literature",
    "longer-training",
    "rule-counts",
    "rule-counts-aside",
    "wide",
)

# The author's own script with other seeds, contexts 64 then 256: rule accuracy.
AUTHORS_SCRIPT = {
    (1, 64, "attention"): 0.965,
    (1, 64, "compressed"): 0.673,
    (1, 256, "attention"): 0.454,
    (1, 256, "compressed"): 0.406,
    (2, 64, "attention"): 0.906,
    (2, 64, "compressed"): 0.523,
    (2, 256, "attention"): 0.477,
    (2, 256, "compressed"): 0.610,
    (3, 64, "attention"): 0.942,
    (3, 64, "compressed"): 0.565,
    (3, 256, "attention"): 0.508,
    (3, 256, "compressed"): 0.412,
}


def records(folder: str) -> dict[ArticleCell, Record]:
    kept = read_runs(ROOT / "results" / folder)
    assert kept.notes == []
    return {ArticleCell.model_validate(row.spec.parsed()): row for row in kept.records}


def figure(row: Record, name: str) -> float:
    return row.evaluations[0].figures[name]


@pytest.mark.parametrize("folder", ["article", "article-amd"])
def test_the_committed_runs_have_every_published_figure_within_tolerance(folder: str) -> None:
    rows = records(folder)
    assert len(rows) == 6
    assert all(published_figures(cell) for cell in rows)
    assert comparison(rows)[2] == []


def test_the_committed_run_has_every_published_figure_to_three_decimals() -> None:
    for cell, row in records("article").items():
        published = published_figures(cell)
        for name in ("val_loss", "token_accuracy", "rule_accuracy"):
            # The last digit of a published figure may have been rounded either way.
            assert figure(row, name) == pytest.approx(getattr(published, name), abs=0.00051)


def test_on_another_processor_no_accuracy_is_further_off_than_the_readme_says() -> None:
    off = [
        abs(figure(row, name) - getattr(published_figures(cell), name))
        for cell, row in records("article-amd").items()
        for name in ("token_accuracy", "rule_accuracy")
    ]
    assert [round(gap, 3) for gap in sorted(off)[-2:]] == [0.001, 0.002]


@pytest.mark.parametrize(("cell", "expected"), AUTHORS_SCRIPT.items(), ids=str)
def test_other_seeds_give_what_the_authors_script_gives(cell: tuple, expected: float) -> None:
    seed, context, model = cell
    row = records("article-seeds")[ArticleCell(seed=seed, context=context, model=model)]
    assert figure(row, "rule_accuracy") == pytest.approx(expected, abs=0.0105)


def test_what_is_timed_is_under_its_limit() -> None:
    def rows(name: str) -> list[dict]:
        return json.loads((ROOT / "results" / "timings" / f"{name}.json").read_text())["rows"]

    assert max(row["seconds"] for row in rows("smoke")) < 60
    assert max(row["seconds"] for row in rows("quick")) < 600
    assert rows("overhead")[0]["loss"] <= 0.15
    assert statistics.median(rows("report")[0]["seconds"]) <= 20
    assert min(statistics.median(row["tokens_per_second"]) for row in rows("tasks")) >= 5e6


def test_every_planted_bug_is_caught_by_the_record() -> None:
    mutations = script("mutations")
    planted = mutations.MUTATIONS
    found = mutations.recorded(json.loads((ROOT / "results" / "mutations.json").read_text()))
    # By name: a file or a test may have moved since.
    assert {one["name"] for one in found} >= {bug.name for bug in planted}
    assert all(one["caught"] for one in found)


def test_who_stands_beside_a_quick_exam_ran_what_it_runs_now() -> None:
    beside = mixer_specs(
        "attention[positions=rotary],attention[conv_size=8,added_positions=earliness],delta,"
        "gated_delta,sparse_delta[hidden=232],"
        "sparse_delta[short_convolution=false,hidden=240,added_positions=earliness]"
    )
    specs = PRESETS["quick"](mixers=beside)
    made = [resolve(spec) for spec in specs]
    runs = read_runs(ROOT / "results" / "quick").records
    assert {one.id for one in runs} == {one.id for one in made}
    # By the versions that are declared now, where a record declares any.
    assert all(one.versions in [run.versions for run in made] for one in runs if one.versions)
    assert {one.status for one in runs} == {"done"}


def test_a_result_that_stands_twice_is_one_and_what_has_failed_stands_for_itself() -> None:
    (done, *_) = read_runs(ROOT / "results" / "exam").records
    for status, count in (("done", 1), ("diverged", 1), ("failed", 2)):
        one = done.model_copy(update={"status": status})
        further = asked(one, test_contexts=(64, 16384), long_test_examples=64)
        assert len(merged([one, further])) == count
    assert len(merged([done, done.model_copy(update={"status": "failed"})])) == 2


def test_a_run_tested_further_in_another_folder_is_one_run_with_both_lengths(
    tmp_path: Path,
) -> None:
    first = made_up(retention={64: 0.9, 256: 0.5})
    tests = [one for one in first["evaluations"] if one["split"] == "test"]
    # The length that both have stays the first's.
    further = [{**tests[0], "retention": 0.5}, {**tests[-1], "context": 16384, "retention": 0.25}]
    spec = {**first["spec"], "test_contexts": [tests[0]["context"], 16384]}
    second = {**first, "spec": spec, "evaluations": further}
    for name, record in (("a", first), ("b", second)):
        written(tmp_path / name, record)
    found = (one for name in ("a", "b") for one in read_runs(tmp_path / name).records)
    (group,) = grouped(tabulated(merged(found))[0])
    (run,) = group.runs.values()
    assert len(run.record.evaluations) == len(first["evaluations"]) + 1
    assert group.by_seed("retention", 16384) == {run.seed: 0.25}
    assert group.by_seed("retention", tests[0]["context"]) == {run.seed: tests[0]["retention"]}


@pytest.mark.parametrize("folder", [*RUN_FOLDERS, "certificates"])
def test_the_committed_records_are_whole(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(str(ROOT / "results" / folder)) == 0
    assert ", 0 broken, 0 runs without a record" in capsys.readouterr().out


@pytest.mark.parametrize("folder", RUN_FOLDERS)
def test_the_committed_records_are_all_read_and_none_sees_what_follows(folder: str) -> None:
    kept = read_runs(ROOT / "results" / folder)
    assert kept.notes == []
    ids = [one.id for one in kept.records]
    assert len(ids) == len(set(ids)) > 0
    # Told the true answer so far, each says what it says by itself until it errs; but for ties.
    for record in kept.records:
        for row in record.evaluations:
            found = row.figures
            other = abs(found["exact"] - found["exact_teacher_forced"]) * found["n"]
            assert other < 1.5, (record.id, row.split, row.context)

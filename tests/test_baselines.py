"""A run beside the committed baselines, the protocol it takes by itself, and the demo."""

import time
from functools import cache
from pathlib import Path

import pytest
from scripts import ROOT, script

from rulekeep.analysis.baselines import BASELINES, SHIPPED, baseline, baselines, protocol
from rulekeep.commands import beside, demo, live
from rulekeep.commands.run_options import with_defaults
from rulekeep.records import Record
from rulekeep.records.pack import PACKED, packed
from rulekeep.records.store import results
from rulekeep.specs import RunSpec
from rulekeep.sweeps.planning import identity


@cache
def committed(folder: str) -> list[Record]:
    return results(ROOT / "results" / folder)


def lstm(task: str) -> Record:
    found = committed("catalogue")
    return next(one for one in found if (one.spec.mixer, one.spec.task) == ("lstm", task))


@pytest.mark.docs
def test_the_records_that_ship_are_those_of_the_results() -> None:
    made = packed(script("baselines", "tools").chosen())
    assert (SHIPPED / PACKED).read_bytes() == made, "python tools/baselines.py"
    assert len(made) < 1_000_000
    known = {one.id: one for folder in ("catalogue", "quick") for one in committed(folder)}
    for one in baselines():
        assert one.evaluations == known[one.id].evaluations
        assert baseline(one) in BASELINES


def test_a_run_stands_beside_the_baselines_of_its_protocol(
    capsys: pytest.CaptureFixture[str],
) -> None:
    beside.show(lstm("recite"))
    shown = capsys.readouterr().out
    head, *lines = shown.splitlines()
    assert head.split()[-4:] == ["64", "256", "1,028", "4,096"]
    rows = [line for line in lines if "0." in line or "1.000" in line]
    kept = {line.split("  ")[0].split(",")[0]: line for line in rows}
    assert "0.185" in kept["attention"]
    assert "0.999" in kept["sparse_delta"]
    assert lines[-1 - ("no committed" in lines[-1])].startswith("this run: lstm")


def test_a_run_of_another_protocol_is_compared_with_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = lstm("recite")
    spec = found.spec.model_copy(update={"rest": {**found.spec.rest, "steps": 999}})
    beside.show(found.model_copy(update={"spec": spec}))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("nothing to compare with")


@pytest.mark.parametrize(
    ("given", "tested"),
    [
        ({}, (256, 1028, 4096)),
        ({"context": 64}, (64, 256, 1024)),
        ({"context": 64, "test_contexts": [64]}, (64,)),
        ({"added_positions": "learned"}, (256,)),
    ],
    ids=str,
)
def test_a_run_takes_the_baselines_protocol_where_nothing_is_said(
    given: dict, tested: tuple[int, ...]
) -> None:
    spec = RunSpec.parse_json(with_defaults(given))
    assert spec.tested == tested
    assert spec.steps == 1000
    # A spec keeps its own defaults: ids are made of what differs from them.
    assert (RunSpec().context, RunSpec().steps) == (128, 600)


def test_the_protocol_is_that_of_the_catalogue() -> None:
    made = lstm("recite")
    spec = RunSpec.parse_json(
        with_defaults({"mixer": "lstm", "task_options": made.spec.task_options})
    )
    values = {"id": "mine", "kind": "run", "status": "failed", "spec": spec.model_dump(mode="json")}
    mine = Record.read(values)
    assert protocol(made) == protocol(mine)


def test_where_there_is_no_terminal_a_line_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "SECONDS_APART", 0.02)
    with live._saying(lambda: "step 1 of 2"):
        time.sleep(0.2)
    said = capsys.readouterr().err.splitlines()
    assert len(said) > 1
    assert set(said) == {"step 1 of 2"}


@pytest.mark.process
def test_the_demo_ends_in_a_table_and_a_report(
    run, tmp_path: Path, monkeypatch, undrawn: None
) -> None:
    short = {"steps": 2, "warmup_steps": 0, "test_examples": 8, "long_test_examples": 8,
             "validation_examples": 8, "test_contexts": (96,)}  # fmt: skip
    monkeypatch.setattr(demo, "_TASK", {**demo._TASK, **short})
    code, output, errors = run("demo", "--out", "runs", "--workers", "1")
    assert code == 0, errors
    said = output.decode()
    for name in demo._MIXERS:
        assert name in said
    assert (tmp_path / "runs" / "report" / "report.html").exists()
    assert "report.html" in said


def test_the_demo_is_one_task_for_all_its_mixers() -> None:
    specs = [RunSpec.parse_json({**demo._TASK, **own}) for own in demo._MIXERS.values()]
    assert len({identity(spec) for spec in specs}) == len(demo._MIXERS)
    assert len({(spec.task, spec.context, spec.steps, spec.tested) for spec in specs}) == 1

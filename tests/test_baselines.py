"""A run beside the committed baselines, the protocol it takes by itself, and the demo."""

from functools import cache
from inspect import signature
from pathlib import Path

import pytest
from scripts import ROOT, script

from rulekeep.analysis.table import Run
from rulekeep.commands import demo
from rulekeep.commands.beside import BASELINES, baseline
from rulekeep.records import Record
from rulekeep.records.folders import CERTIFICATES, SHIPPED, kept_beside
from rulekeep.records.pack import PACKED, packed
from rulekeep.records.store import results
from rulekeep.reporting.certified import certificates
from rulekeep.running.building import resolve
from rulekeep.specs import RunSpec, usual
from rulekeep.sweeps.presets import PRESETS


@cache
def committed(folder: str) -> list[Record]:
    return results(ROOT / "results" / folder)


@pytest.mark.docs
def test_the_records_that_ship_are_those_of_the_results() -> None:
    tool = script("baselines", "tools")
    for folder, records in tool.shipped().items():
        assert (folder / PACKED).read_bytes() == packed(records), "python tools/baselines.py"
    known = {one.id: one for folder in ("catalogue", "quick") for one in committed(folder)}
    shipped = [one for folder in sorted(SHIPPED.iterdir()) for one in results(folder)]
    for one in shipped:
        assert one.evaluations == known[one.id].evaluations
        # A report shows any attention that ships beside runs of its protocol.
        assert one.spec.mixer != "attention" or baseline(one) in BASELINES
    assert {baseline(one) for one in shipped} == {None, *BASELINES}


@pytest.mark.parametrize("preset", ["smoke", "quick", "standard", "long", "catalogue"])
def test_every_test_of_a_preset_has_a_certificate_that_ships(preset: str) -> None:
    function = PRESETS[preset]
    specs = function([]) if signature(function).parameters.get("records") else function()
    shown = [Run.of(as_planned(spec)) for spec in specs]
    table, notes = certificates(shown, kept_beside(CERTIFICATES, []), "RUNS")
    assert not notes
    verdicts = [row[2].text for row in table.rows]
    assert verdicts == ["passes"] * len(verdicts)
    assert verdicts


def as_planned(spec: RunSpec) -> Record:
    """A record that has no evaluation yet: what is asked for is what would be tested."""
    resolved = resolve(spec)
    values = {"kind": spec.kind, **resolved.spec.model_dump(mode="json")}
    return Record.read({"id": resolved.id, "status": "failed", "spec": values})


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
    spec = RunSpec.parse(**usual(given))
    assert spec.tested == tested
    assert spec.steps == 1000
    # A spec keeps its own defaults: ids are made of what differs from them.
    assert (RunSpec().context, RunSpec().steps) == (128, 600)


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

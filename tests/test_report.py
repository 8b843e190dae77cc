"""What the report says of made-up records: figures counted by hand, and text that stays text."""

import csv
import itertools
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from report_records import HOSTILE, Values, groups_of, read_runs, record, typed

from rulekeep.analysis.table import joined, merged
from rulekeep.reporting.tables import csv_lines
from rulekeep.reporting.write import write_report


def report(folder: Path, records: list[Any], notes: tuple[str, ...] = ()) -> dict[str, str]:
    """The text files of a report by name."""
    written = write_report(typed(records), folder, "rulekeep report runs", notes)
    assert all(path.exists() for path in written)
    return {path.name: path.read_text() for path in written if path.suffix != ".png"}


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def cell(text: str, table: str, mixer: str, figure: str, **where: str) -> dict[str, str]:
    """The one line of the CSV."""
    wanted = {"table": table, "mixer": mixer, "figure": figure, **where}
    (found,) = [row for row in csv_rows(text) if wanted.items() <= row.items()]
    return found


def five(mixer: str, kept: list[float], **more: Any) -> list[Values]:
    return [record(mixer, seed, {64: v, 256: v / 2}, **more) for seed, v in enumerate(kept, 1)]


@pytest.mark.usefixtures("undrawn")
def test_the_rate_is_chosen_on_dev_and_only_it_is_shown(tmp_path: Path) -> None:
    records = []
    for rate, loss, kept in ((0.001, 1.2, 0.99), (0.003, 0.8, 0.6), (0.01, 0.9, 0.99)):
        records += five("slots", [kept] * 5, rate=rate, dev_loss=loss)
    files = report(tmp_path, records)
    row = cell(files["tables.csv"], "scores", "slots", "retention", tested_at="64")
    assert (row["learning_rate"], row["mean"]) == ("0.003", "0.6")
    grid = [row for row in csv_rows(files["tables.csv"]) if row["table"] == "learning_rates"]
    assert [(row["learning_rate"], row["mean"], row["note"]) for row in grid] == [
        ("0.001", "1.2", ""), ("0.003", "0.8", "chosen"), ("0.01", "0.9", ""),
    ]  # fmt: skip


@pytest.mark.usefixtures("undrawn")
def test_all_seeds_of_two_rates_decide_and_not_those_of_a_third(tmp_path: Path) -> None:
    # Seed 1 alone prefers what the other four do not.
    losses = {0.001: [1.1] * 5, 0.01: [1.3, *[0.9] * 4], 0.003: [1.0], 0.03: [2.0]}
    records = [
        record("slots", seed, rate=rate, dev_loss=loss)
        for rate, every in losses.items()
        for seed, loss in enumerate(every, start=1)
    ]
    files = report(tmp_path, records)
    row = cell(files["tables.csv"], "scores", "slots", "retention", tested_at="64")
    assert (row["learning_rate"], row["seeds"]) == ("0.01", "5")
    grid = [row for row in csv_rows(files["tables.csv"]) if row["table"] == "learning_rates"]
    notes = {row["learning_rate"]: row["note"] for row in grid}
    # The rate above it was run too, if by one seed.
    assert notes["0.01"] == "chosen"


@pytest.mark.slow
def test_a_hostile_name_stays_text_everywhere(tmp_path: Path) -> None:
    names = (
        HOSTILE,
        "=cmd|' /C calc'!A0 $\\frac{1}$ and $",
        "_<b>bold</b> {{ 7 * 7 }}{% raw %} ]]> --> <!--",
        "a|b\n| c `x` [y](http://z) %{x} \u202e\x00\ud800 注意" + "x" * 5000,
    )
    records = []
    for hostile in names:
        records += [record(hostile, s, task=HOSTILE, other=hostile) for s in (1, 2)]
        records += [record("attention", 1, task=hostile)]
        records += [record(hostile, 3, status="failed", reason=hostile)]
    files = report(tmp_path, records, notes=names)
    html = files["report.html"]
    body = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert "<img" not in body
    assert "<b>" not in body
    assert html.lower().count("<script") == html.lower().count("</script") == 1
    for file, text in files.items():
        if file.endswith(".svg"):
            ElementTree.fromstring(text)
    for row in csv_rows(files["tables.csv"]):
        assert not any(str(value)[:1] in ("=", "@", "+") for value in row.values())
    lines = [line for line in files["report.md"].splitlines() if line.startswith("|")]
    assert lines
    assert not any("<img" in line or "](http" in line for line in lines)
    # Rows have the columns of their table's head.
    for head, line in itertools.pairwise(files["report.md"].splitlines()):
        if head.startswith("|") and line.startswith("|"):
            one, other = (len(re.findall(r"(?<!\\)\|", text)) for text in (head, line))
            assert one == other, line


def test_a_diverged_seed_has_failed_at_nothing_that_it_was_not_to_be_tested_at() -> None:
    records = [record("delta", seed, {64: 0.9}) for seed in (1, 2, 3)]
    records += [record("delta", 4, {64: 0.9}, status="diverged")]
    records += [record("delta", 5, {64: 0.9, 256: 0.5})]
    for one in records:
        for row in one["evaluations"]:
            del row["item_accuracy"]
    (group,) = groups_of(records)
    assert sorted(group.by_seed("retention", 64)) == [1, 2, 3, 4, 5]
    assert group.by_seed("retention", 256) == {5: 0.5}
    # A figure that the task does not have is none, and not one that diverged.
    assert group.by_seed("item_accuracy", 64) == {}
    # Where it does not say at what, at every length that others were tested at.
    del records[3]["spec"]["test_contexts"]
    (group,) = groups_of(records)
    assert sorted(group.by_seed("retention", 256)) == [4, 5]
    # Of a training that stands in two folders, what either asked for.
    twins = [record("delta", 4, kept, status="diverged") for kept in ({64: 0.9}, {256: 0.5})]
    (one,) = merged(typed({**twin, "evaluations": []} for twin in twins))
    assert read_runs([one])[0][0].test_contexts == (64, 256)


def test_seeds_of_two_versions_are_told_apart_by_the_version_that_differs() -> None:
    versions = {"protocol": 1, "recite": 1, "delta": 1}
    records = [{**record("delta", seed), "versions": versions} for seed in (1, 2)]
    # Source text is where a record comes from, and tells nothing apart.
    records[1]["source"] = "b" * 64
    assert read_runs(records)[1] == []
    records.append({**record("delta", 3), "versions": {**versions, "delta": 2}})
    assert "(seed 1, 2 by delta 1; seed 3 by delta 2)" in read_runs(records)[1][0]
    assert {run.label for run in read_runs(records)[0]} == {
        "delta, code delta 1", "delta, code delta 2",
    }  # fmt: skip


def test_of_two_tests_at_a_length_that_of_more_examples_is_shown() -> None:
    few, many = record(retention={64: 0.5}), record(retention={64: 0.9})
    for one, n in ((few, 10), (many, 1000)):
        for row in one["evaluations"]:
            row["n"] = n
    for pair in ((few, many), (many, few)):
        (run,) = read_runs([joined(*typed(pair))])[0]
        assert {
            row.figures["retention"] for row in run.record.evaluations if row.split == "test"
        } == {0.9}
    # What came out otherwise, or says nothing of its number, takes no test from the first.
    many["history"][-1]["train_loss"] = 7.0
    few["evaluations"][0]["n"], many["evaluations"][0]["n"] = None, "many"
    assert joined(*typed([few, many])).evaluations == typed([few])[0].evaluations
    few["history"], many["history"] = [{}], [{}]
    one, other = typed([few, many])
    assert joined(one, other).evaluations == (one.evaluations[0], other.evaluations[1])


@pytest.mark.parametrize(
    "text", ["=1+1", "＝1+1", "﹦1+1", "＋1", "－1", "＠SUM(A1)", "\u3000＝1", " =1", "−1", "％1"]
)
def test_no_text_of_a_csv_opens_as_a_formula_in_any_width(text: str) -> None:
    (row,) = list(csv.reader(csv_lines((), [[text, 1.5, -2.0]]).splitlines()[1:]))
    assert row == [f"'{text}", "1.5", "-2.0"]

"""What the report says of made-up records: figures counted by hand, and text that stays text."""

import csv
import itertools
import math
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from report_records import HOSTILE, Values, read_runs, record, study, typed

from rulekeep.analysis.cells import compared_at, contests, spoken
from rulekeep.analysis.merging import joined, merged, trained_apart
from rulekeep.printable import one_line
from rulekeep.records.record import name
from rulekeep.reporting import tables, write_report
from rulekeep.reporting.charts import Chart, Panel, Point, Series, Style, log_ticks, pareto_front
from rulekeep.reporting.drawing import draw
from rulekeep.reporting.figures import charts
from rulekeep.reporting.sentences import sentences
from rulekeep.reporting.text import csv_lines, csv_text

KEYS = ["retention", "overview", "state", "seconds", "training", "lengths", "costs"]


def report(folder: Path, records: list[Any], notes: tuple[str, ...] = ()) -> dict[str, str]:
    """The text files of a report by name."""
    said: list[str] = []
    written = write_report(typed(records, said), folder, "rulekeep report runs", (*notes, *said))
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
def test_figures_in_tables_are_those_counted_by_hand(tmp_path: Path) -> None:
    # Mean 0.8, deviation 0.1, half width 2.776 * 0.1 / sqrt(5) = 0.124; differences all 0.1 but
    # two: mean 0.1 exactly, no deviation.
    records = five("attention", [0.9, 0.7, 0.8, 0.9, 0.7]) + five(
        "slots", [1.0, 0.8, 0.9, 1.0, 0.8]
    )
    files = report(tmp_path, records)
    row = cell(files["tables.csv"], "scores", "attention", "retention", tested_at="64")
    assert float(row["mean"]) == pytest.approx(0.8)
    assert float(row["deviation"]) == pytest.approx(0.1)
    assert float(row["low_95"]) == pytest.approx(0.67583, abs=1e-5)
    assert float(row["high_95"]) == pytest.approx(0.92417, abs=1e-5)
    assert (row["seeds"], row["diverged"], row["few_seeds"]) == ("5", "0", "no")
    row = cell(files["tables.csv"], "differences", "slots", "retention", tested_at="64")
    assert float(row["mean"]) == pytest.approx(0.1)
    assert "0.800 (0.676 to 0.924)" in files["report.html"]
    assert "0.800 \\(0.676 to 0.924\\)" in files["report.md"]
    assert "2 of 5 (0.12 to 0.77)" in files["report.html"]
    assert "3 of 5 (0.23 to 0.88)" in files["report.html"]
    assert not any("few" in tag for tag in re.findall(r"<tr[^>]*>", files["report.html"]))
    # A layer each; one of three states none.
    assert ">1,024, ∞</td>" in files["report.html"]


@pytest.mark.usefixtures("undrawn")
def test_the_summary_is_three_computed_sentences(tmp_path: Path) -> None:
    records = five("attention", [0.9, 0.7, 0.8, 0.9, 0.7]) + five(
        "slots", [1.0, 0.8, 0.9, 1.0, 0.8]
    )
    html = report(tmp_path, records)["report.html"]
    summary = html.split('<div class="summary">')[1].split("</div>")[0]
    first, second, third = re.findall(r"<p>(.*?)</p>", summary)
    assert "slots keeps 0.450 (0.388 to 0.512) of the rules of recite at 256 tokens" in first
    assert "best of 2, chance 0.040, trained at 64" in first
    assert "1 of 1 differences in retention are above zero" in second
    assert "slots on recite, +0.050 (0.050 to 0.050)" in second
    assert "10 runs, of which 10 ended, 0 diverged and 0 failed; 0 of 4 cells" in third


def test_the_summary_of_many_tasks_says_who_keeps_most_how_often() -> None:
    records = []
    for place, task in enumerate(("apply", "override", "recall", "recite")):
        records += five("attention", [0.5] * 5, task=task)
        records += five("slots", [0.9, 0.8, 0.7, 0.9, 0.7] if place else [0.1] * 5, task=task)
    runs = read_runs(records).runs
    first, *_ = sentences(runs, contests(runs))
    assert first == (
        "At the longest context that several mixers were tested at, 256 tokens: slots keeps most "
        "in 3 of 4 tasks, from 0.400 (0.338 to 0.462) of the rules of override (chance 0.040) to "
        "0.400 (0.338 to 0.462) of the rules of recite (chance 0.040); attention keeps most in 1 "
        "of 4 tasks, 0.250 (0.250 to 0.250) of the rules of apply (chance 0.040)."
    )


def test_mixers_are_compared_no_further_than_two_of_them_were_tested() -> None:
    records = [record("attention", s, {64: 0.9, 256: 0.5}, seconds=10) for s in range(1, 6)]
    records += [record("slots", s, {64: 0.9, 256: 0.6}, seconds=20) for s in range(1, 6)]
    # Alone at 1,024 tokens, where it would be the best of one.
    further = {64: 0.9, 256: 0.4, 1024: 0.9}
    records += [record("delta", s, further, seconds=30) for s in range(1, 6)]
    runs = read_runs(records).runs
    found = contests(runs)
    first, second, _ = sentences(runs, found)
    assert first == (
        "At the longest context that several mixers were tested at, slots keeps 0.600 (0.600 to "
        "0.600) of the rules of recite at 256 tokens (best of 3, chance 0.040, trained at 64)."
    )
    assert "1 of 2 differences" in second
    drawn = {chart.key: chart for chart in charts(found)}
    for key, cost in (("state", [1024 * 256] * 3), ("seconds", [10, 30, 20])):
        (panel,) = drawn[key].panels
        assert panel.title == "recite, tested at 256"
        assert panel.chance == [(min(cost), 0.04), (max(cost), 0.04)]
        assert [(s.label, s.points[0].x, s.points[0].y) for s in panel.series] == [
            (label, x, y)
            for label, x, y in zip(
                ("attention", "delta", "slots"), cost, (0.5, 0.4, 0.6), strict=True
            )
        ]
    # Of one mixer it is its longest.
    (alone,) = contests(read_runs(records[10:]).runs)
    assert compared_at(alone.groups) == 1024


def test_the_summary_names_a_mechanism_from_outside_wherever_it_stands() -> None:
    tasks, records = ("apply", "override", "recall", "recite"), []
    for place, task in enumerate(tasks):
        records += five("attention", [0.5] * 5, task=task)
        records += five("mine.py:Mine", [0.9 - 0.2 * place] * 5, task=task)
    few = [one for one in records if one["spec"]["task"] in tasks[1:3]]
    said = []
    for given in (records, few, records[:5]):
        runs = read_runs(given).runs
        said.append(sentences(runs, contests(runs))[1])
    assert said[:2] == [
        "mine.py:Mine, of 4 tasks, is nearest to the most with 0.450 (0.450 to 0.450) of the rules "
        "of apply at 256 tokens, trained at 64 (nothing keeps more, chance 0.040), least near with "
        "0.150 (0.150 to 0.150) of the rules of recite at 256 tokens, trained at 64 (the most is "
        "0.250, chance 0.040).",
        "mine.py:Mine keeps 0.350 (0.350 to 0.350) of the rules of override at 256 tokens, trained "
        "at 64 (nothing keeps more, chance 0.040); 0.250 (0.250 to 0.250) of the rules of recall "
        "at 256 tokens, trained at 64 (nothing keeps more, chance 0.040).",
    ]
    assert said[2].startswith("No mixer shares a seed with attention")


def test_what_is_not_defined_is_no_cell_of_few_seeds() -> None:
    asked = {"added_positions": "learned", "test_contexts": [64, 256]}
    runs = read_runs([record(seed=seed, retention={64: 0.9}, **asked) for seed in range(5)]).runs
    *_, third = sentences(runs, contests(runs))
    assert third.endswith("0 of 1 cells have fewer than 5 seeds and are marked.")


def test_no_records_give_a_report_that_says_so(tmp_path: Path) -> None:
    files = report(tmp_path, [])
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(
        f"{key}.{kind}" for key in KEYS for kind in ("png", "svg")
    )
    assert files["report.html"].count('class="empty"') >= len(KEYS)
    assert "No test retention yet." in files["report.md"]
    assert "No test retention yet." in files["retention.svg"]
    assert len(csv_rows(files["tables.csv"])) == 0
    assert "No run has a test retention yet" in files["report.html"]


def test_one_seed_has_no_interval_and_is_marked_everywhere(tmp_path: Path) -> None:
    files = report(tmp_path, [record(seed=3)])
    row = cell(files["tables.csv"], "scores", "attention", "retention", tested_at="64")
    assert (row["mean"], row["low_95"], row["high_95"]) == ("0.9", "", "")
    assert row["few_seeds"] == "yes"
    assert "0.900 (1 seed: few)" in files["report.html"]
    assert '<tr class="few"' in files["report.html"]
    assert "1 few" in files["report.md"]
    assert '"circle-open"' in files["report.html"]
    assert "0.90*" in files["lengths.svg"]


@pytest.mark.usefixtures("undrawn")
def test_a_diverged_seed_counts_in_its_cell_and_a_failed_one_does_not(tmp_path: Path) -> None:
    records = five("slots", [0.9, 0.7, 0.8, 0.9, 0.7])
    records += [record("slots", 6, status="diverged", reason="loss not finite at step 31")]
    records += [record("slots", 7, status="killed", reason="signal 9")]
    files = report(tmp_path, records)
    row = cell(files["tables.csv"], "scores", "slots", "retention", tested_at="64")
    assert (row["seeds"], row["diverged"]) == ("5", "1")
    assert float(row["mean"]) == pytest.approx(0.8)
    assert "0.800 (0.676 to 0.924; 1 of 6 diverged)" in files["report.html"]
    assert "2 of 6 (0.10 to 0.70)" in files["report.html"]
    for reason in ("loss not finite at step 31", "signal 9"):
        assert reason in files["report.html"]
        assert reason in files["report.md"]
    assert "5 ended, 1 diverged and 1 failed" in files["report.html"]


@pytest.mark.usefixtures("undrawn")
def test_a_mixer_that_always_diverged_has_no_figure(tmp_path: Path) -> None:
    files = report(tmp_path, [record("slots", seed, status="diverged") for seed in range(1, 6)])
    assert "no figure (5 of 5 diverged)" in files["report.html"]
    assert "0 of 5 (0.00 to 0.43)" in files["report.html"]
    assert "every rate diverged" in files["report.html"]


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
def test_more_seeds_at_the_chosen_rate_do_not_bias_the_choice(tmp_path: Path) -> None:
    # Seeds 3 to 5 ran at the chosen rate only, and were unlucky: rates compare on seeds 1 and 2.
    records = [record("slots", s, rate=0.001, dev_loss=1.1) for s in (1, 2)]
    records += [record("slots", s, rate=0.003, dev_loss=1.0) for s in (1, 2)]
    records += [record("slots", s, rate=0.003, dev_loss=9.0) for s in (3, 4, 5)]
    files = report(tmp_path, records)
    row = cell(files["tables.csv"], "scores", "slots", "retention", tested_at="64")
    assert (row["learning_rate"], row["seeds"]) == ("0.003", "5")
    assert "chosen, the highest of its grid: 0.009 may be better" in files["report.html"]
    grid = [row for row in csv_rows(files["tables.csv"]) if row["table"] == "learning_rates"]
    assert [(row["seeds"], row["few_seeds"]) for row in grid] == [("2", "yes")] * 2


def test_variants_of_a_mixer_are_told_apart_by_what_differs() -> None:
    records = [record(seed=s, positions=p) for s in (1, 2) for p in ("none", "learned")]
    groups = contests(read_runs(records).runs)[0].groups
    assert [group.label for group in groups] == [
        "attention, positions learned", "attention, positions none",
    ]  # fmt: skip


@pytest.mark.usefixtures("undrawn")
def test_half_distance_is_chance_corrected_and_censored(tmp_path: Path) -> None:
    held = [record("slots", seed, {64: 0.9, 256: 0.8}) for seed in range(1, 6)]
    # 0.52 is a half after correction for chance 0.04: the crossing is at 128 = sqrt(64 * 256).
    fell = [record("delta", seed, {64: 0.76, 256: 0.28}) for seed in range(1, 6)]
    html = report(tmp_path, held + fell)["report.html"]
    table = html.split('id="table-half-distances"')[1].split("</table>")[0]
    row = r">([≥≤]? ?\d+)</td><td>([^<]*)</td><td[^>]*data-value=\"5.0\">5<"
    assert re.findall(row, table) == [
        ("128", "128, 128, 128, 128, 128"), ("≥ 256", "≥ 256, ≥ 256, ≥ 256, ≥ 256, ≥ 256"),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostile",
    [
        HOSTILE,
        "<b>bold</b>",
        "a|b\n| c `x` [y](http://z)",
        "$\\frac{1}$ and $",
        "_hidden",
        "=cmd|' /C calc'!A0",
        "{{ 7 * 7 }}{% raw %}",
        "%{x} \u202e\x00\ud800 注意",
        "]]> --> <!--",
        "x" * 5000,
    ],
    ids=range(10),
)
def test_a_hostile_name_stays_text_everywhere(tmp_path: Path, hostile: str) -> None:
    records = [record(hostile, s, task=hostile, other=hostile) for s in (1, 2)]
    records += [record("attention", 1, task=hostile)]
    records += [record(hostile, 3, status="failed", reason=hostile)]
    files = report(tmp_path, records, notes=(hostile,))
    html = files["report.html"]
    assert "<img" not in html.split("window.Plotly")[0].split("<style>")[0]
    body = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert "<img" not in body
    assert "<b>" not in body
    assert html.lower().count("</script") == 3
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


@pytest.mark.usefixtures("undrawn")
def test_the_page_is_one_file_under_a_strict_policy(tmp_path: Path) -> None:
    html = report(tmp_path, study(seeds=1))["report.html"]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'nonce-")
    assert "unsafe-eval" not in policy[1]
    nonce = re.search(r"nonce-([\w-]+)'", policy[1])
    assert nonce is not None
    scripts = re.findall(r"<script[^>]*>", html)
    assert len(scripts) == 3
    assert all(f'nonce="{nonce[1]}"' in script for script in scripts)
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=\"(?!data:)", html)
    again = report(tmp_path, study(seeds=1))["report.html"]
    assert nonce[1] not in again


BROKEN: list[Any] = [
    None,
    [],
    "text",
    {},
    {"id": None, "status": None, "spec": None},
    {**record(), "spec": {"task": 3, "mixer": [], "context": "64", "seed": True}},
    {**record(), "history": [None, {}, {"step": math.nan, "val_loss": "x"}], "costs": None},
    {**record(), "evaluations": [{"split": "test", "context": 64, "retention": math.nan}]},
    {**record(), "evaluations": [{"split": "test", "context": 64, "retention": 1.7}]},
    {**record(), "evaluations": [{"split": "test", "context": -1}, 3, {"context": 10**400}]},
    {**record(), "costs": {"train_seconds": 10**400, "state_bytes": {"x": 1, "64": math.inf}}},
    {**record(), "costs": {"train_seconds": -1, "decode_ms_per_token": {"64": 0, "²": 1}}},
    {**record(), "spec": {**record()["spec"], "learning_rate": math.inf}},
    {**record(), "environment": {"cpu": {"a": 1}, 3: None}},
    {**record(), "evaluations": [{"split": "test", "context": 64, "val_loss": math.inf}]},
]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("broken", BROKEN, ids=range(15))
def test_anything_may_be_missing_or_wrong(tmp_path: Path, broken: object) -> None:
    files = report(tmp_path, [broken, record("slots", 2)])
    assert cell(files["tables.csv"], "scores", "slots", "exact", tested_at="64")["mean"] == "0.45"


def test_all_that_is_missing_or_wrong_is_drawn_beside_what_is_not(tmp_path: Path) -> None:
    # Each under a name of its own, so that none stands for another.
    broken = [
        {**one, "id": f"run-{place}", "spec": {**one["spec"], "mixer": f"mixer-{place}"}}
        if isinstance(one, dict) and one.get("spec")
        else one
        for place, one in enumerate(BROKEN)
    ]
    files = report(tmp_path, [*broken, record("slots", 2)])
    for key in KEYS:
        ElementTree.fromstring(files[f"{key}.svg"])
    assert all(f"mixer-{place}" in files["lengths.svg"] for place in (6, 10, 11, 12, 13))


@pytest.mark.usefixtures("undrawn")
def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    wrong = {**record(), "evaluations": [{"split": "test", "context": 64, "retention": 1.7}]}
    notes = ("a.json.corrupt-1: no checksum in it",)
    twice = [record("slots"), record("slots"), {**record("slots"), "id": "other source"}]
    files = report(tmp_path, [wrong, {"id": "b"}, *twice], notes)
    for file in ("report.html", "report.md"):
        text = files[file].replace("\\", "")
        assert "a.json.corrupt-1: no checksum in it" in text
        assert "retention 1.7 is outside 0 to 1" in text
        assert "run b: its spec has no context or no seed" in text
        assert "more than one record" in text
        assert "recite, slots, trained at 64, seed 1: 2 runs (" in text


def values(points: Any) -> list[tuple[Any, ...]]:
    """What is drawn of each point, but for what hovering says."""
    return [
        (
            p.x,
            p.y,
            *(pytest.approx(end, abs=1e-4) if end else end for end in (p.low, p.high)),
            p.few,
        )
        for p in points
    ]


def two(task: str = "recite") -> list[Values]:
    """Five seeds of attention and two of slots, whose curves, costs and scores all differ.

    Scores 0.9, 0.7, 0.8, 0.9 and 0.7: mean 0.8, half width 2.7764 * 0.1 / sqrt(5) = 0.12417.
    Scores 0.35 and 0.37: mean 0.36, half width 12.7062 * 0.014142 / sqrt(2) = 0.12706.
    """
    records = []
    for mixer, kept in (("attention", [0.9, 0.7, 0.8, 0.9, 0.7]), ("slots", [0.35, 0.37])):
        for seed, value in enumerate(kept, 1):
            made = record(mixer, seed, {64: value, 256: value / 2}, task=task)
            more = (mixer == "slots") + seed / 10
            # Told apart by figure, step, mixer and seed.
            for row in made["history"]:
                step = row["step"] / 1000
                row |= {
                    "val_loss": 2 + more - step, "token_accuracy": 0.1 * more + step / 2,
                    "rule_accuracy": 0.1 * more + step, "retention": 0.1 * more + step / 4,
                }  # fmt: skip
            made["costs"]["train_seconds"] = 10 * (1 + more)
            made["costs"]["state_bytes"] = {"64": 1000 * (1 + more), "256": 4000 * (1 + more)}
            made["costs"]["decode_ms_per_token"] = {"64": 1 + more, "256": 2 + more}
            records.append(made)
    return records


def panels(records: list[Values], key: str) -> list[Any]:
    (chart,) = [one for one in charts(contests(read_runs(records).runs)) if one.key == key]
    return list(chart.panels)


def test_retention_is_drawn_with_its_mean_interval_seeds_and_chance() -> None:
    (panel,) = panels(two(), "retention")
    attention, slots = panel.series
    assert (attention.label, slots.label) == ("attention", "slots")
    # Lengths are set apart a little, by the mixer's place.
    left, right = 1.025**-0.5, 1.025**0.5
    assert values(attention.points) == [
        (64 * left, pytest.approx(0.8), 0.8 - 0.12417, 0.8 + 0.12417, False),
        (256 * left, pytest.approx(0.4), 0.4 - 0.06208, 0.4 + 0.06208, False),
    ]
    assert values(slots.points) == [
        (64 * right, pytest.approx(0.36), 0.36 - 0.12706, 0.36 + 0.12706, True),
        (256 * right, pytest.approx(0.18), 0.18 - 0.06353, 0.18 + 0.06353, True),
    ]
    assert [[(p.x, p.y) for p in line] for line in slots.seeds] == [
        [(64 * right, 0.35)], [(64 * right, 0.37)], [(256 * right, 0.175)], [(256 * right, 0.185)],
    ]  # fmt: skip
    assert panel.chance == [(64.0, 0.04), (256.0, 0.04)]
    assert panel.x_ticks == [64, 256]


def test_curves_are_the_mean_of_the_seeds_and_a_line_for_each() -> None:
    loss, retention = panels(two(), "training")
    assert (loss.y_label, retention.y_label) == ("dev loss (nats)", "dev retention")
    for panel, first, slope in ((loss, 2.0, -1.0), (retention, 0.0, 0.25)):
        for series, mean, seeds in zip(panel.series, (0.3, 1.15), (5, 2), strict=True):
            times = 1 if panel is loss else 0.1
            expected = [
                (step, first + times * mean + slope * step / 1000, None, None, seeds < 5)
                for step in (25, 50, 100, 200, 300, 400)
            ]
            found = values(series.points)
            assert [one[1] for one in found] == pytest.approx([one[1] for one in expected])
            assert [one[:1] + one[2:] for one in found] == [one[:1] + one[2:] for one in expected]
            assert len(series.seeds) == seeds
            base = 1.0 if series.label == "slots" else 0.0
            for seed, line in enumerate(series.seeds, 1):
                assert line[-1].x == 400
                assert line[-1].y == pytest.approx(first + times * (base + seed / 10) + slope * 0.4)


def test_the_overview_draws_each_figure_under_its_own_name() -> None:
    seconds, *others = panels(two("article"), "overview")
    assert seconds.title == "article: training seconds"
    # Attention 11 to 15 s, half width 2.7764 * 1.5811 / sqrt(5); slots 21 and 22 s.
    assert values(seconds.series[0].points) == [
        (64, 13, 13 - 1.96324, 13 + 1.96324, False),
    ]
    assert values(seconds.series[1].points) == [
        (64, 21.5, 21.5 - 6.35310, 21.5 + 6.35310, True),
    ]
    last = {panel.y_label: [series.points[-1].y for series in panel.series] for panel in others}
    assert last == {
        "validation loss (nats)": [pytest.approx(1.9), pytest.approx(2.75)],
        "token accuracy": [pytest.approx(0.23), pytest.approx(0.315)],
        "rule accuracy": [pytest.approx(0.43), pytest.approx(0.515)],
    }


def test_an_interval_that_reaches_zero_is_cut_where_a_log_axis_still_shows_it() -> None:
    records = [record("slots", s, task="article", seconds=10 * s) for s in (1, 3)]
    (series,) = panels(records, "overview")[0].series
    # 12.7062 * 14.1421 / sqrt(2) around 20; half the lowest seed is 5.
    assert values(series.points) == [(64, 20, 5, 20 + 127.06205, True)]


@pytest.mark.parametrize(("key", "costs"), [("state", (5200, 8600)), ("seconds", (13, 21.5))])
def test_a_trade_off_sets_retention_over_the_mean_cost(
    key: str, costs: tuple[float, float]
) -> None:
    (panel,) = panels(two(), key)
    assert panel.title == "recite, tested at 256"
    attention, slots = panel.series
    assert values(attention.points) == [
        (costs[0], pytest.approx(0.4), 0.4 - 0.06208, 0.4 + 0.06208, False)
    ]
    assert values(slots.points) == [
        (costs[1], pytest.approx(0.18), 0.18 - 0.06353, 0.18 + 0.06353, True)
    ]
    scale = 4000 if key == "state" else 10
    assert list(slots.seeds) == [
        [Point(scale * 2.1, 0.175, "slots, trained at 64, seed 1: 0.175")],
        [Point(scale * 2.2, 0.185, "slots, trained at 64, seed 2: 0.185")],
    ]
    assert list(panel.front) == [(costs[0], pytest.approx(0.4)), (costs[1], pytest.approx(0.4))]


def test_costs_over_context_are_drawn_with_their_mean_interval_and_seeds() -> None:
    decode, state = panels(two(), "costs")
    assert (decode.y_label, state.y_label) == ("decode (ms a token, log)", "state (bytes, log)")
    for panel, at_64, at_256, scale in (
        (decode, 1.0, 2.0, 1.0), (state, 1000.0, 4000.0, None),
    ):  # fmt: skip
        attention, slots = panel.series
        for place, (x, base) in enumerate(((64, at_64), (256, at_256))):
            by = scale or base
            # Attention's seeds are 0.1 to 0.5 above, of half width 0.19632; slots' two 1.1 and 1.2
            # above, of half width 0.63531.
            (point,) = values(attention.points[place : place + 1])
            assert point == (
                x, pytest.approx(base + 0.3 * by), pytest.approx(base + 0.10368 * by, rel=1e-4),
                pytest.approx(base + 0.49632 * by, rel=1e-4), False,
            )  # fmt: skip
            (point,) = values(slots.points[place : place + 1])
            assert point[1:] == (
                pytest.approx(base + 1.15 * by), pytest.approx(base + 0.51469 * by, rel=1e-4),
                pytest.approx(base + 1.78531 * by, rel=1e-4), True,
            )  # fmt: skip
        assert [line[0].y for line in slots.seeds[:2]] == pytest.approx(
            [at_64 + share * (scale or at_64) for share in (1.1, 1.2)]
        )


def test_the_heat_map_shows_every_mean_in_its_row_and_column() -> None:
    (heat,) = panels(two(), "lengths")
    assert (heat.rows, heat.columns) == (["attention @ 64", "slots @ 64"], ["64", "256"])
    assert [list(row) for row in heat.values] == [
        [pytest.approx(0.8), pytest.approx(0.4)], [pytest.approx(0.36), pytest.approx(0.18)],
    ]  # fmt: skip
    assert [list(row) for row in heat.texts] == [["0.80", "0.40"], ["0.36*", "0.18*"]]


def test_a_picture_has_every_point_interval_seed_and_level_where_it_is() -> None:
    style = Style("#123456", "circle", "solid", 1.0)
    points = [Point(64, 0.8, "", 0.7, 0.85), Point(256, 0.4, "", 0.1, 0.6, few=True)]
    seeds = [[Point(64, 0.75, "")], [Point(256, 0.45, "")], [Point(1, 0.2, ""), Point(2, 0.3, "")]]
    series = Series(label="a", style=style, points=points, seeds=seeds)
    panel = Panel(
        title="t", x_label="x", y_label="y", series=[series], chance=[(64.0, 0.04), (256.0, 0.05)],
        front=[(64.0, 0.5), (256.0, 0.6)],
    )  # fmt: skip
    (axes,) = draw(Chart(key="k", title="t", caption="c", panels=[panel], empty="")).axes
    drawn = [
        ([float(x) for x in line.get_xdata()], [float(y) for y in line.get_ydata()])
        for line in axes.lines
    ]
    lines = {
        "front": ([64, 256], [0.5, 0.6]), "single seeds": ([64, 256], [0.75, 0.45]),
        "means": ([64, 256], [0.8, 0.4]), "of enough seeds": ([64], [0.8]),
        "of few": ([256], [0.4]), "chance": ([64, 256], [0.04, 0.05]),
    }  # fmt: skip
    for what, line in lines.items():
        assert drawn.count(line) == 1, what
    # A seed's line, and a gap after it.
    assert ([1, 2], [0.2, 0.3]) in [(xs[:-1], ys[:-1]) for xs, ys in drawn]
    face = {tuple(line.get_xdata()): line.get_markerfacecolor() for line in axes.lines[-3:-1]}
    assert face == {(64,): "#123456", (256,): "white"}
    (bars,) = (one for one in axes.collections if len(one.get_segments()) == 2)
    spans = [[float(end) for end in segment[:, 1]] for segment in bars.get_segments()]
    assert spans == [pytest.approx([0.7, 0.85]), pytest.approx([0.1, 0.6])]


@pytest.mark.slow
def test_every_figure_has_rows_and_the_same_bytes_again(tmp_path: Path) -> None:
    records = study(seeds=2)
    drawn = charts(contests(read_runs(records).runs))
    assert [chart.key for chart in drawn] == KEYS
    assert all(chart.panels for chart in drawn)
    first, second = tmp_path / "a", tmp_path / "b"
    write_report(typed(records), first, "c")
    write_report(typed(reversed(records)), second, "c")
    for path in (first / "figures").iterdir():
        assert path.read_bytes() == (second / "figures" / path.name).read_bytes(), path.name
    assert (first / "tables.csv").read_bytes() == (second / "tables.csv").read_bytes()


def test_pareto_front_keeps_what_no_cheaper_one_reaches() -> None:
    points = [(3, 0.9), (1, 0.5), (2, 0.4), (2, 0.7), (4, 0.9), (1, 0.2)]
    assert pareto_front(points, end=3) == [(1, 0.5), (2, 0.7), (3, 0.9)]
    # Where the cheapest is the best, that is seen: the front is a line from there.
    assert pareto_front([(1, 0.9), (2, 0.5)], end=2) == [(1, 0.9), (2, 0.9)]


def test_log_ticks_are_few_and_around_the_values() -> None:
    assert [text for _, text in log_ticks([8, 60])] == ["5", "10", "20", "50", "100"]
    assert [text for _, text in log_ticks([10, 1e5])] == ["10", "100", "1k", "10k", "100k"]
    # Between two neighbours of 1, 2 and 5 there would be one tick, or none.
    for low, high, texts in (
        (110, 340, ["150", "200", "300"]), (0.6, 1.2, ["0.7", "1"]), (210, 340, ["300"]),
    ):  # fmt: skip
        ticks = log_ticks([low, high])
        assert [text for at, text in ticks if low <= at <= high] == texts
        assert 4 <= len(ticks) <= 8
    assert len(log_ticks([1e-300, 1e300])) <= 10
    assert log_ticks([]) == []


@pytest.mark.parametrize("panels", [2, 3])
def test_a_long_title_does_not_run_into_the_panel_beside_it(panels: int) -> None:
    title = "sparse_delta, seed 4: override, placement marked, rules 8, trained at 1,028, and on"
    panel = Panel(title=title, x_label="x", y_label="y", series=())
    figure = draw(Chart(key="k", title="t", caption="c", panels=[panel] * panels, empty=""))
    figure.draw_without_rendering()
    assert [axes.get_title(loc="left").split() for axes in figure.axes] == [title.split()] * panels
    places = [axes._left_title.get_window_extent() for axes in figure.axes]
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(places))
    assert places[-1].x1 < figure.bbox.x1


def test_long_names_that_begin_alike_stay_two() -> None:
    assert name("x" * 100 + "a", "") != name("x" * 100 + "b", "")
    assert len(name("x" * 100, "")) <= 48
    plugin = "/home/someone/long-memories/mechanisms/mine.py:FadingMemory"
    assert name(plugin, "").endswith("mine.py:FadingMemory"), "its class can be read"
    assert one_line("a\nb\t\x00c") == "a b \ufffdc"


@pytest.mark.process
def test_the_report_loads_no_torch() -> None:
    code = "import sys, rulekeep.reporting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_four_times_the_records_take_no_six_times_as_long(tmp_path: Path) -> None:
    several = [
        study(
            tasks=("article", "recite", "apply", "override")[:tasks],
            mixers=("attention", "slots", "delta", "gla", "mamba"),
            contexts=(64, 256), rates=(0.003, 0.01), seeds=5,
        )
        for tasks in (1, 4)
    ]  # fmt: skip
    assert [len(records) for records in several] == [104, 404]
    write_report(typed(several[0]), tmp_path, "c")
    took: list[list[float]] = [[], []]
    # Seconds of this process, the least of three: what else the machine does must not fail it. How
    # long a report takes by the clock is held by benchmarks/report_speed.py.
    for seconds, records in [*zip(took, several, strict=True)] * 3:
        start = time.process_time()
        write_report(typed(records), tmp_path, "c")
        seconds.append(time.process_time() - start)
    assert min(took[1]) < 6 * min(took[0]), took


def test_difficulties_of_a_task_are_contests_of_their_own() -> None:
    records = [
        record(mixer, task_options={"rules": 4, "placement": placement})
        for placement in ("early", "marked")
        for mixer in ("attention", "delta")
    ]
    found = contests(read_runs(records).runs)
    assert [contest.task for contest in found] == [
        "recite, placement early",
        "recite, placement marked",
    ]
    assert all({g.label for g in c.groups} == {"attention", "delta"} for c in found)


def test_a_mixers_own_options_and_the_models_are_told_apart() -> None:
    records = [
        record("attention", positions=added, mixer_options={"heads": 4, "positions": own})
        for added, own in (("none", "none"), ("none", "rotary"), ("learned", "none"))
    ]
    assert {run.label for run in read_runs(records).runs} == {
        "attention, mixer positions none, positions none",
        "attention, mixer positions rotary, positions none",
        "attention, mixer positions none, positions learned",
    }


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("attention", "attention"),
        ("attention, added_positions none, positions rotary", "attention, rotary positions"),
        ("attention, added_positions none, positions none", "attention, no positions"),
        ("attention, added_positions learned, positions none", "attention, learned positions"),
        ("attention, hidden 256, positions none", "attention, no positions, 256 hidden"),
        (
            "attention, added_positions earliness, positions none",
            "attention, no positions, earliness",
        ),
        (
            "attention, added_positions earliness, positions rotary",
            "attention, rotary positions, earliness",
        ),
        ("delta, added_positions none, heads 8", "delta, 8 heads"),
    ],
)
def test_a_label_is_said_with_its_positions_and_its_signal_apart(label: str, said: str) -> None:
    assert spoken(label) == said


def test_the_baseline_is_the_variant_that_is_best_on_dev() -> None:
    records = [
        record("attention", seed, dev_loss=loss, mixer_options={"positions": own})
        for own, loss in (("none", 1.0), ("rotary", 0.5), ("alibi", float("nan")))
        for seed in (1, 2)
    ]
    (contest,) = contests(read_runs(records).runs)
    assert contest.baselines == {64: "attention, mixer positions rotary"}


def test_each_training_length_has_a_baseline_of_its_own() -> None:
    records = [
        record("attention", seed, {64: 0.9}, dev_loss=loss, context=at, mixer_options={"heads": n})
        for seed in (1, 2)
        for n, loss, at in ((2, 0.1, 64), (4, 0.5, 64), (4, 0.5, 128))
    ]
    records += [record("delta", seed, {64: 0.95}, context=128) for seed in (1, 2)]
    (contest,) = contests(read_runs(records).runs)
    assert contest.baselines == {64: "attention, heads 2", 128: "attention, heads 4"}
    (ours,) = (group for group in contest.groups if group.mixer == "delta")
    difference = contest.against_baseline(ours, "retention", 64)
    assert difference is not None
    assert difference.summary.mean == pytest.approx(0.05)


def test_a_model_that_was_not_trained_stands_beside_those_trained_longest() -> None:
    records = five("attention", [0.5] * 5) + five("delta", [0.7] * 5)
    outside = record("mine.py:Read", 1, {64: 0.8, 256: 0.6, 1024: 0.4}, context=1024)
    outside["spec"]["predictor"] = "mine.py:Read"
    runs = read_runs([*records, outside]).runs
    found = contests(runs)
    first, second, third, _ = sentences(runs, found)
    assert first.startswith(
        "At the longest context that several mixers were tested at, mine.py:Read keeps 0.600"
    )
    assert first.endswith("at 256 tokens (best of 3, chance 0.040, not trained).")
    assert second.startswith("mine.py:Read keeps 0.600")
    assert "1 of 2 differences in retention are above zero" in third
    (row,) = (row for row in tables.costs(found).rows if row[1].text == "mine.py:Read")
    assert row[2].text == "–"
    # Where nothing was trained they stand beside each other.
    other = record("mine.py:Other", 1, {64: 0.9}, context=64)
    other["spec"]["predictor"] = "mine.py:Other"
    runs = read_runs([outside, other]).runs
    assert sentences(runs, contests(runs))[0].endswith(
        "mine.py:Other keeps 0.900 (1 seed: few) of the rules of recite at 64 tokens (best of 2, "
        "chance 0.040, not trained)."
    )


def test_a_mechanism_from_outside_is_named_at_its_own_training_length() -> None:
    records = five("attention", [0.5] * 5) + five("mine.py:Mine", [0.9] * 5)
    records += [record("attention", s, {64: 0.9, 256: 0.8}, context=128) for s in range(1, 6)]
    runs = read_runs(records).runs
    assert sentences(runs, contests(runs))[1] == (
        "mine.py:Mine keeps 0.450 (0.450 to 0.450) of the rules of recite at 256 tokens, trained "
        "at 64 (nothing keeps more, chance 0.040)."
    )
    # Nothing else was trained there, so nothing is said of it; others may have been tested further.
    for at, others, said in (
        (128, ("attention",), "beside nothing else"),
        (64, ("attention", "delta"), "the most is 0.900"),
    ):
        records = five("mine.py:Mine", [0.2] * 5)
        kept = {64: 0.9, 1024: 0.8} if at == 64 else {64: 0.9, 256: 0.8}
        records += [record(one, s, kept, context=at) for one in others for s in range(1, 6)]
        runs = read_runs(records).runs
        (own,) = (one for one in sentences(runs, contests(runs)) if one.startswith("mine.py"))
        assert own.endswith(f"trained at 64 ({said}, chance 0.040).")


def test_a_diverged_run_at_a_longer_length_does_not_hide_what_is_kept() -> None:
    records = [*five("delta", [0.9] * 5), record("delta", context=128, status="diverged")]
    runs = read_runs(records).runs
    assert "delta keeps 0.450 (0.450 to 0.450)" in sentences(runs, contests(runs))[0]


def test_attention_is_not_said_to_share_no_seed_where_it_was_tested_less_far() -> None:
    records = [record("attention", s, {64: 0.9}) for s in (1, 2)]
    records += [
        record(mixer, s, {64: 0.9, 256: 0.5}) for mixer in ("delta", "slots") for s in (1, 2)
    ]
    runs = read_runs(records).runs
    assert sentences(runs, contests(runs))[1] == (
        "No mixer shares a seed with attention at that context, so none is compared with it there."
    )


def test_a_model_has_one_name_wherever_it_stands_and_two_have_two() -> None:
    records = [
        record("delta", task=task, context=at, mixer_options={"heads": heads}, steps=steps)
        for task, at, heads, steps in (
            ("recite", 64, 4, 100), ("recite", 128, 8, 200), ("apply", 64, 4, 100)
        )
    ]  # fmt: skip
    # Steps that go with the length say nothing of the model.
    assert {(run.task, run.context, run.label) for run in read_runs(records).runs} == {
        ("recite", 64, "delta, heads 4"),
        ("recite", 128, "delta, heads 8"),
        ("apply", 64, "delta, heads 4"),
    }


def grid_of(found: list[Any]) -> list[dict[str, str]]:
    return [row for row in csv_rows(csv_text(found)) if row["table"] == "learning_rates"]


def test_each_training_length_has_a_rate_of_its_own() -> None:
    records = [
        record("delta", 1, context=at, rate=rate, dev_loss=loss)
        for at, by in ((64, (0.9, 0.5)), (128, (0.6, 0.7)))
        for rate, loss in zip((0.001, 0.003), by, strict=True)
    ]
    # The other seeds at the rate that each length chose: over both lengths it would be 0.003.
    records += [
        record("delta", seed, context=at, rate=rate, dev_loss=1.0)
        for at, rate in ((64, 0.003), (128, 0.001))
        for seed in (2, 3, 4, 5)
    ]
    found = contests(read_runs(records).runs)
    assert [(one.context, one.rate, len(one.runs)) for one in found[0].groups] == [
        (64, 0.003, 5), (128, 0.001, 5),
    ]  # fmt: skip
    assert [(row["trained_at"], row["learning_rate"], row["mean"]) for row in grid_of(found)] == [
        ("64", "0.001", "0.9"), ("64", "0.003", "0.5"),
        ("128", "0.001", "0.6"), ("128", "0.003", "0.7"),
    ]  # fmt: skip
    shown = tables.learning_rates(found)
    assert [row[2].text for row in shown.rows] == ["64", "64", "128", "128"]


def test_rates_compare_over_the_seeds_that_all_have_a_diverged_one_among_them() -> None:
    losses = {1: (2.0, 3.0, 1.0), 2: (3.0, 4.0, None), 3: (0.1, None, None)}
    records = [
        record("delta", seed, rate=rate, dev_loss=loss)
        for seed, by in losses.items()
        for rate, loss in zip((0.001, 0.003, 0.01), by, strict=True)
        if loss is not None
    ]
    records.append(record("delta", 2, rate=0.01, status="diverged"))
    grid = grid_of(contests(read_runs(records).runs))
    assert [(row["mean"], row["seeds"], row["diverged"]) for row in grid] == [
        ("2.5", "2", "0"), ("3.5", "2", "0"), ("1.0", "1", "1"),
    ]  # fmt: skip
    assert float(grid[0]["deviation"]) == pytest.approx(math.sqrt(0.5))
    assert grid[0]["note"].startswith("chosen")


def looked_at(one: Values, losses: dict[int, float]) -> Values:
    """With these dev losses, by length."""
    (dev, *tests) = one["evaluations"]
    looks = [{**dev, "context": at, "val_loss": loss} for at, loss in losses.items()]
    return {**one, "evaluations": [*looks, *tests]}


def test_dev_losses_are_of_the_lengths_at_which_all_were_looked_at() -> None:
    of_rate = {0.001: {64: 0.2, 256: 1.0}, 0.003: {256: 0.9}}
    made = {
        rate: record("delta", 1, context=256, rate=rate, test_contexts=[*losses])
        for rate, losses in of_rate.items()
    }
    records = [looked_at(made[rate], losses) for rate, losses in of_rate.items()]
    found = contests(read_runs(records).runs)
    assert [(row["mean"], row["note"][:6]) for row in grid_of(found)] == [
        ("1.0", ""), ("0.9", "chosen")
    ]  # fmt: skip
    # So for attention: which of its variants is compared with.
    of_variant = {"none": {64: 0.2, 256: 1.0}, "rotary": {256: 0.9}}
    records = [
        looked_at(record("attention", 1, context=256, mixer_options={"positions": own}), losses)
        for own, losses in of_variant.items()
    ]
    (contest,) = contests(read_runs(records).runs)
    assert contest.baselines == {256: "attention, mixer positions rotary"}
    # Rates that were looked at nowhere together choose nothing.
    nowhere = [
        looked_at(record("delta", 1, context=256, rate=rate), {at: 0.5})
        for rate, at in ((0.001, 64), (0.003, 256))
    ]
    (contest,) = contests(read_runs(nowhere).runs)
    assert contest.rates[0].problem == "no dev loss recorded at a length that all have"
    nowhere.append(record("delta", 1, context=256, rate=0.01, status="diverged"))
    (contest,) = contests(read_runs(nowhere).runs)
    assert contest.rates[0].problem == "no dev loss recorded at a length that all have"


def test_a_diverged_seed_has_failed_at_nothing_that_it_was_not_to_be_tested_at() -> None:
    records = [record("delta", seed, {64: 0.9}) for seed in (1, 2, 3)]
    records += [record("delta", 4, {64: 0.9}, status="diverged")]
    records += [record("delta", 5, {64: 0.9, 256: 0.5})]
    for one in records:
        for row in one["evaluations"]:
            del row["item_accuracy"]
    ((group,),) = (contest.groups for contest in contests(read_runs(records).runs))
    assert sorted(group.by_seed("retention", 64)) == [1, 2, 3, 4, 5]
    assert group.by_seed("retention", 256) == {5: 0.5}
    # A figure that the task does not have is none, and not one that diverged.
    assert group.by_seed("item_accuracy", 64) == {}
    # Where it does not say at what, at every length that others were tested at.
    del records[3]["spec"]["test_contexts"]
    ((group,),) = (contest.groups for contest in contests(read_runs(records).runs))
    assert sorted(group.by_seed("retention", 256)) == [4, 5]
    # A half distance ranks it below all others, whatever it was asked for.
    records = [record("delta", seed, {64: 0.9, 256: 0.3}) for seed in (1, 2, 3, 4)]
    records.append(record("delta", 5, {64: 0.9}, status="diverged"))
    ((group,),) = (contest.groups for contest in contests(read_runs(records).runs))
    found = group.half_distance()
    assert not isinstance(found, str)
    assert (sorted(found.by_seed), found.diverged) == ([1, 2, 3, 4], (5,))
    # Of a training that stands in two folders, what either asked for.
    twins = [record("delta", 4, kept, status="diverged") for kept in ({64: 0.9}, {256: 0.5})]
    (one,) = merged(typed({**twin, "evaluations": []} for twin in twins))
    assert read_runs([one]).runs[0].test_contexts == (64, 256)
    for odd in (None, 64, ["x", 64], [[64]]):
        twins[1]["spec"]["test_contexts"] = odd
        (one,) = merged(typed(twins))
        assert read_runs([one]).runs[0].test_contexts == (64,)


def test_the_origin_of_a_reused_rate_is_its_own_tasks_grid_before_anothers() -> None:
    grids = (("recite", 64), ("override", 128))
    records = [
        record("delta", 1, task=task, context=at, rate=rate, dev_loss=loss)
        for task, at in grids
        for rate, loss in ((0.001, 0.5), (0.003, 0.4), (0.01, 0.5))
    ]
    records.append(record("delta", 1, task="recite", context=128, rate=0.003))
    (said,) = [
        row["note"] for row in grid_of(contests(read_runs(records).runs)) if "reused" in row["note"]
    ]
    assert said == "reused: chosen on recite, trained at 64"


def test_costs_are_of_seeds_that_ended_at_a_length_that_is_defined() -> None:
    asked = {"added_positions": "learned", "test_contexts": [64, 256]}
    records = [record(seed=seed, retention={64: 0.9}, **asked) for seed in (1, 2)]
    records[1].update(status="diverged", evaluations=[])
    records[1]["costs"]["decode_ms_per_token"] = {"64": 100.0}
    (row,) = tables.costs(contests(read_runs(records).runs)).rows
    shown = dict(zip(tables.costs([]).header, (one.text for one in row), strict=True))
    assert (shown["context"], shown["decode (ms/token)"]) == ("64", "0.164")


def test_a_rate_that_was_chosen_on_another_task_is_marked() -> None:
    records = [
        record("delta", rate=rate, dev_loss=loss, task="recite")
        for rate, loss in ((0.001, 2.0), (0.003, 1.0), (0.01, 3.0))
    ]
    records.append(record("delta", rate=0.003, task="apply"))
    found = contests(read_runs(records).runs)
    table = tables.learning_rates(found)
    assert table.rows[0][-1].text == "reused: chosen on recite"
    assert [row[-1].text for row in table.rows[1:]] == ["", "chosen", ""]
    notes = [row["note"] for row in csv_rows(csv_text(found)) if row["table"] == "learning_rates"]
    assert notes == [row[-1].text for row in table.rows]


def test_a_reused_rate_is_of_the_same_task_at_another_difficulty_if_that_chose_it() -> None:
    records = [
        record("delta", rate=rate, dev_loss=loss, task=task, task_options={"placement": "marked"})
        for task in ("apply", "recite")
        for rate, loss in ((0.001, 2.0), (0.003, 1.0), (0.01, 3.0))
    ]
    options = {"placement": "early"}
    records.append(record("delta", rate=0.003, task="recite", task_options=options))
    table = tables.learning_rates(contests(read_runs(records).runs))
    (reused,) = (row[-1].text for row in table.rows if row[-1].text.startswith("reused"))
    assert reused == "reused: chosen on recite, placement marked"


def test_seeds_that_were_made_by_other_code_are_no_seeds_of_one_mechanism() -> None:
    def made(seed: int, source: str, **how: Any) -> dict[str, Any]:
        one = record("delta", seed, **how)
        return {**one, "source": source, "id": f"{source[:4]}{one['id']}"}

    alike = [made(seed, "a" * 64) for seed in (1, 2)]
    assert read_runs(alike).notes == ()
    # One that was made again with the same seed too, whatever its hash.
    for other in (made(3, "b" * 64), made(3, "b" * 64, rate=0.01), made(1, "0" * 64)):
        read, code = read_runs([*alike, other]), other["source"][:8]
        assert read.notes == (
            "recite, delta: runs of 2 versions of its code stand apart "
            f"(seed 1, 2 by source aaaaaaaa; seed {other['spec']['seed']} by source {code}), each "
            "named by its code; delete the folders of those that are out of date",
        )
        (contest,) = contests(read.runs)
        seeds = {group.label: sorted(group.runs) for group in contest.groups}
        assert seeds == {
            "delta, code source aaaaaaaa": [1, 2],
            f"delta, code source {code}": [other["spec"]["seed"]],
        }  # fmt: skip
    assert spoken("attention, positions none, code aaaaaaaa") == (
        "attention, no positions, code aaaaaaaa"
    )
    failed = made(3, "b" * 64, status="failed")
    assert read_runs([*alike, failed, made(3, "b" * 64, task="apply")]).notes == ()


def test_seeds_of_two_versions_are_told_apart_by_the_version_that_differs() -> None:
    versions = {"protocol": 1, "recite": 1, "delta": 1}
    records = [{**record("delta", seed), "versions": versions} for seed in (1, 2)]
    # Source text is where a record comes from, and tells nothing apart.
    records[1]["source"] = "b" * 64
    assert read_runs(records).notes == ()
    records.append({**record("delta", 3), "versions": {**versions, "delta": 2}})
    assert "(seed 1, 2 by delta 1; seed 3 by delta 2)" in read_runs(records).notes[0]
    assert {run.label for run in read_runs(records).runs} == {
        "delta, code delta 1", "delta, code delta 2",
    }  # fmt: skip


def test_records_of_two_versions_are_never_one_run() -> None:
    """Nor those that do not say what was asked, as of before ids were made of it."""
    versions = {"protocol": 1, "recite": 1, "delta": 1}
    near, far = ({**record("delta", 1, at), "versions": versions} for at in ({64: 0.9}, {256: 0.5}))
    assert len(merged(typed([near, far]))) == 1
    far["versions"] = {**versions, "delta": 2}
    found = merged(typed([near, far]))
    assert [(one.asked, one.versions["delta"]) for one in found] == [(None, 1), (None, 2)]


def test_a_copy_that_failed_takes_no_result_away() -> None:
    done = record(retention={64: 0.9})
    failed = {**done, "status": "killed", "evaluations": []}
    for records, shown in (([done, failed], "the finished one"), ([failed, done], "the last")):
        read = read_runs(records)
        assert [run.status for run in read.runs] == ["done"]
        assert f"more than one record, {shown} is shown" in read.notes[0]


def test_of_two_tests_at_a_length_that_of_more_examples_is_shown() -> None:
    few, many = record(retention={64: 0.5}), record(retention={64: 0.9})
    for one, n in ((few, 10), (many, 1000)):
        for row in one["evaluations"]:
            row["n"] = n
    for pair in ((few, many), (many, few)):
        (run,) = read_runs([joined(*typed(pair))]).runs
        assert {row.figures["retention"] for row in run.evaluations if row.split == "test"} == {0.9}
    # What came out otherwise, or says nothing of its number, takes no test from the first.
    many["history"][-1]["train_loss"] = 7.0
    few["evaluations"][0]["n"], many["evaluations"][0]["n"] = None, "many"
    assert joined(*typed([few, many])).evaluations == typed([few])[0].evaluations
    few["history"], many["history"] = [None], [None]
    one, other = typed([few, many])
    assert joined(one, other).evaluations == (one.evaluations[0], other.evaluations[1])


def test_one_training_that_came_out_otherwise_is_said_once() -> None:
    one, again, other = (record(seed=seed, retention={64: 0.9}) for seed in (1, 1, 2))
    again["history"] = [{**look, "train_seconds": 0.5} for look in one["history"]]
    assert trained_apart(typed([one, again, other])) == []
    again["history"][-1]["train_loss"] += 1e-7
    again["id"] = "again"
    (said,) = trained_apart(typed([one, again, other]))
    assert said.startswith(f"runs {one['id']} and again: one training that came out otherwise")
    assert len(merged(typed([one, again, other]))) == 2
    (said,) = trained_apart(typed([one, again, {**again, "id": "third"}]))
    assert said.startswith(f"runs {one['id']} and again (2 such pairs): one training")


def test_costs_by_length_of_both_records_are_one_runs() -> None:
    near, far = record(retention={64: 0.9}), record(retention={64: 0.9, 256: 0.5})
    near["costs"]["state_bytes"] = {"64": 7}
    for one, other, at_64 in ((near, far, 7), (far, near, 1024 * 64)):
        (run,) = read_runs([joined(*typed([one, other]))]).runs
        assert run.state_bytes == {64: at_64, 256: 1024 * 256}
        assert sorted(run.decode_ms) == [64, 256]
    del far["costs"]["decode_ms_per_token"]
    assert joined(*typed([near, far])).decode_ms == {64: pytest.approx(0.164)}


def test_a_diverged_seed_has_failed_at_no_length_that_is_not_defined() -> None:
    asked = {"added_positions": "learned", "test_contexts": [64, 256]}
    records = [record(seed=seed, retention={64: 0.9}, **asked) for seed in range(4)]
    records.append(record(seed=4, retention={64: 0.9}, status="diverged", **asked))
    ((group,),) = (contest.groups for contest in contests(read_runs(records).runs))
    assert sorted(group.by_seed("retention", 64)) == [0, 1, 2, 3, 4]
    assert group.by_seed("retention", 256) == {}
    assert not isinstance(group.half_distance(), str)


def test_a_record_with_many_keys_in_its_environment_costs_no_more_than_reading_it() -> None:
    rows = [record(seed=seed) for seed in (1, 2, 3)]
    rows[0]["environment"] = {**rows[0]["environment"], **{f"key {n}": "x" for n in range(50_000)}}
    runs = read_runs(rows).runs
    started = time.process_time()
    table = tables.environments(runs)
    # Quadratic, it takes minutes.
    assert time.process_time() - started < 5
    assert set(rows[1]["environment"]) <= set(table.header)
    assert len(table.header) < 50
    kept = len(table.header) - 1
    found = 50_000 + len(rows[1]["environment"])
    assert f"Of {found:,} keys {found - kept:,} are not shown." in table.meaning
    assert "not shown" not in tables.environments(runs[1:]).meaning


@pytest.mark.parametrize(
    "text", ["=1+1", "＝1+1", "﹦1+1", "＋1", "－1", "＠SUM(A1)", "\u3000＝1", " =1", "−1", "％1"]
)
def test_no_text_of_a_csv_opens_as_a_formula_in_any_width(text: str) -> None:
    (row,) = list(csv.reader(csv_lines((), [[text, 1.5, -2.0]]).splitlines()[1:]))
    assert row == [f"'{text}", "1.5", "-2.0"]

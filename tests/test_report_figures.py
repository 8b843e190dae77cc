"""What the report's figures show: every value where it was counted by hand, and drawn there."""

from pathlib import Path
from typing import Any

import pytest
from report_records import Values, groups_of, record, study, typed

from rulekeep.analysis.charts import Chart, Panel, Point, Series, Style, pareto_front
from rulekeep.analysis.panels import figure
from rulekeep.analysis.ranking import compared_at, ranked
from rulekeep.reporting.figures import charts
from rulekeep.reporting.write import write_report

KEYS = ["retention", "settings", "variants", "state", "seconds", "training", "costs"]


def values(points: Any) -> list[tuple[Any, ...]]:
    """What is drawn of each point."""
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


def made(records: list[Values]) -> dict[str, Chart]:
    found = groups_of(records)
    return {chart.key: chart for chart in charts(found, ranked(found))}


def lines(records: list[Values], key: str) -> list[dict[str, Series]]:
    return [{one.label: one for one in panel.series} for panel in made(records)[key].panels]


def test_retention_is_drawn_with_its_mean_interval_seeds_and_chance() -> None:
    (panel,) = made(two())["retention"].panels
    # Lengths are set apart a little, by the place among those shown.
    places = {one.label: 1.02 ** (n - 0.5) for n, one in enumerate(panel.series)}
    of = {one.label: one for one in panel.series}
    at = places["attention"]
    assert values(of["attention"].points) == [
        (64 * at, pytest.approx(0.8), 0.8 - 0.12417, 0.8 + 0.12417, False),
        (256 * at, pytest.approx(0.4), 0.4 - 0.06208, 0.4 + 0.06208, False),
    ]
    at = places["slots"]
    assert values(of["slots"].points) == [
        (64 * at, pytest.approx(0.36), 0.36 - 0.12706, 0.36 + 0.12706, True),
        (256 * at, pytest.approx(0.18), 0.18 - 0.06353, 0.18 + 0.06353, True),
    ]
    assert [list(line) for line in of["slots"].seeds] == [
        [(64 * at, 0.35)], [(64 * at, 0.37)], [(256 * at, 0.175)], [(256 * at, 0.185)],
    ]  # fmt: skip
    assert panel.chance == [(64, 0.04), (256, 0.04)]
    assert panel.x_ticks == [64, 256]


@pytest.mark.parametrize(("key", "costs"), [("state", (5200, 8600)), ("seconds", (13, 21.5))])
def test_a_trade_off_sets_retention_over_the_mean_cost(
    key: str, costs: tuple[float, float]
) -> None:
    (panel,) = made(two())[key].panels
    of = {one.label: one for one in panel.series}
    assert values(of["attention"].points) == [
        (costs[0], pytest.approx(0.4), 0.4 - 0.06208, 0.4 + 0.06208, False)
    ]
    assert values(of["slots"].points) == [
        (costs[1], pytest.approx(0.18), 0.18 - 0.06353, 0.18 + 0.06353, True)
    ]
    assert list(panel.front) == [(costs[0], pytest.approx(0.4)), (costs[1], pytest.approx(0.4))]
    assert panel.chance == [(costs[0], 0.04), (costs[1], 0.04)]


def test_costs_over_context_are_drawn_with_their_mean_interval_and_seeds() -> None:
    decode, state = made(two())["costs"].panels
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
        assert [line[0][1] for line in slots.seeds[:2]] == pytest.approx(
            [at_64 + share * (scale or at_64) for share in (1.1, 1.2)]
        )


def test_mixers_are_compared_no_further_than_half_of_them_were_tested() -> None:
    records = [record("attention", s, {64: 0.9, 256: 0.5}, seconds=10) for s in range(1, 6)]
    records += [record("slots", s, {64: 0.9, 256: 0.6}, seconds=20) for s in range(1, 6)]
    # Alone at 1,024 tokens, where it would be the best of one.
    further = {64: 0.9, 256: 0.4, 1024: 0.9}
    records += [record("delta", s, further, seconds=30) for s in range(1, 6)]
    for key, costs in (("state", [1024 * 256] * 3), ("seconds", [20, 10, 30])):
        (panel,) = made(records)[key].panels
        assert panel.title == "tested at 256 tokens"
        assert [(s.label, s.points[0].x, s.points[0].y) for s in panel.series] == [
            (label, x, y)
            for label, x, y in zip(
                ("slots", "attention", "delta"), costs, (0.6, 0.5, 0.4), strict=True
            )
        ]
    # Of one mixer it is its longest.
    alone = groups_of(records[10:])
    assert compared_at(alone) == 1024


def test_a_picture_has_every_point_interval_seed_and_level_where_it_is() -> None:
    style = Style("#123456", "o")
    points = [Point(64, 0.8, 0.7, 0.85, 5), Point(256, 0.4, 0.1, 0.6, 2)]
    seeds = [[(64.0, 0.75)], [(256.0, 0.45)], [(1.0, 0.2), (2.0, 0.3)]]
    series = Series(label="a", style=style, points=points, seeds=seeds)
    panel = Panel(
        title="t", x_label="x", y_label="y", series=[series], chance=[(64.0, 0.04), (256.0, 0.05)],
        front=[(64.0, 0.5), (256.0, 0.6)],
    )  # fmt: skip
    (axes,) = figure(panel).axes
    found = [
        ([float(x) for x in line.get_xdata()], [float(y) for y in line.get_ydata()])
        for line in axes.lines
    ]
    expected = {
        "front": ([64, 256], [0.5, 0.6]), "single seeds": ([64, 256], [0.75, 0.45]),
        "means": ([64, 256], [0.8, 0.4]), "of enough seeds": ([64], [0.8]),
        "of few": ([256], [0.4]), "chance": ([64, 256], [0.04, 0.05]),
    }  # fmt: skip
    for what, line in expected.items():
        assert found.count(line) == 1, what
    # A seed's line, and a gap after it.
    assert ([1, 2], [0.2, 0.3]) in [(xs[:-1], ys[:-1]) for xs, ys in found]
    face = {tuple(line.get_xdata()): line.get_markerfacecolor() for line in axes.lines[-3:-1]}
    assert face == {(64,): "#123456", (256,): "white"}
    (bars,) = (one for one in axes.collections if len(one.get_segments()) == 2)
    spans = [[float(end) for end in segment[:, 1]] for segment in bars.get_segments()]
    assert spans == [pytest.approx([0.7, 0.85]), pytest.approx([0.1, 0.6])]


@pytest.mark.slow
def test_every_figure_has_rows_and_the_same_bytes_again(tmp_path: Path) -> None:
    records = study(seeds=2, contexts=(64,), mixers=("attention", "slots"))
    assert [*made(records)] == [key for key in KEYS if key != "variants"]
    first, second = tmp_path / "a", tmp_path / "b"
    write_report(typed(records), first, "c")
    write_report(typed(reversed(records)), second, "c")
    for path in (first / "figures").iterdir():
        assert path.read_bytes() == (second / "figures" / path.name).read_bytes(), path.name
    for name in ("tables.csv", "report.html"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_pareto_front_keeps_what_no_cheaper_one_reaches() -> None:
    points = [(3, 0.9), (1, 0.5), (2, 0.4), (2, 0.7), (4, 0.9), (1, 0.2)]
    assert pareto_front(points, end=3) == [(1, 0.5), (2, 0.7), (3, 0.9)]
    # Where the cheapest is the best, that is seen: the front is a line from there.
    assert pareto_front([(1, 0.9), (2, 0.5)], end=2) == [(1, 0.9), (2, 0.9)]

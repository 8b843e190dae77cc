"""`rulekeep speed`: what is timed, paired, kept and shown."""

import pickle
import time
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
import torch
from speed_records import decoded, peaks, rows, spec, speed_record
from tiny import plugin

from rulekeep.analysis.summary import Interval
from rulekeep.commands import speed as command
from rulekeep.executors import Executor, Finished
from rulekeep.mixers import LSTM, Attention
from rulekeep.speed import figures, measuring
from rulekeep.speed.measuring import CallCounter, measure
from rulekeep.speed.record import Measured, Point, SpeedSpec, read_speed

CONTEXTS = (256, 1028, 4096, 16384)
MODEL, MIXER = (Point(part=part, context=64) for part in ("model", "mixer"))


def here(asked: SpeedSpec, point: Point) -> tuple[Measured, ...]:
    """A point measured in this process."""
    return measure(asked, point, lambda steps: None)


def by_mixer(rows: Iterable[Measured], figure: str) -> dict[str, Any]:
    """Of one context."""
    return {one.mixer: one.why or one.values for one in rows if one.figure == figure}


def tiny(*mixers: str, **changes: Any) -> SpeedSpec:
    return spec(*mixers, **{"contexts": (64,), "repeats": 2, "tokens": 128, **changes})


class Here(Executor):
    """Measures in this process, up to Ctrl-C after so many points."""

    stop_after: int | None = None
    measured: list[Point]

    def __init__(self, workers: int) -> None:
        assert workers == 1, "what is timed runs alone"

    def run(self, function: Any, jobs: Any, time_limit: float | None = None) -> Iterator[Any]:
        for place, job in enumerate(jobs):
            if place == Here.stop_after:
                raise KeyboardInterrupt
            Here.measured.append(job)
            # As between processes.
            function, job = pickle.loads(pickle.dumps((function, job)))
            result = function(job, lambda steps: None)
            yield Finished(job, pickle.loads(pickle.dumps(result)), None)


@pytest.fixture
def speed(run, monkeypatch, tmp_path):
    """The command at a size that takes no time, in this process: exit code, output, errors."""
    monkeypatch.setattr(command, "LocalExecutor", Here)
    monkeypatch.setattr(command, "_THREADS", (1,))
    monkeypatch.setattr(measuring, "DECODED_ROUNDS", 2)
    Here.stop_after = None
    Here.measured = []
    small = ["--contexts", "64", "--tokens", "128", "--out", "out"]

    def speed_command(*arguments: str, repeats: int = 1) -> tuple[int, str, str]:
        code, output, errors = run("speed", *arguments, *small, "--repeats", str(repeats))
        return code, output.decode(), errors

    return speed_command


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only sleep moves on, and a millisecond each look at it: no machine is slow."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += 0.001
        return now

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "perf_counter", look)
    monkeypatch.setattr(time, "sleep", sleep)


@pytest.mark.usefixtures("ticks")
def test_a_mixer_that_sleeps_is_seen_slower_by_as_much(tmp_path: Path) -> None:
    slow = plugin(tmp_path, "slow", forward="time.sleep(0.05)")
    quick = plugin(tmp_path, "quick")
    asked = tiny(slow, quick)
    for point, layers in ((MODEL, 2), (MIXER, 1)):
        measured = here(asked, point)
        taken = 0.05 * layers + 0.001
        assert by_mixer(measured, "seconds") == {
            "attention": pytest.approx([0.001] * 2),
            slow: pytest.approx([taken] * 2),
            quick: pytest.approx([0.001] * 2),
        }
        found = figures.shares(speed_record(asked, *measured), point.part)
        shares = {mixer: share.mean for (_, mixer), share in found.items()}
        assert shares == pytest.approx({"attention": 1, slow: taken / 0.001, quick: 1})


def test_repeats_are_interleaved_and_the_whole_model_is_two_layers_of_all_positions(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    forward = f"with open({str(log)!r}, 'a') as file: print(NAME, tuple(x.shape), file=file)"
    names = [plugin(tmp_path, name, f"NAME = {name!r}", forward) for name in ("first", "second")]
    here(tiny(*names, repeats=3), MODEL)
    # Of each two layers: to warm up, then in turn, every second round backwards.
    called = [line.partition(" ")[0] for line in log.read_text().splitlines()]
    turns = ["first", "second", "first", "second", "second", "first", "first", "second"]
    assert called == [name for name in turns for _ in range(2)]
    assert {line.partition(" ")[2] for line in log.read_text().splitlines()} == {"(2, 64, 64)"}


def test_a_step_counts_the_products_of_both_passes() -> None:
    x = torch.randn(1, 100, 64, requires_grad=True)
    scores, weights = 2 * (100 * 100 * 64), 100 * 2 * (4 * 64 * 64)
    # Backward a projection has two; the two products with scores have four, and scores anew.
    for mixer, expected in (
        (Attention(64), 3 * weights + (2 + 5) * scores),
        # Four gates, of x and of h.
        (LSTM(64), 3 * 2 * weights),
    ):
        with CallCounter() as counter:
            mixer(x)[0].sum().backward()
        assert counter.flops == expected


def test_the_rate_of_products_is_a_share_of_that_of_one_large_product() -> None:
    asked = tiny("delta")
    measured = here(asked, MODEL)
    (rates,) = by_mixer(measured, "product_rate").values()
    assert len(rates) == 2
    assert all(rate > 1e8 for rate in rates)
    assert by_mixer(here(asked, MIXER), "product_rate") == {}
    flops, seconds = (by_mixer(measured, of)["attention"] for of in ("flops", "seconds"))
    made = rows("product_rate", "model", {64: {"": [2.0, 2.0]}})
    made += [one for one in measured if one.figure != "product_rate"]
    share = figures.product_shares(speed_record(asked, *made))[64, "attention"]
    assert share == pytest.approx(flops[0] / (sum(seconds) / 2) / 2)


def test_a_plugin_that_fails_is_a_row_and_the_others_are_measured(tmp_path: Path) -> None:
    bad = plugin(tmp_path, "bad", forward="raise OSError('no luck')")
    asked = tiny(bad)
    for point in (MODEL, MIXER):
        measured = here(asked, point)
        assert by_mixer(measured, "failed") == {bad: "OSError: no luck (bad.py, line 21)"}
        assert {mixer: len(taken) for mixer, taken in by_mixer(measured, "seconds").items()} == {
            "attention": 2
        }
    for point in (Point(part="decode"), Point(part="memory", mixer=bad, context=64)):
        assert "no luck" in by_mixer(here(asked, point), "failed")[bad]
    assert {*by_mixer(here(asked, Point(part="decode")), "decode_ms")} == {"attention"}


def test_shares_are_paired_within_a_repeat() -> None:
    # Of medians it would be a half; of repeats 2, 0.5 and 3.
    taken = {256: {"attention": (1.0, 10.0, 100.0), "delta": (2.0, 5.0, 300.0)}}
    made = speed_record(spec("delta", contexts=(256,)), *rows("seconds", "model", taken))
    assert figures.shares(made, "model") == {
        (256, "attention"): Interval(1, 1, 1), (256, "delta"): Interval(2, 1.25, 2.5),
    }  # fmt: skip
    assert figures.spread(taken[256]["delta"]) == Interval(5, 3.5, 152.5)


def test_a_token_late_in_the_text_is_held_against_one_at_1028() -> None:
    asked = spec("delta", "slots")
    # 64 sequences of 1,028 tokens are 256 tokens more than 4 of 16,384.
    fair = 64 * 1028 / 65536
    seconds = {
        1028: {"attention": [1.0], "delta": [1.0, 2.0], "slots": [fair]},
        16384: {"attention": [9.0], "delta": [1.0, 2.0], "slots": [1.21]},
    }
    slopes = figures.slopes(speed_record(asked, *rows("seconds", "model", seconds)))
    # Of all four pairs of repeats: 0.5, 1, 1 and 2, by the tokens of a step.
    assert astuple(slopes["delta"]) == pytest.approx([x * fair for x in (1, 0.875, 1.25)])
    assert figures.compared(asked) == (1028, 16384)
    assert slopes["slots"].mean == pytest.approx(1.21)
    # Where 1,028 is the longest, what a token costs there is held against the shortest.
    assert figures.compared(spec("delta", contexts=(256, 1028))) == (256, 1028)


def test_memory_that_grows_faster_than_the_text_is_seen() -> None:
    asked = spec("delta", "gru")
    made = speed_record(
        asked,
        *peaks("attention", {1028: 3, 4096: 10, 16384: 43}),
        *peaks("delta", {1028: 5, 4096: 20, 16384: 320}),
        *peaks("gru", {1028: 0, 4096: 7, 16384: 80}),
    )
    attention, delta, gru = figures.memories(made).values()
    assert figures.growth(attention) == pytest.approx((43 / 40, 33 * 2**20 / 12288))
    assert figures.growth(delta)[0] == 4
    # Too little to tell.
    assert figures.growth(gru) is None
    assert gru[1028] == 0


def test_decoding_is_paired_by_round_and_says_how_the_state_grows() -> None:
    asked = spec("delta", "kda", "sliding_window")
    ms = {64: [1.0, 2.0, 3.0], 1024: [9.0, 9.0, 9.0], 65536: [1.05, 2.2, 3.6]}
    quick = {**ms, 65536: [1.05, 2.1, 3.6]}
    made = speed_record(
        asked,
        *decoded("attention", {64: 1, 1024: 2, 65536: 3}, ms),
        *decoded("delta", {64: 1, 1024: 1, 65536: 1}, quick),
        *decoded("kda", {64: 1, 1024: 1, 65536: 1}, {**ms, 65536: [1.2, 2.4, 3.6]}),
        *decoded("sliding_window", {64: 1, 1024: 2, 65536: 2}, ms),
    )
    growing = figures.growing(made)
    assert {
        mixer: (growing[mixer], figures.late_over_early(one).mean)
        for mixer, one in figures.decode_ms(made).items()
    } == {
        "attention": ("growing", 1.1), "delta": ("constant", 1.05), "kda": ("constant", 1.2),
        "sliding_window": ("bounded", 1.1),
    }  # fmt: skip


def test_ctrl_c_keeps_what_was_measured(speed, tmp_path: Path) -> None:
    Here.stop_after = 2
    code, output, errors = speed("--mixers", "delta")
    assert (code, output) == (130, "")
    assert "interrupted: out/speed.json keeps what was measured" in errors
    kept = read_speed(tmp_path / "out" / "speed.json")
    assert {one.part for one in kept.measured} == {"model", "mixer"}
    assert Here.measured == [MODEL, MIXER]
    code, _, errors = speed("--mixers", "delta")
    assert (code, errors) == (
        2,
        "rulekeep: out/speed.json: a measurement stands there; name another --out\n",
    )
    assert read_speed(tmp_path / "out" / "speed.json") == kept

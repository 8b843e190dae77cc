"""The literature check: its runs, what they take, and the page that comes of their records."""

import statistics
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from report_records import Values, typed
from scripts import script

from rulekeep.mixed_recall import PAIRS, steps_of
from rulekeep.records.store import Record, read_runs, write_record
from rulekeep.running.model_training import build, lengths
from rulekeep.running.resolving import resolve
from rulekeep.specs import RunSpec
from rulekeep.sweeps.presets import (
    LITERATURE_GRID_STEPS,
    LITERATURE_SEEDS,
    LITERATURE_STEPS,
    literature,
)

ROOT = Path(__file__).parent.parent
# Tokens a CPU second, as the preset's docstring has them; seconds of a look at dev.
SPEEDS = {
    16: {"attention": 205e3, "ssd": 112e3, "gated_delta": 95e3},
    32: {"attention": 183e3, "ssd": 81e3, "gated_delta": 82e3},
    64: {"attention": 112e3, "ssd": 48e3, "gated_delta": 48e3},
}
LOOK_SECONDS = 3.0


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return script("literature_table")


def all_specs() -> list[RunSpec]:
    """Grids, their extensions and what follows, 1e-3 the best rate of each."""
    records: list[Record] = []
    specs: list[RunSpec] = []
    while len(found := literature(records)) > len(specs):
        new = [spec for spec in found if spec not in specs]
        specs += new
        for spec in new:
            made = resolve(spec)
            loss = abs(spec.learning_rate - 1e-3)
            rows = [
                {"split": split, "context": spec.context, "val_loss": by}
                for split, by in (("dev", loss), ("test", -loss))
            ]
            values = {"spec": made.spec.model_dump(mode="json"), "versions": made.versions}
            records += typed([{**values, "evaluations": rows}])
    return specs


def record(mixer: str, width: int, seed: int, accuracy: float, **changes: Any) -> Values:
    """What a run of these leaves, per cent right at its end; it had a half of it before."""
    one = script("literature_table").ASKED[mixer, width]
    (grid, *_) = literature([], mixers=[one])
    spec = grid.model_copy(update={"steps": LITERATURE_STEPS, "seed": seed, "evaluate_every": 900})
    share = accuracy / 100
    looks = [1, *range(900, LITERATURE_STEPS + 1, 900)]
    steps = [
        {"step": step, "n": 4, "retention": share if pairs > 4 else 1.0, "chance": 0.01}
        for pairs in PAIRS
        for step in steps_of(pairs)
    ]
    return {
        "id": f"{mixer}-{width}-{seed}",
        "status": "done",
        "spec": resolve(spec).spec.model_dump(mode="json"),
        "history": [
            {"step": step, "token_accuracy": share if step > 10800 else share / 2} for step in looks
        ],
        "evaluations": [
            {"split": "dev", "context": 256, "token_accuracy": 0.0},
            {
                "split": "test", "context": 256, "token_accuracy": share,
                "retention_by_step": steps,
            },
        ],
        "costs": {},
        "environment": {},
        "attempt": 1,
        **changes,
    }  # fmt: skip


def test_every_mixer_and_width_has_a_grid_on_seed_1_and_two_seeds_at_its_rate() -> None:
    specs = all_specs()
    full = [spec for spec in specs if spec.steps == LITERATURE_STEPS]
    grid = [spec for spec in specs if spec.steps == LITERATURE_GRID_STEPS]
    assert len(full) + len(grid) == len(specs)
    assert {(s.mixer, s.width, s.seed) for s in full} == {
        (mixer, width, seed)
        for mixer in ("attention", "ssd", "gated_delta")
        for width in (16, 32, 64)
        for seed in LITERATURE_SEEDS
    }
    assert {spec.learning_rate for spec in full} == {1e-3}
    assert {spec.seed for spec in grid} == {1}
    assert len(grid) == 9 * 4


def test_models_are_small_and_states_are_what_is_compared() -> None:
    for spec in literature([]):
        model = build(resolve(spec))
        assert sum(parameter.numel() for parameter in model.parameters()) < 100_000
        assert spec.hidden == 1
        mixer = model.blocks[0].mixer
        if spec.mixer == "ssd":
            assert (mixer.key_width, mixer.value_width) == (16, 8)
        if spec.mixer == "gated_delta":
            assert mixer.key_width == spec.width // 2


def test_a_run_has_20_core_minutes_and_all_have_six_hours() -> None:
    total = 0.0
    for spec in all_specs():
        tokens = spec.batch_size * sum(islice(lengths(spec, 16), spec.steps))
        assert tokens == pytest.approx(33.1e6 * spec.steps / LITERATURE_STEPS, rel=0.015)
        looks = 2 + spec.steps / spec.evaluate_every + spec.test_examples / spec.dev_examples
        seconds = tokens / SPEEDS[spec.width][spec.mixer] + LOOK_SECONDS * looks
        assert seconds <= 20 * 60
        total += seconds
    assert total <= 6 * 3600


def test_without_records_the_page_says_so(table: ModuleType) -> None:
    text = table.tables([])
    assert text.count("no records yet") == 13
    assert "accuracy.svg" not in text


def test_the_committed_page_is_the_one_that_the_records_make(table: ModuleType) -> None:
    text = table.PAGE.read_text()
    records = read_runs(table.RUNS).records if table.RUNS.is_dir() else []
    assert table.page(text, records) == text


def test_the_page_opens_with_what_agrees_and_by_how_much_the_rest_is_below(
    table: ModuleType,
) -> None:
    found = table.read(read_runs(table.RUNS).records)
    said = {
        cell: table.verdict(published, list(found[cell].values())).said
        for cell, published in table.PUBLISHED.items()
    }
    assert {cell for cell, one in said.items() if one.startswith("agrees")} == {
        *((table.TAPS, width) for width in (16, 32, 64)),
        ("gated_delta", 32), (table.LARGER, 64), ("attention", 64),
    }  # fmt: skip
    assert {cell for cell, one in said.items() if one == "seeds disagree"} == {
        ("ssd", 16), ("gated_delta", 16), ("attention", 32)
    }  # fmt: skip
    below = {cell: one.split()[0] for cell, one in said.items() if one.endswith(" below")}
    text = " ".join(table.PAGE.read_text().split())
    means = dict[tuple[str, int], str]()
    for cell, low, high in ((("gated_delta", 32), 74.0, 84.0), ((table.LARGER, 64), 77.4, 100.0)):
        each = [run.accuracy for run in found[cell].values()]
        assert f"{low} to {high}" in said[cell]
        assert sum(not low <= one <= high for one in each) == 1
        means[cell] = f"{statistics.fmean(each):.1f} for {table.PUBLISHED[cell]}"
    less = means["gated_delta", 32], below.pop(("gated_delta", 64))
    assert f"at width 32 ({less[0]}), and is {less[1]} points below at 64" in text
    assert f"32 key channels ({means[table.LARGER, 64]})" in text
    at_32, at_64 = below.pop(("ssd", 32)), below.pop(("ssd", 64))
    assert f"it is {at_32} points below at 32 and {at_64} at 64" in text
    assert not below


def test_records_stand_beside_what_is_published(table: ModuleType) -> None:
    records = [record("ssd", 16, 1, 46.0), record("ssd", 16, 2, 49.0)]
    (row,) = (
        line for line in table.tables(typed(records)).splitlines() if "| 46.9 ± 2.3 |" in line
    )
    assert "| 47.5 | 46.0, 49.0 | 0.001 | 33.1 M | 4.3% | agrees: 42.3 to 51.5 |" in row
    assert "| Mamba-2 (`ssd`) | 16 | 100.0 | 47.5 | 47.5 | 47.5 | 47.5 |" in table.tables(
        typed(records)
    )
    # Three quarters of the tokens are between two looks, one with a half and one with all.
    assert "| Mamba-2 (`ssd`) | 16 | 23.8 | 23.8 | 23.8 | 42.1 | 47.5 |" in table.tables(
        typed(records)
    )


@pytest.mark.parametrize(
    ("cell", "accuracies", "said"),
    [
        (("ssd", 64), (79.0, 78.0), "agrees: 77.4 to 100.0"),
        (("ssd", 16), (70.0, 72.0), "24.1 above"),
        (("ssd", 32), (60.0,), "not converged: 15.1 below, 6.7 gained in the last quarter (1 of"),
        (("gated_delta", 32), (3.0, 1.0), "not converged: the look-up is not found"),
        (("attention", 16), (8.0, 6.0), "not converged: the look-up is not found"),
        (("gated_delta", 16), (36.0, 35.0), "agrees: 33.4 to 43.4"),
        (("gated_delta", 16), (1.0, 76.0), "seeds disagree"),
        (("attention", 16), (98.4, 99.0), "agrees: from 98.5"),
        (("attention", 32), (6.0, 100.0), "seeds disagree"),
        (("attention", 64), (100.0, 100.0), "agrees: from 98.5"),
    ],
)
def test_verdicts(
    table: ModuleType, cell: tuple[str, int], accuracies: tuple[float, ...], said: str
) -> None:
    found = table.read(typed([record(*cell, i, a) for i, a in enumerate(accuracies, start=1)]))
    assert table.verdict(table.PUBLISHED[cell], list(found[cell].values())).said.startswith(said)


def test_a_run_that_is_at_its_end_and_below_differs(table: ModuleType) -> None:
    one = record("attention", 32, 1, 80.0)
    for look in one["history"]:
        look["token_accuracy"] = 0.8
    (runs,) = table.read(typed([one])).values()
    said = table.verdict(table.PUBLISHED["attention", 32], list(runs.values()))
    assert said.said == "19.0 below (1 of 2 seeds)"
    assert said.cause == "4.2% of the most published tokens"


def test_the_last_quarter_is_read_between_two_looks(table: ModuleType) -> None:
    looks = [table.Look(0, 0.0), table.Look(40, 10.0), table.Look(100, 40.0)]
    run = table.Run(0.01, 40.0, {}, looks)
    assert [run.at(share) for share in (0.2, 0.4, 0.75, 1.0)] == [5.0, 10.0, 27.5, 40.0]


def test_a_seed_that_diverged_is_no_seed_that_agrees(table: ModuleType) -> None:
    ended = record("ssd", 16, 2, 0, status="diverged", evaluations=[])
    (runs,) = table.read(typed([record("ssd", 16, 1, 46.0), ended])).values()
    said = table.verdict(table.PUBLISHED["ssd", 16], list(runs.values()))
    assert said.said == "agrees: 42.3 to 51.5 (1 of 2 seeds)"


def test_seeds_stand_in_their_order_and_widths_that_are_run_are_drawn(table: ModuleType) -> None:
    records = [record("ssd", 16, 2, 50.0), record("ssd", 16, 1, 44.0)]
    assert "| 47.0 | 44.0, 50.0 |" in table.tables(typed(records))
    (panel,) = table.figure(table.read(typed(records))).axes
    assert panel.get_title() == "width 16"


def test_runs_of_other_options_are_other_mechanisms(table: ModuleType) -> None:
    other = record("ssd", 16, 1, 46.0)
    other["spec"]["mixer_options"] |= {"heads": 4}
    assert table.read(typed([other])) == {}


@pytest.mark.parametrize(("reached", "cause"), [(99.4, "no convolution"), (40.0, "4.3% of the")])
def test_attention_lacks_a_convolution_where_the_one_that_has_it_agrees(
    table: ModuleType, reached: float, cause: str
) -> None:
    records = [record(table.TAPS, 32, seed, reached) for seed in LITERATURE_SEEDS]
    records += [record("attention", 32, seed, 5.0) for seed in LITERATURE_SEEDS]
    (row,) = (line for line in table.tables(typed(records)).splitlines() if "| 5.0, 5.0 |" in line)
    assert row.startswith("| attention, without one | 32 | ≥ 99 | 5.0 |")
    assert row.rpartition("not converged")[2].split(" | ")[1].startswith(cause)


@pytest.mark.parametrize(
    ("reached", "seeds", "cause"),
    [
        (85.0, (59.0, 59.0), "half the state, as at width 64"),
        (40.0, (59.0, 59.0), "4.3% of the"),
        (85.0, (40.0, 68.0), "4.3% of the"),
        (85.0, (75.0, 75.0), ""),
    ],
)
def test_mamba_2_lacks_state_where_the_one_that_has_it_agrees(
    table: ModuleType, reached: float, seeds: tuple[float, float], cause: str
) -> None:
    records = [record(table.LARGER, 64, seed, reached) for seed in LITERATURE_SEEDS]
    records += [
        record("ssd", 32, seed, share) for seed, share in zip(LITERATURE_SEEDS, seeds, strict=True)
    ]
    (row,) = (
        line for line in table.tables(typed(records)).splitlines() if "| 32 | 75.1 ± 4.9 |" in line
    )
    said = row.split(" | ")[-1].rstrip("| ")
    assert said.startswith(cause)
    assert bool(said) == bool(cause)


def test_the_sweep_beside_the_preset_differs_from_it_in_the_mixer_alone(table: ModuleType) -> None:
    apart = {"mixer", "mixer_options", "added_positions"}
    plain, convolved = (
        [spec.model_dump(exclude=apart) for spec in specs]
        for specs in (
            [spec for spec in literature([]) if spec.mixer == "attention"],
            [spec for spec in table.sweep([]) if spec.mixer == table.TAPS],
        )
    )  # fmt: skip
    assert plain == convolved


def test_mamba_with_more_key_channels_has_rows_of_its_own(table: ModuleType) -> None:
    records = [record("ssd", 64, 1, 50.0), record(table.LARGER, 64, 1, 90.0)]
    text = table.tables(typed(records))
    assert "| Mamba-2 (`ssd`) | 64 | 89.6 ± 6.1 | 50.0 |" in text
    assert "| Mamba-2, 32 key channels | 64 | 89.6 ± 6.1 | 90.0 |" in text
    (larger,) = {
        spec.mixer_options["heads"]
        for spec in table.sweep([])
        if spec.width == 64 and spec.mixer == "ssd"
    }
    assert larger == 8


def test_a_run_that_is_solved_early_has_seen_fewer_tokens(table: ModuleType) -> None:
    ended, whole = record("ssd", 16, 1, 99.9), record("ssd", 16, 2, 99.9)
    ended["history"] = ended["history"][:5]
    seen = [table.seen(RunSpec.parse_json(one["spec"])) for one in (ended, whole)]
    mean = (seen[0][4 * 900 - 1] + seen[1][-1]) / 2
    assert mean < 20e6
    assert f"| 99.9, 99.9 | 0.001 | {mean / 1e6:.1f} M |" in table.tables(typed([ended, whole]))


def test_other_runs_are_left_out_and_a_diverged_one_is_said(table: ModuleType) -> None:
    grid = record("ssd", 16, 1, 50.0)
    grid["spec"]["steps"] = LITERATURE_GRID_STEPS
    other = record("ssd", 16, 1, 50.0)
    other["spec"]["task"] = "recall"
    failed = record("ssd", 32, 1, 50.0, status="failed")
    assert table.read(typed([grid, other, failed])) == {}
    text = table.tables(typed([record("ssd", 16, 1, 0, status="diverged", evaluations=[])]))
    assert "| diverged |" in text


def test_two_runs_of_one_seed_are_an_error(table: ModuleType) -> None:
    with pytest.raises(ValueError, match="ssd, width 16, seed 1: more than one run"):
        table.read(typed([record("ssd", 16, 1, 50.0)] * 2))


def test_the_command_writes_page_and_figure_or_says_what_is_wrong(
    tmp_path: Path, table: ModuleType
) -> None:
    one = record("gated_delta", 64, 1, 99.0)
    (tmp_path / "runs" / one["id"]).mkdir(parents=True)
    write_record(tmp_path / "runs" / one["id"] / "record.json", one)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")

    def command(*words: object) -> subprocess.CompletedProcess[str]:
        script = ROOT / "benchmarks/literature_table.py"
        return subprocess.run(
            [sys.executable, script, *map(str, words)], capture_output=True, text=True, check=False
        )

    done = command("--runs", tmp_path / "runs", "--page", page)
    assert (done.returncode, done.stdout) == (0, f"{page}: runs of {tmp_path / 'runs'}: 1\n")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "| ≥ 99 | 99.0 | 99.0 |" in text
    assert "old" not in text
    assert "<svg" in (tmp_path / "runs" / "accuracy.svg").read_text()

    wrong = command("--runs", tmp_path / "nowhere")
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines() == [f"--runs {tmp_path / 'nowhere'}: there is no such folder"]
    page.write_text("no marks\n")
    with pytest.raises(ValueError, match="must have the lines"):
        table.page(page.read_text(), [])

"""Claims and marks of a study by hand: what is stated, what fails, and what a build leaves alone.

tests/test_study.py has the command; this is what `make check` holds.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_records import cell_of_a_study, written

from rulekeep import study as studies
from rulekeep.analysis.rows import Rows, Span, TaskSetting, Variant
from rulekeep.analysis.summary import Summary, summarise, summarise_scores
from rulekeep.study import Claim, Family, Opened, Study, Sweep

EARLY = TaskSetting("recite")
SHOWN = "a" * 64
DOCUMENT = """Before <!-- claim:tiny.mean -->?<!-- /claim --> and
<!-- claim:tiny.more -->?<!-- /claim -->, then

<!-- table:tiny.kept --><!-- /table -->
<!-- table:tiny.other --><!-- /table -->

<!-- claim:elsewhere.mean -->7<!-- /claim --> after
"""


def kept(rows: Rows) -> float:
    return rows.known("ours", EARLY, "retention", 256).mean


def a_study(**more: Any) -> Study:
    given = {
        "question": "What does a gru keep?", "context": 64, "seeds": (1, 2), "settings": [EARLY],
        "variants": {"ours": Variant("gru", "ours"), "theirs": Variant("slots", "theirs")},
        "sweeps": {"tiny": Sweep("sweep")},
        "tables": {
            "kept": lambda rows: f"\n| kept |\n| {kept(rows):.2f} |\n\n",
            "other": lambda rows: "| other |",
        },
        "figures": {"kept.png": lambda rows: f"drawn {SHOWN} by one library".encode()},
        "claims": {
            "mean": Claim(kept),
            "more": Claim(lambda rows: rows.more("ours", "theirs", EARLY, "retention", 256), 1),
        },
    }  # fmt: skip
    return Study(**{**given, **more})


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Opened]:
    """A project with two seeds of two variants, and its study."""
    runs = {"gru": (0.5, 0.75), "slots": (0.25, 0.25)}
    for mixer, values in runs.items():
        for seed, value in enumerate(values, 1):
            made = cell_of_a_study(mixer, seed, value) | {"id": f"{mixer}{seed}"}
            written(tmp_path / "results" / "tiny", made)
    (tmp_path / "README.md").write_text(DOCUMENT)

    def of(**more: Any) -> Opened:
        return Opened("tiny", tmp_path / "studies" / "tiny.py", tmp_path, a_study(**more))

    return of


@pytest.mark.parametrize(
    ("place", "before", "after"),
    [
        ("README.md", "0.625", "0.626"), ("README.md", "| 0.62 |", "| 0.63 |"),
        ("README.md", "-->\n\n| other |", "-->\n| other |"),
        ("results/tiny/tables/kept.md", "0.62", "0.63"),
        ("results/tiny/claims.json", "0.625", "0.626"),
        ("results/tiny/figures/kept.png", SHOWN, "b" * 64),
    ],
)  # fmt: skip
def test_a_text_that_the_records_do_not_give_is_one_line_and_a_build_mends_it(
    place: str, before: str, after: str, opened: Callable[..., Opened], tmp_path: Path
) -> None:
    study = opened()
    studies.build(study)
    path = tmp_path / place
    right = path.read_text()
    assert before in right
    path.write_text(right.replace(before, after, 1))
    (line,) = studies.check(study)
    assert line.startswith(f"{place}: ")
    assert path.read_text() != right
    assert studies.build(study) == []
    assert path.read_text() == right


def test_a_figure_is_compared_by_what_it_shows_and_a_lost_one_is_missed(
    opened: Callable[..., Opened], tmp_path: Path
) -> None:
    study = opened()
    studies.build(study)
    path = tmp_path / "results" / "tiny" / "figures" / "kept.png"
    path.write_text(f"drawn {SHOWN} by another library")
    assert studies.check(study) == []
    studies.build(study)
    assert path.read_text().endswith("another library")
    # What a drawn figure no longer shows, and a table of nothing, are told and deleted.
    (path.parent / "gone.png").write_text(f"drawn {'c' * 64}")
    (path.parent / "by-hand.png").write_text("a photograph")
    (path.parents[1] / "tables" / "gone.md").write_text("| gone |")
    path.unlink()
    assert [line.split(":")[0] for line in studies.check(study)] == [
        "results/tiny/figures/kept.png", "results/tiny/figures/gone.png",
        "results/tiny/tables/gone.md",
    ]  # fmt: skip
    studies.build(study)
    assert sorted(path.name for path in path.parent.iterdir()) == ["by-hand.png", "kept.png"]
    assert studies.check(study) == []


@pytest.mark.parametrize("verb", [studies.build, studies.check])
@pytest.mark.parametrize(
    ("claim", "says"),
    [
        (Claim(kept, minimum=0.63), "is 0.625, must be from 0.63 to inf"),
        (Claim(kept, maximum=0.62), "is 0.625, must be from -inf to 0.62"),
        (Claim(kept, holds=lambda rows: kept(rows) > 0.7), "its condition does not hold"),
    ],
)
def test_a_claim_that_does_not_hold_is_reported_and_filled_all_the_same(
    claim: Claim, says: str, verb: Callable[[Opened], list[str]], opened: Callable[..., Opened]
) -> None:
    study = opened(claims={"mean": claim, "more": Claim(kept)})
    studies.build(study)
    assert verb(study) == [f"claim tiny.mean: {says}"]
    assert "mean -->0.625<" in (study.root / "README.md").read_text()


SUMMARY = Summary(0.5, 0.1, 0.25, 0.75, 5, 0)


@pytest.mark.parametrize(
    ("claim", "value", "text", "holds"),
    [
        (Claim(kept), 0.12345, "0.123", True), (Claim(kept, 0), 1234.5, "1,234", True),
        (Claim(kept, 1), -0.25, "-0.2", True), (Claim(kept), "never", "never", True),
        (Claim(kept, minimum=0.5), 0.5, "0.500", True),
        (Claim(kept, maximum=0.5), 0.5, "0.500", True),
        (Claim(kept, minimum=0.501), 0.5, "0.500", False), (Claim(kept), math.nan, "nan", False),
        # Of a summary the interval is bounded, of a span both ends.
        (Claim(kept, 2, minimum=0.25, maximum=0.75), SUMMARY, "0.50 (0.25 to 0.75)", True),
        (Claim(kept, 2, minimum=0.26), SUMMARY, "0.50 (0.25 to 0.75)", False),
        (Claim(kept, 2, maximum=0.74), SUMMARY, "0.50 (0.25 to 0.75)", False),
        (Claim(kept, 1, minimum=0.1, maximum=0.3), Span(0.1, 0.3), "0.1 to 0.3", True),
        (Claim(kept, 1, minimum=0.2), Span(0.1, 0.3), "0.1 to 0.3", False),
        (Claim(kept, 1, maximum=0.2), Span(0.1, 0.3), "0.1 to 0.3", False),
        (Claim(kept), Span(math.nan, math.nan), "nan to nan", False),
        # One seed has no interval, and is within no bounds.
        (Claim(kept, minimum=0), summarise_scores([0.5]), summarise_scores([0.5]).text(), False),
        (Claim(kept), summarise_scores([0.5]), summarise_scores([0.5]).text(), True),
    ],
)  # fmt: skip
def test_a_claim_states_its_value_and_holds_within_its_bounds(
    claim: Claim, value: Any, text: str, holds: bool, opened: Callable[..., Opened]
) -> None:
    assert claim.text(value) == text
    assert (claim.failure(value, opened().rows()) is None) == holds


def test_a_difference_is_shown_below_a_twentieth_after_holm(opened: Callable[..., Opened]) -> None:
    # Student's t of 2.99 over five seeds: p is 0.040, and twice as much beside one that is unclear.
    faint = summarise([0.1, 0.5, 0.05, 0.45, 0.25])
    clear, unclear = summarise([0.3, 0.31, 0.29, 0.3, 0.3]), summarise([1.0, -1.0, 0.5, -0.5, 0.1])
    assert faint.p == pytest.approx(0.040, abs=0.001)
    for other, is_shown in ((clear, True), (unclear, False)):
        family = Family(lambda _, other=other: {"faint": faint, "other": other})
        for claim, holds in (
            (family.shown("faint"), is_shown), (family.not_shown("faint"), not is_shown),
        ):  # fmt: skip
            assert (claim.failure(faint, opened().rows()) is None) == holds
    # One-sided, or of the wrong sign, is not what was asked for.
    assert Family(lambda _: {"a": -clear}).shown("a").failure(-clear, opened().rows()) is not None

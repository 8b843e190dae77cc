import pytest

from rulekeep.summary import score_interval


def test_interval_is_student_t() -> None:
    # Five values with mean 0.5 and standard deviation 0.1; t(0.975, 4) = 2.776445.
    values = [
        0.5 + 0.1 * x
        for x in (
            -1.2649110640673518,
            -0.6324555320336759,
            0,
            0.6324555320336759,
            1.2649110640673518,
        )
    ]
    interval = score_interval(values)
    assert interval.mean == pytest.approx(0.5)
    assert interval.high - interval.mean == pytest.approx(2.776445 * 0.1 / 5**0.5, rel=1e-6)
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)
    assert interval.seeds == 5


def test_interval_of_scores_stays_between_zero_and_one() -> None:
    assert score_interval([1.0, 0.9]).high == 1.0
    assert score_interval([0.0, 0.1]).low == 0.0


def test_one_seed_has_no_interval() -> None:
    assert score_interval([0.7]) == (0.7, None, None, 1)

"""The rules that must survive five compactions, as tests: `pytest examples`."""

import pytest
from compactor import compact

import rulekeep as rk


@pytest.fixture(scope="module")
def left() -> rk.Survival:
    """What is left of the rules in 20 histories."""
    return rk.survives(compact, budget=0.25, rounds=5)


def test_it_works_in_every_history(left: rk.Survival) -> None:
    assert not left.failure, left.failure
    assert left.unpaired[-1] == 0


def test_rules_of_the_system_prompt_survive(left: rk.Survival) -> None:
    assert left.by_place["system"][-1].mean == 1

"""The rules that must survive five compactions, as tests: `pytest examples`."""

from collections.abc import Callable

import pytest
from compactor import compact

import rulekeep as rk


@pytest.fixture(scope="module")
def left(rules_survive: Callable[..., rk.Survival]) -> rk.Survival:
    """What is left of the rules in 20 histories; `rules_survive` comes with rulekeep."""
    return rules_survive(compact, at_least=0.1, budget=0.25, rounds=5)


def test_no_tool_call_loses_its_result(left: rk.Survival) -> None:
    assert left.unpaired[-1] == 0


def test_rules_of_the_system_prompt_survive(left: rk.Survival) -> None:
    assert left.by_place["system"][-1].mean == 1

"""What a drawn sample must be: every task of ours is, and what is not is told in one line."""

import leaks
import pytest
import tiny
from reading import SAMPLED

from rulekeep.checks.mixers import screen
from rulekeep.checks.sample_form import said_of_sample
from rulekeep.checks.tasks import check_task
from rulekeep.sweeps.planning import resolve_any
from rulekeep.tasks import Recall
from rulekeep.tasks.mixed_recall import MixedRecall

ZOOLOGY = Recall.options_type.parse(layout="zoology")
TASKS = {
    **{kind.name: kind() for kind in SAMPLED},
    "recall zoology": Recall(ZOOLOGY),
    "mixed recall": MixedRecall(),
}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("context", [128, 256])
def test_every_task_draws_its_samples_in_the_form_that_is_asked(name: str, context: int) -> None:
    task = TASKS[name]
    assert said_of_sample(task, task.sample("train", context, 3, seed=1), 3, context) is None


def test_a_run_on_scattered_answers_is_screened_and_not_refused() -> None:
    task = f"{MixedRecall.__module__}:{MixedRecall.__name__}"
    screen(resolve_any(tiny.tiny(task=task, task_options={}, mixer=f"{leaks.__file__}:Honest")))


def test_scattered_answers_are_held_against_the_contract_of_a_task() -> None:
    rows = check_task(Recall, context=256, examples=2000, layout="zoology")
    assert not [row for row in rows if row.passed is False]
    said = {row.property: row.passed for row in rows}
    assert said.pop("tables are aligned")
    assert said.pop("first uses have a source before them")
    # Every property was looked at, to the last.
    assert "readers without memory stay at chance" in said

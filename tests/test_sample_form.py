"""What a drawn sample must be: every task of ours is, and what is not is told in one line."""

import numpy as np
import pytest
from reading import SAMPLED
from scripts import script

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


@pytest.mark.parametrize("name", ["recite", "recall zoology"])
@pytest.mark.parametrize("start", [0, -1, 128])
def test_an_answer_that_starts_nowhere_is_told(name: str, start: int) -> None:
    task = TASKS[name]
    sample = task.sample("train", 128, 3, seed=1)._replace(answer_start=start)
    said = said_of_sample(task, sample, 3, 128)
    assert said == f"tables are aligned: answer_start: {start}, must be from 1 to 127"


@pytest.mark.parametrize("name", TASKS)
def test_tables_that_do_not_reach_from_the_answers_start_to_the_end_are_told(name: str) -> None:
    task = TASKS[name]
    sample = task.sample("train", 128, 3, seed=1)
    early = sample._replace(answer_start=sample.answer_start - 1)
    short = sample._replace(chance=np.ones((3, 1)))
    for wrong, first in ((early, "supervised: "), (short, "chance: [3, 1], must be [3, ")):
        said = said_of_sample(task, wrong, 3, 128)
        assert said is not None
        assert said.startswith(f"tables are aligned: {first}")


def test_a_run_on_scattered_answers_is_screened_and_not_refused() -> None:
    spec = next(iter(script("literature", "studies").literature([])))
    assert spec.task.endswith(MixedRecall.__name__)
    screen(resolve_any(spec))


def test_scattered_answers_are_held_against_the_contract_of_a_task() -> None:
    rows = check_task(Recall, context=256, examples=2000, layout="zoology")
    assert not [row for row in rows if row.passed is False]
    said = {row.property: row.passed for row in rows}
    assert said.pop("tables are aligned")
    assert said.pop("first uses have a source before them")
    # Every property was looked at, to the last.
    assert "readers without memory stay at chance" in said

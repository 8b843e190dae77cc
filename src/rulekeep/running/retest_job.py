"""What a process gets to test a run later. No torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from rulekeep.printable import pasted
from rulekeep.specs import Spec
from rulekeep.specs.run import in_order


class Job(Spec):
    """The folder of a run, as an absolute path, and the lengths to test it at.

    `examples` are the number at each length; None takes the number in the spec of the run.
    """

    folder: str
    contexts: Annotated[tuple[int, ...], AfterValidator(in_order)]
    examples: int | None = Field(default=None, ge=1, le=10**7)
    command: str


def retest_job(job: Job, progress: Callable[[int], None]) -> list[str]:
    """Test a run; `progress` is called with each length as it begins, counted from 1.

    What it returns are lines to print.
    """
    # Only the process of the job loads torch.
    from rulekeep.running.retest import add_tests

    return add_tests(job, progress)


def trained_anew(folder: Path) -> str:
    """How a run gets weights."""
    return (
        f"let rulekeep explain {pasted(folder)} train it again; where that says that "
        "they could not be kept, delete the folder and make the run again"
    )

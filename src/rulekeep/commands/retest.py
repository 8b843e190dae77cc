"""`rulekeep test`: a run that is done, tested at other lengths without training again."""

from collections.abc import Callable
from typing import Annotated

from rulekeep.commands.done_run import done_run, result_of
from rulekeep.commands.options import Lengths, within
from rulekeep.commands.printed import print_scores
from rulekeep.console import EXIT_FAILED, command_line, say, tell
from rulekeep.executors import Advanced, Finished
from rulekeep.executors.here import executor_for
from rulekeep.printable import counted, pasted
from rulekeep.running.retest_job import Job, Outcome, no_weights
from rulekeep.specs import RunSpec, UsageError

MOST = 10**7


def retest(
    run: str,
    /,
    *,
    contexts: Lengths,
    examples: Annotated[int | None, within(1, MOST)] = None,
) -> int:
    """Test a trained model at other lengths, from its kept weights, and add them to its record.

    Nothing is trained. A length that was tested already is tested again only with more examples.

    Parameters
    ----------
    run
        Folder of one run, RUNS/ID, or a folder of runs that has one only. Four letters of an id
        are enough where no other begins so.
    contexts
        Lengths in tokens to test at, between commas.
    examples
        Test examples at each length; as many as the run's own tests have if left out.
    """
    folder, record, spec = done_run(run)
    job = Job(
        folder=str(folder.path.absolute()),
        contexts=contexts,
        examples=examples,
        command=command_line(),
    )
    standing = {row.context for row in record.tests()}
    if not folder.weights.exists() and not standing.issuperset(job.contexts):
        raise UsageError(no_weights(folder.path))
    outcome: Outcome | None = result_of(_ended(job, spec))
    if outcome is None:
        return EXIT_FAILED
    for note in outcome.notes:
        say(note)
    print_scores(folder.load() or record)
    tell(f"record: {folder.record} ({counted(len(outcome.tested), 'length')} added)")
    tell(f"report: rulekeep report {pasted(folder.path.parent)}")
    return 0


def retest_job(job: Job, progress: Callable[[int], None]) -> Outcome:
    """Test a run; `progress` is called with each length as it begins, counted from 1."""
    # Only the process of the job loads torch.
    from rulekeep.running.retest import add_tests

    return add_tests(job, progress)


def _ended(job: Job, spec: RunSpec) -> Finished:
    executor = executor_for([spec.task, *spec.mixers], 1)
    executor.prepare()
    for event in executor.run(retest_job, [job]):
        if isinstance(event, Finished):
            return event
        if isinstance(event, Advanced):
            say(f"testing: length {event.steps} of at most {len(job.contexts)}")
    raise AssertionError("a job ends")

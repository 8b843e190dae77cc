"""`rulekeep test` and `explain`: what is done with a run that is done."""

from pathlib import Path
from typing import Annotated

from rulekeep import api
from rulekeep.commands.options import Integers, Lengths, Seed, Whole, within
from rulekeep.commands.printed import print_scores, print_tables
from rulekeep.console import command_line, say, tell
from rulekeep.executors import LocalExecutor
from rulekeep.explain.record import RECORD, Job, read_explanation
from rulekeep.printable import pasted
from rulekeep.records.folders import done_run
from rulekeep.records.store import Record
from rulekeep.specs import RunSpec

_LONG_CONTEXT = 1028
_FEWEST, _MOST = 40, 10**6


def retest(
    run: str,
    /,
    *,
    contexts: Integers,
    examples: Whole | None = None,
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
    tested = api.test(run, contexts=contexts, examples=examples)
    print_scores(tested.record)
    tell(f"record: {tested.folder / 'record.json'}")
    tell(f"report: rulekeep report {pasted(tested.folder.parent)}")
    return 0


def explain(
    run: str,
    /,
    *,
    contexts: Lengths | None = None,
    examples: Annotated[int, within(_FEWEST, _MOST)] = 2000,
    seed: Seed = 0,
) -> int:
    """Say where a run loses its rules: never written, lost in the body, or not read out.

    The model is that of the run's kept weights; where there are none, it is trained again.

    Parameters
    ----------
    run
        Folder of one run, RUNS/ID, or a folder of runs that has one only. Four letters of an id
        are enough where no other begins so.
    contexts
        Contexts in tokens to read it at, between commas; if left out, those that the run was
        tested at, up to 1028.
    examples
        Examples that train the probes; a quarter as many are scored.
    seed
        Seed of the probes' training examples.
    """
    folder, record, spec = done_run(run)
    job = Job(
        folder=str(folder.path.absolute()),
        contexts=contexts or _contexts(spec),
        examples=examples,
        seed=seed,
        command=command_line(),
    )
    steps, said = int(record.history[-1]["step"]), set[str]()

    def heard(step: int) -> None:
        stages = [f"reading states at {context:,} tokens" for context in job.contexts]
        stages.append(f"tracing tokens at {max(job.contexts):,}")
        stage = f"training again, {steps} steps" if step <= steps else stages[step - steps - 1]
        if stage not in said:
            said.add(stage)
            say(stage)

    explaining = "rulekeep.explain.explaining:write_explanation"
    for note in LocalExecutor(1).result(explaining, job, heard):
        say(note)
    _print(record, folder.path / RECORD)
    tell(f"record: {folder.path / RECORD}")
    tell(f"report: rulekeep report {pasted(folder.path.parent)}")
    return 0


def _contexts(spec: RunSpec) -> tuple[int, ...]:
    longest = spec.context if spec.added_positions == "learned" else _LONG_CONTEXT
    return tuple(c for c in spec.tested if c <= longest) or (spec.context,)


def _print(record: Record, path: Path) -> None:
    from rulekeep.analysis.table import tabulated
    from rulekeep.reporting.explained import explained, sentences, tables

    found, _ = explained(tabulated([record])[0], [read_explanation(path)])
    print_tables(table.without({}, found[0].place) for table in tables(found))
    for sentence in sentences(found):
        tell(sentence[:1].upper() + sentence[1:])

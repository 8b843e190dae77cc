"""Tests a kept model at lengths that its run was not asked for, and adds them to its record.

    record ─ kept weights ─ one evaluation: is it the record's model? ─ each length ─ record

Examples have the same names as in a run. So the figures are the same, to the bit, as those of a run
that was asked for the length at once. The record says which lengths came later (`tested_later`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rulekeep.printable import pasted
from rulekeep.records.record import how_ended
from rulekeep.records.store import (
    BusyError,
    CorruptRecordError,
    Record,
    RunFolder,
    Values,
    read_record,
    write_record,
)
from rulekeep.running.building import environment
from rulekeep.running.model_figures import decoding, row_of, test_examples
from rulekeep.running.trained import check_length, kept_model, resolve_done
from rulekeep.running.weights import WeightsError
from rulekeep.specs import UsageError
from rulekeep.specs.run import RetestSpec

# Of a figure, or of 1: rounding on another machine moves it less, another model more.
_OF_ONE_MODEL = 1e-3


def add_tests(job: RetestSpec, progress: Callable[[int], None]) -> list[str]:
    """Test a finished run, and write its record again after each length; lines to print.

    `progress` is called with each length as it begins, counted from 1.
    """
    folder = RunFolder(Path(job.folder))
    try:
        with folder.locked():
            # As it is under the lock: another process may have just added to it.
            record = folder.load()
            if record is None:
                raise UsageError(f"{folder.path}: its record is gone; make the run again")
            return _add(job, folder, record, progress)
    except BusyError:
        raise UsageError(f"{folder.path}: another process is at it; wait until it ends") from None
    except CorruptRecordError as error:
        raise UsageError(f"{folder.path}: {error}; make the run again") from None
    except OSError as error:
        place = error.filename or folder.path
        raise UsageError(f"{place}: {error.strerror}; the record stands as it was") from None


def _add(
    job: RetestSpec, folder: RunFolder, record: Record, progress: Callable[[int], None]
) -> list[str]:
    resolved = resolve_done(folder, record)
    notes, wanted = list[str](), dict[int, int]()
    for context in job.contexts:
        check_length(resolved, context)
        examples = job.examples or test_examples(resolved.spec, context)
        if (tested := _examples(record, context)) >= examples:
            notes.append(f"{context} tokens: tested already, with {tested} examples")
        else:
            wanted[context] = examples
    if not wanted:
        return notes
    anew = (
        f"let rulekeep explain {pasted(folder.path)} train it again; where that says that they "
        "could not be kept, delete the folder and make the run again"
    )
    try:
        made, here = kept_model(folder, record, resolved), environment()
    except FileNotFoundError:
        raise UsageError(f"{folder.path}: no weights were kept; {anew}") from None
    except WeightsError as error:
        raise UsageError(f"{folder.path}: {error}; delete the file, and {anew}") from None
    for name, (before, now) in made.differences.items():
        if before is None or now is None or abs(now - before) > _OF_ONE_MODEL * max(1, before):
            raise UsageError(
                f"{folder.path}: its kept weights give {name} {now}, where the record has "
                f"{before}: the code has changed; test it with the rulekeep of its "
                "record, or make the run again"
            )
    if (there := record.environment.get("torch")) != here["torch"]:
        notes.append(
            f"the run was made with torch {there}, and this is {here['torch']}: figures may differ "
            "a little"
        )
    # What is written again is all that the file says, of which the record reads a part.
    values = read_record(folder.record)
    for number, context in enumerate(wanted, start=1):
        progress(number)
        rows, spec = [*values["evaluations"]], resolved.spec
        if context <= spec.context:
            more = spec.validation_examples
            rows.append(row_of(made.model, resolved, "validation", context, more))
        rows.append(row_of(made.model, resolved, "test", context, wanted[context]))
        new = [] if _examples(record, context) else [context]
        entry = {
            "context": context,
            "command": job.command,
            "environment": {**here, "device": resolved.spec.device},
            "differences": {name: list(pair) for name, pair in made.differences.items()},
        }
        earlier = [one for one in values.get("tested_later", []) if one["context"] != context]
        values = _with_rows(values, rows, decoding(made.model, resolved, new))
        values["tested_later"] = [*earlier, entry]
        write_record(folder.record, values)
    return [*notes, *made.notes]


def _examples(record: Record, context: int) -> int:
    """The number of examples on which a length was tested already."""
    return max((int(one.examples) for one in record.tests() if one.context == context), default=0)


def _with_rows(
    values: Values, rows: list[dict[str, Any]], there: dict[str, dict[str, Any]]
) -> Values:
    """A record with these rows and costs, in the order that a run gives them."""
    every = {(row["split"], row["context"]): row for row in rows}
    evaluations = [every[key] for key in sorted(every, key=lambda key: (key[0] == "test", key))]
    costs_of = dict(values["costs"])
    for name, new in there.items():
        by_length = {**costs_of.get(name, {}), **new}
        costs_of[name] = dict(sorted(by_length.items(), key=lambda cost: int(cost[0])))
    return {
        **values,
        **how_ended(evaluations),
        "evaluations": evaluations,
        "costs": costs_of,
    }

"""Measures the missing points of a record, each in a fresh process, and keeps each at once."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rulekeep.executors import Advanced, Executor, Failure, Finished
from rulekeep.executors.local import WORKER_ENVIRONMENT
from rulekeep.records import provenance as sources
from rulekeep.records.store import CorruptRecordError, said_aside, write_record
from rulekeep.running import costs
from rulekeep.specs import Option, SpeedSpec, UsageError
from rulekeep.speed.measuring import Job, measure, resolved
from rulekeep.speed.record import Point, SpeedRecord, read_speed

# What must be the same for figures to stand in one table.
_MACHINE = ("cpu", "cpu_capability", "cpu_count", "platform", "python", "torch")


class Step(NamedTuple):
    """A point has taken this many steps."""

    point: Point
    steps: int


class Ended(NamedTuple):
    """A point has ended: the record with what it measured, or why there is nothing."""

    point: Point
    record: SpeedRecord
    failure: Failure | None


def begin(spec: SpeedSpec, path: Path, command: str) -> tuple[SpeedRecord, list[str]]:
    """The record to continue: the existing one, or an empty one; and notes.

    Raises:
        UsageError: a mixer is impossible, or the existing record was measured differently.
    """
    # Threads are those of each point.
    machine = {key: value for key, value in costs.environment().items() if key != "threads"}
    environment: dict[str, Option] = {**machine, **WORKER_ENVIRONMENT, "flush_denormal": True}
    fresh = SpeedRecord(spec=spec, source=_source(spec), environment=environment, command=command)
    try:
        kept = read_speed(path)
    except FileNotFoundError:
        return fresh, []
    except CorruptRecordError as error:
        return fresh, [f"{error}; {said_aside(path)}"]
    for name in SpeedSpec.model_fields:
        before, now = getattr(kept.spec, name), getattr(spec, name)
        if before != now:
            raise _otherwise(path, f"{name} {_said(before)}, not {_said(now)}")
    for name in _MACHINE:
        before, now = kept.environment.get(name), environment[name]
        if before != now:
            raise _otherwise(path, f"{name} {before}, not {now}")
    if kept.source != fresh.source:
        raise _otherwise(path, "other code")
    return kept, []


def measure_missing(record: SpeedRecord, path: Path, executor: Executor) -> Iterator[Step | Ended]:
    """Measure every missing point of the record; each is on disk before the next starts."""
    missing = record.missing
    for event in executor.run(measure, [Job(record.spec, point) for point in missing]):
        point = missing[event.job]
        if isinstance(event, Advanced):
            yield Step(point, event.steps)
        if not isinstance(event, Finished):
            continue
        if event.failure is None:
            measured = (*record.measured, event.result)
            record = record.model_copy(update={"measured": measured})
            write_record(path, record.as_recorded)
        yield Ended(point, record, event.failure)


def _otherwise(path: Path, how: str) -> UsageError:
    return UsageError(f"{path}: was measured with {how}; give the same, or another --out")


def _source(spec: SpeedSpec) -> str:
    """A digest of the code that is measured and of what measures it."""
    total = hashlib.sha256(sources.digest().encode())
    for mixer in spec.mixers:
        total.update(resolved(spec, mixer).source.encode())
    return total.hexdigest()


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(str(getattr(one, "label", one)) for one in value)
    return str(value)

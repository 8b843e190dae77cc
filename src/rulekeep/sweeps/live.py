"""The display of a running sweep: a live table on a terminal, plain lines elsewhere.

Without a terminal, a line every 30 s shows the progress: the first run may take minutes.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple, TypeAlias

from rulekeep.console import plain_line, progress_bars, rich_console, say, score_text
from rulekeep.executors import Advanced, Started
from rulekeep.executors.base import USAGE
from rulekeep.printable import printable
from rulekeep.records import Record
from rulekeep.sweeps.planning import Job

SECONDS_APART = 30.0


class JobFinished(NamedTuple):
    """A job has a record: a result, or one that says why there is none."""

    job: Job
    record: Record


class JobAwaited(NamedTuple):
    """Another process is making this run; its record is awaited."""

    job: Job


Event: TypeAlias = Started | Advanced | JobAwaited | JobFinished


def shown(events: Iterator[Event], jobs: Sequence[Job]) -> Iterator[JobFinished]:
    """Passes on the finished runs, showing how many are done, running and failed, and the ETA."""
    console = rich_console(errors=True)
    started = time.monotonic()
    total = sum(job.steps for job in jobs)
    steps, running = dict.fromkeys((job.id for job in jobs), 0), set[str]()
    done = failed = 0

    def line(text: str) -> None:
        console.print(plain_line(text), soft_wrap=True)

    def counts() -> str:
        testing = sum(steps[job.id] == job.steps for job in jobs if job.id in running)
        now = f"{done} of {len(jobs)} done, {len(running)} running, {failed} failed"
        return f"{now}, {testing} testing" if testing else now

    def far() -> str:
        made, seconds = sum(steps.values()), time.monotonic() - started
        said = f"step {made:,} of {total:,}, {counts()}"
        # Steps say nothing of how long a test takes.
        if not made or said.endswith("testing"):
            return said
        return f"{said}, about {seconds * (total - made) / made / 60:.0f} min left"

    lines = _saying(far) if jobs and not console.is_terminal else nullcontext()
    with progress_bars(console, shown=bool(jobs)) as progress, lines:
        whole = progress.add_task(counts(), total=total)
        bars = {
            job.id: progress.add_task(printable(job.label), total=job.steps, visible=False)
            for job in jobs
        }
        for event in events:
            job = event.job
            match event:
                case Started(_, start):
                    # What it did before is gone.
                    steps[job.id] = 0
                    running.add(job.id)
                    if start > 1:
                        line(f"{job.label}: its worker was lost; start {start} of it begins")
                case Advanced(_, reached):
                    running.add(job.id)
                    steps[job.id] = reached
                    progress.update(bars[job.id], completed=reached, visible=True)
                case JobAwaited():
                    running.discard(job.id)
                    line(f"{job.label}: another process makes it; waiting for it")
                case JobFinished(_, record):
                    # Passed on first: a run whose line is out counts, whenever Ctrl-C comes.
                    yield event
                    steps[job.id] = job.steps
                    running.discard(job.id)
                    done, failed = done + record.is_result, failed + (not record.is_result)
                    progress.update(bars[job.id], visible=False)
                    seconds = f"{time.monotonic() - started:.0f} s since the start"
                    line(f"[{done + failed}/{len(jobs)}] {job.label}: {_outcome(event)}, {seconds}")
                    # What came up as it was made; of rules in words their own command says it.
                    for note in () if record.choices else record.notes:
                        if note not in job.noted:
                            line(f"run {job.id}: {note}")
            progress.update(whole, description=counts(), completed=sum(steps.values()))


@contextmanager
def _saying(line: Callable[[], str]) -> Iterator[None]:
    """Print the line every 30 s from its own thread: there may be no event for as long."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(SECONDS_APART):
            say(line())

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _outcome(event: JobFinished) -> str:
    record = event.record
    if record.reason.startswith(USAGE):
        # What its user can mend is said once, as the command ends.
        return record.status
    if record.status != "done":
        return f"{record.status}: {record.reason}"
    if record.choices or record.rules:
        what = "prompts" if record.choices else "histories"
        return f"{record.costs.get('seconds', 0.0):.1f} s for its {what}"
    kept = [
        f"{score_text(row.figures.get('retention'))} at {row.context}" for row in record.tests()
    ]
    scores = f"retention {', '.join(kept)}" if kept else "done"
    return f"{scores}, trained {record.costs['train_seconds']:.1f} s"

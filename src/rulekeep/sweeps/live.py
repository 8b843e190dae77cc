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
from rulekeep.printable import counted, printable
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
    """Passes on the finished runs, showing how many are done, running and failed, and the ETA.

    Where a step says how long others take, the time for all is said after the first ones.
    """
    console = rich_console(errors=True)
    started = time.monotonic()
    total = sum(job.steps for job in jobs)
    effort = {job.id: job.effort or 1.0 for job in jobs}
    # When the first step was made, and what was made by then: loading a model says nothing.
    begun: tuple[float, float] | None = None
    steps, running = dict.fromkeys((job.id for job in jobs), 0), set[str]()
    done = failed = 0
    told = False

    def line(text: str) -> None:
        console.print(plain_line(text), soft_wrap=True)

    def counts() -> str:
        testing = sum(steps[job.id] == job.steps for job in jobs if job.id in running)
        now = f"{done} of {len(jobs)} done, {len(running)} running, {failed} failed"
        return f"{now}, {testing} testing" if testing else now

    def made() -> float:
        return sum(steps[job.id] * effort[job.id] for job in jobs)

    def left() -> str:
        if begun is None or (since := made() - begun[1]) <= 0:
            return ""
        to_make = sum(job.steps * effort[job.id] for job in jobs) - made()
        minutes = (time.monotonic() - begun[0]) * to_make / since / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"

    def far() -> str:
        said = f"step {sum(steps.values()):,} of {total:,}, {counts()}"
        # Steps say nothing of how long a test takes.
        return said if said.endswith("testing") else ", ".join(filter(None, (said, left())))

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
                    if begun is None:
                        begun = time.monotonic(), made()
                    elif not told and job.effort and (time_left := left()):
                        told = True
                        runs = counted(len(jobs), "run")
                        line(f"{time_left} for {runs}, by the pace of the first steps")
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

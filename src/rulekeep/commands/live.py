"""The display of a running sweep: a live table on a terminal, plain lines elsewhere.

Without a terminal, a line every 30 s shows the progress: the first run may take minutes.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from rulekeep.console import plain_line, progress_bars, rich_console, say, score_text
from rulekeep.executors import Advanced, Started
from rulekeep.executors.base import USAGE
from rulekeep.printable import printable
from rulekeep.sweeps.planning import Job
from rulekeep.sweeps.sweep import Event, JobAwaited, JobFinished

SECONDS_APART = 30.0


def shown(events: Iterator[Event], jobs: Sequence[Job]) -> Iterator[JobFinished]:
    """Passes on the finished runs, showing how many are done, running and failed, and the ETA."""
    console = rich_console(errors=True)
    started = time.monotonic()
    steps = dict.fromkeys((job.id for job in jobs), 0)
    running = set[str]()
    done = failed = finished_steps = 0
    with (
        progress_bars(console, shown=bool(jobs)) as progress,
        ExitStack() as stack,
    ):
        whole = progress.add_task("", total=sum(job.steps for job in jobs))
        bars = {
            job.id: progress.add_task(printable(job.label), total=job.steps, visible=False)
            for job in jobs
        }

        def counted() -> str:
            now = f"{len(running)} running, {failed} failed"
            return f"{done} of {len(jobs)} done, {now}{testing()}"

        def testing() -> str:
            trained = sum(steps.get(job.id) == job.steps for job in jobs)
            return f", {trained} testing" if trained else ""

        def far() -> str:
            made = finished_steps + sum(steps.values())
            total = sum(job.steps for job in jobs)
            seconds = time.monotonic() - started
            # Steps say nothing of how long a test takes.
            known = made and not testing()
            left = f", about {seconds * (total - made) / made / 60:.0f} min left" if known else ""
            return f"step {made:,} of {total:,}, {counted()}{left}"

        progress.update(whole, description=counted())
        if jobs and not console.is_terminal:
            stack.enter_context(_saying(far))
        for event in events:
            if isinstance(event, Started):
                # It runs from now on: its first step may take minutes. What it did before is gone.
                steps[event.job.id] = 0
                progress.update(bars[event.job.id], completed=0)
                running.add(event.job.id)
                if event.start > 1:
                    label = plain_line(event.job.label)
                    said = f"{label}: its worker was lost; start {event.start} of it begins"
                    console.print(said, soft_wrap=True)
            elif isinstance(event, Advanced):
                if event.job.id in steps:
                    running.add(event.job.id)
                    steps[event.job.id] = event.steps
                    progress.update(bars[event.job.id], completed=event.steps, visible=True)
            elif isinstance(event, JobAwaited):
                running.discard(event.job.id)
                label = plain_line(event.job.label)
                said = f"{label}: another process makes it; waiting for it"
                console.print(said, soft_wrap=True)
            else:
                # Passed on first: a run whose line is out counts, whenever Ctrl-C comes.
                yield event
                steps.pop(event.job.id, None)
                running.discard(event.job.id)
                finished_steps += event.job.steps
                good = event.record.is_result
                done, failed = done + good, failed + (not good)
                progress.update(bars[event.job.id], visible=False)
                console.print(
                    plain_line(
                        f"[{done + failed}/{len(jobs)}] {event.job.label}: {_outcome(event)}, "
                        f"{time.monotonic() - started:.0f} s since the start"
                    ),
                    soft_wrap=True,
                )
                # What came up as it was made; of rules in words their own command says it.
                for note in () if event.record.choices else event.record.notes:
                    if note not in event.job.noted:
                        said = plain_line(f"run {event.job.id}: {note}")
                        console.print(said, soft_wrap=True)
            progress.update(
                whole, description=counted(), completed=finished_steps + sum(steps.values())
            )


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

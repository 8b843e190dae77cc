"""`rulekeep speed`: how fast mixers are beside attention, measured, kept and shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rulekeep.commands.options import Device, Integers, opened, run_folder, within
from rulekeep.commands.printed import print_tables
from rulekeep.console import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    command_line,
    progress_bars,
    rich_console,
    say,
    tell,
)
from rulekeep.executors import LocalExecutor
from rulekeep.executors.local import available_cores
from rulekeep.printable import pasted, printable
from rulekeep.records.store import LOCK, BusyError, locked
from rulekeep.running.mixers import own_options_first
from rulekeep.running.resolving import check_device
from rulekeep.specs import HYBRID, SpeedMixer, SpeedSpec, UsageError, mixer_specs
from rulekeep.specs.speed import MOST_REPEATS, MOST_TOKENS
from rulekeep.speed.figures import failures
from rulekeep.speed.record import RECORD, Failed, SpeedRecord, points, read_speed

if TYPE_CHECKING:
    # Only what measures loads torch.
    from rulekeep.speed.running import Ended

_THREADS = (1, 2)


def speed(
    *,
    mixers: str | None = None,
    contexts: Integers = (256, 1028, 4096, 16384),
    repeats: Annotated[int, within(1, MOST_REPEATS)] = 3,
    tokens: Annotated[int, within(2, MOST_TOKENS)] = 65536,
    device: Device = "cpu",
    out: str | None = None,
) -> int:
    """Measure mixers side by side with attention: steps, decoding, memory, operator calls.

    Parameters
    ----------
    mixers
        Names, file.py:Class, a+b, each with options in brackets, as in delta[heads=8], between
        commas; every mixer of the catalogue if left out. Attention is always among them.
    contexts
        Contexts in tokens, between commas.
    repeats
        Timed steps of each mixer; medians and quartiles are of so many.
    tokens
        Tokens a step, whatever the context.
    out
        Folder for the record, runs/speed-TIME if left out. What stands there is not measured
        again.
    """
    spec = SpeedSpec.parse(
        mixers=_mixers(mixers),
        contexts=contexts,
        repeats=repeats,
        tokens=tokens,
        device=device,
        threads=tuple(n for n in _THREADS if n <= available_cores()),
    )
    check_device(device)
    folder = run_folder("speed", out)
    path, failed = folder / RECORD, list[str]()
    try:
        with opened(folder), _alone(folder):
            for ended in _measured(spec, path):
                if ended.failure is not None:
                    failed.append(f"{ended.point.label}: {ended.failure.reason}")
    except KeyboardInterrupt:
        say(_interrupted(spec, path))
        return EXIT_INTERRUPTED
    record = read_speed(path)
    _print(record)
    tell(f"record: {path}")
    tell(f"report: rulekeep report {pasted(folder)}")
    for line in failed:
        say(line)
    return EXIT_FAILED if failed or failures(record) else 0


def _mixers(text: str | None) -> tuple[SpeedMixer, ...]:
    if text is None:
        from rulekeep.mixers import MIXERS

        text = ",".join(MIXERS)
    found = [own_options_first(one) for one in mixer_specs(text)]
    for one in found:
        if one.mixer.count(HYBRID) > 1:
            raise UsageError(
                f"mixer {one.mixer!r}: all are measured in a model of 2 layers; name two at most"
            )
        for key in one.settings:
            raise UsageError(
                f"mixer {one.mixer!r}: {key} is no option of a mixer; all are measured in one "
                "model, of width 64 and 2 layers"
            )
    return tuple(SpeedMixer(name=one.mixer, options=dict(one.options)) for one in found)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from measuring in the folder: of two records, the later would stay alone.

    Raises:
        UsageError: another process measures there.
    """
    try:
        with locked(folder):
            try:
                yield
            finally:
                if not (folder / RECORD).exists():
                    # Where nothing was measured, nothing stays.
                    (folder / LOCK).unlink()
    except BusyError:
        raise UsageError(
            f"{folder}: another process measures there; wait until it ends, or name another --out"
        ) from None


def _measured(spec: SpeedSpec, path: Path) -> Iterator["Ended"]:
    """Measure what the record lacks, and print progress on standard error."""
    executor = LocalExecutor(1)
    executor.prepare()
    from rulekeep.speed.running import Ended, begin, measure_missing

    record, notes = begin(spec, path, command_line())
    for note in notes:
        say(note)
    if len(spec.threads) < len(_THREADS):
        say("this process may use one core only: nothing is measured on 2 threads")
    total, done = len(points(spec)), len(record.measured)
    if done:
        say(f"{done} of {total} measurements stand in {path}")
    console = rich_console(errors=True)
    # Drawn once a second only: what is measured is on the same cores.
    with progress_bars(console, ends=False, per_second=1) as progress:
        whole = progress.add_task("measurements", total=total, completed=done)
        steps = progress.add_task("", total=len(spec.mixers) * (1 + spec.repeats), visible=False)
        for event in measure_missing(record, path, executor):
            if not isinstance(event, Ended):
                label = event.point.label
                progress.update(
                    steps, description=printable(label), completed=event.steps, visible=True
                )
                continue
            done += 1
            progress.update(steps, visible=False)
            progress.update(whole, completed=done)
            console.print(printable(f"[{done}/{total}] {_outcome(event)}"), soft_wrap=True)
            yield event


def _outcome(ended: "Ended") -> str:
    if ended.failure is not None:
        return f"{ended.point.label}: {ended.failure.status}: {ended.failure.reason}"
    measured = ended.record.measured[-1]
    broken = sum(isinstance(row, Failed) for row in measured.rows.values())
    return f"{ended.point.label}: {measured.seconds:.1f} s" + (
        f", {broken} failed" if broken else ""
    )


def _interrupted(spec: SpeedSpec, path: Path) -> str:
    kept = len(read_speed(path).measured) if path.exists() else 0
    return (
        f"interrupted: {kept} of {len(points(spec))} measurements are kept; the same command with "
        f"--out {pasted(path.parent)} makes the others"
    )


def _print(record: SpeedRecord) -> None:
    from rulekeep.reporting.speed import sentences, tables

    print_tables(tables(record))
    for sentence in sentences(record):
        tell(sentence)

"""`rulekeep speed`: how fast mixers are beside attention, measured, kept and shown."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

from rulekeep.commands.options import Device, Integers, within
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
from rulekeep.executors import Finished, LocalExecutor
from rulekeep.executors.base import Advanced
from rulekeep.executors.local import WORKER_ENVIRONMENT, available_cores
from rulekeep.mixers import MIXERS
from rulekeep.printable import pasted, printable
from rulekeep.records.folders import make_folder, run_folder
from rulekeep.records.identity import source_digest
from rulekeep.records.store import write_record
from rulekeep.running.building import check_device, environment, own_options_first
from rulekeep.specs import HYBRID, UsageError, mixer_specs
from rulekeep.speed.figures import load
from rulekeep.speed.record import MOST_REPEATS, MOST_TOKENS, RECORD, SpeedRecord, SpeedSpec

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
        Folder for the record, speed.json; runs/speed-TIME if left out.
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
    path = folder / RECORD
    if os.path.lexists(path):
        raise UsageError(f"{path}: a measurement stands there; name another --out")
    if len(spec.threads) < len(_THREADS):
        say("this process may use one core only: nothing is measured on 2 threads")
    try:
        make_folder(folder, f"--out {folder}")
        record = _measured(spec, path)
    except KeyboardInterrupt:
        say(f"interrupted: {path} keeps what was measured" if path.exists() else "interrupted")
        return EXIT_INTERRUPTED
    from rulekeep.reporting.speed import tables

    print_tables(tables(record))
    tell(load(record))
    tell(f"record: {path}")
    tell(f"report: rulekeep report {pasted(folder)}")
    return EXIT_FAILED if record.failures else 0


def _mixers(text: str | None) -> tuple[str, ...]:
    """The mixers as a record names them, their options theirs alone."""
    asked = [own_options_first(mixer) for mixer in mixer_specs(text or ",".join(MIXERS))]
    for mixer in asked:
        if mixer.mixer.count(HYBRID) > 1:
            raise UsageError(
                f"mixer {mixer.mixer!r}: all are measured in a model of 2 layers; name two at most"
            )
        for key in mixer.settings:
            raise UsageError(
                f"mixer {mixer.mixer!r}: {key} is no option of a mixer; all are measured in one "
                "model, of width 64 and 2 layers"
            )
    return tuple(mixer.text for mixer in asked)


def _measured(spec: SpeedSpec, path: Path) -> SpeedRecord:
    """Measure every point in a fresh process; each is on disk before the next starts."""
    executor = LocalExecutor(1)
    executor.prepare()
    from rulekeep.speed.measuring import measure, resolved, row

    for mixer in spec.mixers:
        # What is impossible is refused before anything is measured.
        resolved(spec, mixer)
    # Threads are those of each point.
    machine = {key: value for key, value in environment().items() if key != "threads"}
    record = SpeedRecord(
        spec=spec,
        source=source_digest(),
        environment={**machine, **WORKER_ENVIRONMENT, "flush_denormal": True},
        command=command_line(),
    )
    console = rich_console(errors=True)
    # Drawn once a second only: what is measured is on the same cores.
    with progress_bars(console, ends=False, per_second=1) as progress:
        whole = progress.add_task("measurements", total=len(spec.points))
        steps = progress.add_task("", total=len(spec.mixers) * (1 + spec.repeats), visible=False)
        for event in executor.run(partial(measure, spec), spec.points):
            point = event.job
            if isinstance(event, Advanced):
                named = printable(point.label)
                progress.update(steps, description=named, completed=event.steps, visible=True)
            if not isinstance(event, Finished):
                continue
            rows = event.result
            if event.failure is not None:
                why = f"{event.failure.status}: {event.failure.reason}"
                mixers = [point.mixer] if point.mixer else spec.mixers
                rows = [row(point, point.context, one, "failed", why) for one in mixers]
            record = record.model_copy(update={"measured": (*record.measured, *rows)})
            write_record(path, record.as_recorded)
            progress.update(steps, visible=False)
            progress.advance(whole)
            failed = sum(one.figure == "failed" for one in rows)
            ended = f"{point.label}{f', {failed} failed' if failed else ''}"
            console.print(printable(ended), soft_wrap=True)
    return record

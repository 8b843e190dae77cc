"""Makes the run of one job, in the process of that job.

    lock the folder ─ read its plan ─ resolve ─ screen the mixers ─ run ─ write the record

What makes a run of each kind, `planning.RUNS` says: a trained one `rulekeep.running.run`.
"""

import os
import platform
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from rulekeep.printable import one_line
from rulekeep.records.store import BusyError, RunFolder, Values, read_record, write_record
from rulekeep.registry import is_outside
from rulekeep.running.building import environment, take_gpu
from rulekeep.specs import CompactionSpec, UsageError
from rulekeep.sweeps.planning import RUNS, Job, resolve_planned

# The answer of a job whose folder another process holds.
BUSY = "busy"
# Runs of these kinds need none, and may be made where there is none.
NO_TORCH = (CompactionSpec.kind,)


def make_run(job: Job, progress: Callable[[int], None], *, tracker: str, keep_weights: bool) -> str:
    """Make the run of a job in its own process."""
    folder = RunFolder(Path(job.root) / job.id, keeps_weights=keep_weights)
    if not folder.path.is_dir():
        raise UsageError(
            f"{job.root}: the worker on {platform.node()} does not see the runs of this "
            "folder; put it where all nodes see it (docs/cluster.md)"
        )
    # For the user too: one line, without the place in our code.
    warnings.formatwarning = lambda message, *_, **__: f"rulekeep: {one_line(str(message), 2000)}\n"
    try:
        with folder.locked():
            return _make(folder, progress, tracker)
    except BusyError:
        return BUSY


def _make(folder: RunFolder, progress: Callable[[int], None], tracker: str) -> str:
    record = folder.read([])
    if record is not None and record.is_result:
        # Another driver was faster.
        return "done"
    attempt = folder.start()
    planned = read_record(folder.plan)
    os.chdir(planned["working_folder"])
    # Before anything of a user's is loaded: a process that is killed can say it no more.
    write_record(folder.environment, _environment(planned))
    resolved = resolve_planned(planned, folder.id)
    if resolved.spec.kind not in NO_TORCH:
        # Only the process that makes a run loads torch.
        take_gpu(getattr(resolved.spec, "device", "cpu"))
        # Not where it is planned: what hangs or crashes takes no more than its own run.
        if any(map(is_outside, resolved.versions)):
            from rulekeep.checks.mixers import screen

            screen(resolved)
    # Only here is what trains loaded, and torch with it.
    run: Any = import_module(RUNS[resolved.spec.kind].runner).run
    if not tracker:
        made = run(resolved, folder, progress, lambda *_: None)
    else:
        from rulekeep.running.trackers import tracked

        made = tracked(
            tracker, folder.path, planned["spec"], lambda log: run(resolved, folder, progress, log)
        )
    aside = [f"{path.name} was set aside as corrupt" for path in folder.aside]
    notes = [*made.pop("notes", []), *aside]
    head = {"id": folder.id, "kind": resolved.spec.kind, "versions": dict(resolved.versions)}
    head["asked"] = resolved.asked
    write_record(folder.record, {**head, **made, "notes": notes, "attempt": attempt})
    for left in (folder.checkpoint, folder.log, folder.environment):
        left.unlink(missing_ok=True)
    return "done"


def _environment(planned: Values) -> Values:
    """The machine of a run without a result, as far as it is known before the run."""
    if planned["kind"] in NO_TORCH:
        return {}
    asked = {key: value for key, value in planned["spec"].items() if key in ("device", "threads")}
    return {**environment(), **asked}

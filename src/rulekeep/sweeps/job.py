"""Makes the run of one job, in the process of that job.

    lock the folder ─ read its plan ─ resolve ─ screen the mixers ─ run ─ write the record

`runners` says what makes a run of each kind; of a trained one it is `rulekeep.running.run`.
"""

import os
import platform
import warnings
from collections.abc import Callable
from pathlib import Path

from rulekeep.printable import one_line
from rulekeep.records.store import BusyError, RunFolder, Values, read_record, write_record
from rulekeep.running.trackers import Tracker, TrackerName
from rulekeep.specs import AnySpec, UsageError
from rulekeep.sweeps.planning import Job, other_versions, spec_of
from rulekeep.sweeps.runners import resolve_any, runner_of
from rulekeep.tasks import FewCombinationsWarning

# The answer of a job whose folder another process holds.
BUSY = "busy"
_LONGEST_WARNING = 2000


class MakeRun:
    """Makes the run of a job in its own process; a class, so that each process can import it."""

    def __init__(self, tracker: TrackerName, keep_weights: bool) -> None:
        self.tracker, self.keep_weights = tracker, keep_weights

    def __call__(self, job: Job, progress: Callable[[int], None]) -> str:
        folder = RunFolder(Path(job.root) / job.id, keeps_weights=self.keep_weights)
        if not folder.path.is_dir():
            raise UsageError(
                f"{job.root}: the worker on {platform.node()} does not see the runs of this "
                "folder; put it where all nodes see it (docs/cluster.md)"
            )
        # For the user too: one line, without the place in our code.
        warnings.formatwarning = lambda message, *_, **__: (
            f"rulekeep: {one_line(str(message), _LONGEST_WARNING)}\n"
        )
        try:
            with folder.locked(), warnings.catch_warnings():
                # Said when the run was planned, and again in its record.
                warnings.simplefilter("ignore", FewCombinationsWarning)
                return _make(folder, progress, self.tracker)
        except BusyError:
            return BUSY


def _make(folder: RunFolder, progress: Callable[[int], None], tracked: TrackerName) -> str:
    record = folder.read([])
    if record is not None and record.is_result:
        # Another driver was faster.
        return "done"
    attempt = folder.start()
    found = read_record(folder.plan)
    os.chdir(found["working_folder"])
    spec = spec_of(found)
    # Before anything of a user's is loaded: a process that is killed can say it no more.
    write_record(folder.environment, _environment(spec))
    resolved = resolve_any(spec)
    if resolved.id != folder.id:
        raise RuntimeError(f"{other_versions(found, resolved)}: give the command that planned it")
    # Only the process that makes a run loads torch.
    from rulekeep.checks.screening import screen

    # Not where it is planned: what hangs or crashes takes no more than its own run.
    screen(resolved)
    follow = Tracker(tracked, folder.path, found["spec"])
    try:
        made = runner_of(resolved)(resolved, folder, progress, follow.log)
    except BaseException as error:
        follow.finish("failed", {"reason": str(error)})
        raise
    follow.finish(made["status"], made["costs"])
    aside = [f"{path.name} was set aside as corrupt" for path in folder.aside]
    notes = [*made.pop("notes", []), *aside]
    head = {"id": folder.id, "kind": spec.kind, "versions": dict(resolved.versions)}
    head["asked"] = resolved.asked
    write_record(folder.record, {**head, **made, "notes": notes, "attempt": attempt})
    for left in (folder.checkpoint, folder.log, folder.environment):
        left.unlink(missing_ok=True)
    return "done"


def _environment(spec: AnySpec) -> Values:
    """The machine of a run without a result, as far as it is known before the run."""
    # Here, since only what trains may load torch.
    from rulekeep.running.costs import environment

    asked = {key: getattr(spec, key) for key in ("device", "threads") if hasattr(spec, key)}
    return {**environment(), **asked}

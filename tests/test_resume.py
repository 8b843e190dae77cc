"""Kill, disk and resume: whatever happens, a whole result stands, and the rest is made once."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
from bad_files import hollow
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rulekeep.executors import Executor, Failure, Finished, Started
from rulekeep.records.store import BusyError, RunFolder
from rulekeep.specs import RunSpec
from rulekeep.sweeps import making, planning
from rulekeep.sweeps.job import BUSY

SPECS: dict[str, RunSpec] = {}
KILLED = Failure("killed", "its process ended by signal 9")


def specs() -> dict[str, RunSpec]:
    """Three runs by id; resolved once."""
    if not SPECS:
        SPECS.update({planning.identity(s): s for s in [tiny.tiny(seed=n) for n in (1, 2, 3)]})
    return SPECS


def make(job: planning.Job) -> str:
    """What a process does, without the training: its folder is locked, its attempt counted."""
    folder = RunFolder(Path(job.root) / job.id)
    try:
        with folder.locked():
            folder.start()
            made = hollow(Path(job.root) / ".making", specs()[job.id], id=job.id)
            (made / "record.json").rename(folder.record)
            shutil.rmtree(made.parent)
            return "done"
    except BusyError:
        return BUSY


class Scripted(Executor):
    """Makes each run, or ends it by what comes next: before its record, in its write, after it."""

    def __init__(self, ends: Sequence[str]) -> None:
        self.ends = list(ends)
        self.made: list[str] = []

    def run(self, function: Any, jobs: Sequence[Any], time_limit: Any = None) -> Iterator[Any]:
        for job in jobs:
            yield Started(job)
            end = self.ends.pop() if self.ends else "done"
            folder = RunFolder(Path(job.root) / job.id)
            if end == "driver killed":
                folder.start()
                return
            if end == "before":
                folder.start()
                yield Finished(job, None, KILLED)
            elif end == "in its write":
                folder.start()
                (folder.path / ".record.json.tmp-1").write_text('{"id": ')
                yield Finished(job, None, KILLED)
            elif end == "unheard of":
                self.made.append(job.id)
                make(job)
                yield Finished(job, None, KILLED)
            else:
                self.made.append(job.id)
                yield Finished(job, make(job), None)


ENDS = st.lists(
    st.sampled_from(["done", "before", "in its write", "unheard of", "driver killed"]), max_size=3
)


class Folder(RuleBasedStateMachine):
    """A folder of runs under sweeps, kills, damage and resumes."""

    @initialize()
    def plan(self) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self.root = Path(self.temporary.name) / "runs"
        # The bytes of every whole result.
        self.whole: dict[str, bytes] = {}
        self.planned = set(specs())
        planning.plan([*specs().values()], self.root)

    def teardown(self) -> None:
        self.temporary.cleanup()

    def carry_out(self, planned: planning.Plan, ends: Sequence[str]) -> dict[str, str]:
        executor = Scripted(ends)
        statuses = {
            event.job.id: event.record.status
            for event in making.execute(planned, executor)
            if isinstance(event, making.JobFinished)
        }
        # What is whole is never made again, and nothing twice.
        assert not self.whole.keys() & {*executor.made}
        assert len({*executor.made}) == len(executor.made)
        for identity in executor.made:
            assert statuses.get(identity, "done") == "done"
            self.whole[identity] = (self.root / identity / "record.json").read_bytes()
        return statuses

    @rule(ends=ENDS)
    def sweep_again(self, ends: list[str]) -> None:
        self.planned = set(specs())
        self.carry_out(planning.plan([*specs().values()], self.root), ends)

    @rule(ends=ENDS)
    def resume(self, ends: list[str]) -> None:
        planned = planning.plan_again(self.root)
        lost = specs().keys() - self.planned - self.whole.keys()
        assert lost >= {*planned.lost}
        assert {job.id for job in planned.jobs} == self.planned - self.whole.keys()
        self.carry_out(planned, ends)

    @rule(which=st.integers(0, 2), left=st.sampled_from([0, 10, 300, -1]))
    def damage_a_record(self, which: int, left: int) -> None:
        identity = [*specs()][which]
        if self.whole.pop(identity, None):
            path = self.root / identity / "record.json"
            content = path.read_bytes()
            # Cut, or one letter more in its status.
            broken = (
                content[:left] if left >= 0 else content.replace(b'"status": "', b'"status": "x')
            )
            path.write_bytes(broken)

    @rule(which=st.integers(0, 2), is_gone=st.booleans())
    def damage_a_plan(self, which: int, is_gone: bool) -> None:
        identity = [*specs()][which]
        plan = self.root / identity / "plan.json"
        if plan.exists():
            plan.unlink() if is_gone else plan.write_bytes(b"\0" * 50)
            self.planned.discard(identity)

    @rule(which=st.integers(0, 2))
    def fail_while_another_has_it(self, which: int) -> None:
        identity = [*specs()][which]
        job = planning.Job(str(self.root.absolute()), identity, "a run", 12)
        with RunFolder(self.root / identity).locked(), pytest.raises(BusyError):
            making._record(job, KILLED)

    @invariant()
    def what_is_whole_stands(self) -> None:
        for identity, content in getattr(self, "whole", {}).items():
            assert (self.root / identity / "record.json").read_bytes() == content

    @rule()
    def at_last_every_run_is_made(self) -> None:
        self.planned = set(specs())
        self.carry_out(planning.plan([*specs().values()], self.root), [])
        assert self.whole.keys() == specs().keys()
        for identity in specs():
            assert json.loads(self.whole[identity])["status"] == "done"


TestFolder = Folder.TestCase
TestFolder.settings = settings(
    max_examples=10,
    stateful_step_count=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

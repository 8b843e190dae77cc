"""Sweeps killed at random moments and resumed: their records must be an uninterrupted sweep's.

    python tools/soak.py --rounds 30 --out results/soak.json

A round starts a sweep of short runs, sends `kill -9` to the driver or to a worker at a random
moment, and resumes. Then every record must be what the uninterrupted sweep left, figures of the
clock aside, no run may have been made again after its record stood, no half-written file may be
left, and no process. Exit code 1 if anything differs. About 15 s a round; Linux only.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from keeping import keep

from rulekeep.records.store import read_record, results

WAIT_SECONDS = 600
# The sweep was faster than the draw: another moment is drawn.
NOBODY = "nobody"
TIMINGS = ("train_seconds", "tokens_per_second", "decode_ms_per_token", "peak_memory_bytes")
GRID = """
from rulekeep.specs import RunSpec


def sweep():
    return [
        RunSpec(
            task_options={{"rules": 2}}, mixer={mixer!r} + ":Kept", width=16, context=64, steps=20,
            warmup_steps=2, batch_size=4, evaluate_every=5, validation_examples=4, test_examples=4,
            seed=seed,
        )
        for seed in range(1, {runs} + 1)
    ]
"""
# A checkpoint after every step, so that a run that was killed in its middle goes on from there.
MIXER = """
import rulekeep.running.run
from rulekeep.mixers.gru import GRU as Kept

rulekeep.running.run.CHECKPOINT_SECONDS = 0.0
"""


def main() -> None:
    """Runs the rounds, prints a line each, writes the record."""
    parser = argparse.ArgumentParser(description="Sweeps killed at random moments and resumed.")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runs", type=int, default=12, help="runs of a sweep")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--out", type=Path, help="write the record to this JSON file")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), options.runs, options.workers)
        print(f"uninterrupted: {options.runs} runs in {soak.seconds:.1f} s after the plan")
        rounds = []
        for number in range(1, options.rounds + 1):
            one = soak.round(number, draw)
            while one["victim"] == NOBODY:
                one = soak.round(number, draw)
            rounds.append(one)
            print(f"round {number}: {_line(rounds[-1])}", flush=True)
    same = sum(one["same"] for one in rounds)
    print(f"{same} of {len(rounds)} rounds ended as the uninterrupted sweep")
    if options.out:
        keep(options.out, runs=options.runs, workers=options.workers, rounds=rounds)
    sys.exit(same < len(rounds))


class Soak:
    """A folder with the sweep's file, and what the uninterrupted sweep left."""

    def __init__(self, folder: Path, runs: int, workers: int) -> None:
        self.folder, self.runs, self.workers = folder, runs, workers
        mixer = folder / "kept.py"
        mixer.write_text(MIXER)
        (folder / "grid.py").write_text(GRID.format(runs=runs, mixer=str(mixer)))
        driver = self.start("sweep", "grid.py", "--out", "uninterrupted")
        began = self.planned(folder / "uninterrupted", driver)
        _, errors = driver.communicate(timeout=WAIT_SECONDS)
        if driver.returncode:
            sys.exit(f"the uninterrupted sweep failed:\n{errors}")
        self.seconds = time.monotonic() - began
        self.reference = timeless_records(folder / "uninterrupted")

    def round(self, number: int, draw: random.Random) -> dict[str, Any]:
        """One sweep, killed and resumed."""
        root = self.folder / f"round-{number}"
        shutil.rmtree(root, ignore_errors=True)
        victim, after = draw.choice(["driver", "worker"]), draw.uniform(0, self.seconds)
        driver = self.start("sweep", "grid.py", "--out", root.name)
        began = self.planned(root, driver)
        time.sleep(max(0.0, began + after - time.monotonic()))
        started = descendants(driver.pid)
        hit = self.hit(driver, victim, draw)
        driver.communicate(timeout=WAIT_SECONDS)
        gone = vanish(started)
        stood = {name: path.stat().st_mtime_ns for name, path in finished(root).items()}
        resumed = 0
        while timeless_records(root) != self.reference and resumed < 3:
            self.start("resume", root.name).communicate(timeout=WAIT_SECONDS)
            resumed += 1
        now = {name: path.stat().st_mtime_ns for name, path in finished(root).items()}
        again = [name for name, written in stood.items() if now.get(name) != written]
        left = [path.name for path in root.rglob("*.tmp-*")]
        whole = timeless_records(root) == self.reference
        return {
            "victim": victim if hit else NOBODY,
            "after_seconds": round(after, 3),
            "exit_code": driver.returncode,
            "finished_before": len(stood),
            "resumed": resumed,
            "made_again": again,
            "half_written": left,
            "processes_gone": gone,
            "same": whole and gone and not again and not left,
        }

    def hit(self, driver: subprocess.Popen[str], victim: str, draw: random.Random) -> bool:
        """Kills the driver or one of its workers; false if the sweep ends before."""
        while driver.poll() is None:
            pids = [driver.pid] if victim == "driver" else workers(driver.pid)
            if pids:
                try:
                    os.kill(draw.choice(pids), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                return True
        return False

    def planned(self, root: Path, driver: subprocess.Popen[str]) -> float:
        """When the plan of every run stands."""
        while len(list(root.glob("*/plan.json"))) < self.runs:
            if driver.poll() is not None:
                sys.exit(f"ended before its plan stood:\n{driver.communicate()[1]}")
            time.sleep(0.01)
        return time.monotonic()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, in the folder."""
        command = [sys.executable, "-m", "rulekeep", *arguments, "--workers", str(self.workers)]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


def finished(root: Path) -> dict[str, Path]:
    """The records that are results."""
    return {one.id: root / one.id / "record.json" for one in results(root) if one.status == "done"}


def timeless_records(root: Path) -> dict[str, Any]:
    """Every record without the figures of the clock and of how it came about."""
    found = {}
    for path in root.glob("*/record.json"):
        record = read_record(path)
        del record["attempt"], record["notes"]
        for name in TIMINGS:
            record["costs"].pop(name, None)
        for row in record["history"]:
            del row["train_seconds"]
        found[path.parent.name] = record
    return found


def descendants(pid: int) -> list[int]:
    """The processes that this one started, and those that they started."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rsplit(") ", 1)[1].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents.setdefault(int(parent), []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def workers(driver: int) -> list[int]:
    """The children of the driver's fork server."""
    servers = [pid for pid in descendants(driver) if is_forked(pid)]
    return [pid for server in servers for pid in descendants(server) if is_forked(pid)]


def is_forked(pid: int) -> bool:
    """Whether it is a fork server, or one of its children."""
    try:
        return b"multiprocessing.forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def vanish(pids: list[int]) -> bool:
    """Whether these processes are gone within a while."""
    until = time.monotonic() + 30
    while any(map(is_forked, pids)):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _line(one: dict[str, Any]) -> str:
    said = "as uninterrupted" if one["same"] else f"DIFFERS: {one}"
    return (
        f"{one['victim']} after {one['after_seconds']:.1f} s, "
        f"{one['finished_before']} finished by then, resumed {one['resumed']} times: {said}"
    )


if __name__ == "__main__":
    main()

"""Planted bugs: each of mutations.toml is one edit of the source, and its tests must fail.

    python tools/mutations.py                    all of them, into results/mutations.json
    python tools/mutations.py "rotary offset"    those whose name holds this, into no file
    python tools/mutations.py --new              those it lacks or that survived, added to it

Edits are made in copies of `src`, two at once. The tests must first pass without one. Exit code 1
if a bug survives. What is added stands under the command and the environment of its run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from keeping import keep

from rulekeep.running.building import environment

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "results" / "mutations.json"
SECONDS_AT_MOST = 900
# Each in processes of its own, of one thread.
AT_ONCE = 2


class Mutation(NamedTuple):
    """A bug: `before` stands once in `file` and becomes `after`; `tests` must notice."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


def read() -> list[Mutation]:
    """Every bug of mutations.toml."""
    bugs = tomllib.loads((Path(__file__).parent / "mutations.toml").read_text())["bug"]
    return [Mutation(**{**one, "tests": tuple(one["tests"])}) for one in bugs]


MUTATIONS = read()


class Ended(NamedTuple):
    """How the tests of a mutation ended."""

    name: str
    file: str
    tests: tuple[str, ...]
    caught: bool
    said: str
    seconds: float


def outcome(tests: Sequence[str], bug: Mutation | None = None) -> tuple[int, str]:
    """Of the tests on a copy of the source: exit code (1: one failed; -1: too long), and which."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        if bug is not None:
            path = source / "rulekeep" / bug.file
            text = path.read_text()
            if text.count(bug.before) != 1:
                raise SystemExit(
                    f"{bug.name}: {bug.file} has its text {text.count(bug.before)} times"
                )
            path.write_text(text.replace(bug.before, bug.after))
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
                timeout=SECONDS_AT_MOST,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return -1, f"over {SECONDS_AT_MOST} s"
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if not failed:
        return done.returncode, done.stdout[-300:]
    # Of the conformance suite, the rows as well.
    rows = dict.fromkeys(re.findall(r"Row\(property='([^']+)', passed=False", done.stdout))
    return done.returncode, ": ".join([failed[0].split(" - ")[0][7:], *list(rows)[:1]])


def plant(bug: Mutation) -> Ended:
    """The bug, and what its tests say."""
    started = time.monotonic()
    code, said = outcome(bug.tests, bug)
    return Ended(
        bug.name, bug.file, bug.tests, code == 1, said, round(time.monotonic() - started, 1)
    )


def recorded(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What a record says last of each bug, those that were added later too."""
    parts = [record, *record.get("added", [])]
    return list({one["name"]: one for part in parts for one in part["mutations"]}.values())


def main() -> int:
    """Plants every bug whose name holds what is asked for."""
    asked, record = " ".join(sys.argv[1:]), {}
    chosen = [one for one in MUTATIONS if asked in one.name]
    if asked == "--new":
        record = json.loads(RECORD.read_text())
        known = {one["name"] for one in recorded(record) if one["caught"]}
        chosen = [one for one in MUTATIONS if one.name not in known]
    if not chosen:
        # Of no test by name, pytest would run all.
        print("no such bug")
        return 0 if record else 1
    tests = sorted({test for one in chosen for test in one.tests})
    ended = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        parts = filter(None, (tests[part::AT_ONCE] for part in range(AT_ONCE)))
        for code, said in pool.map(outcome, parts):
            if code:
                print(f"without a bug: {said}")
                return 1
        for one in pool.map(plant, chosen):
            ended.append(one)
            mark = "caught" if one.caught else "SURVIVES"
            print(f"{mark:8}  {one.file:26}  {one.name}  ({one.said})", flush=True)
    survive = sum(not one.caught for one in ended)
    print(f"\n{len(ended) - survive} of {len(ended)} bugs caught")
    found = [one._asdict() for one in ended]
    if not asked:
        keep(RECORD, mutations=found)
    elif record:
        here = {"command": f"python {sys.argv[0]} --new", "environment": environment()}
        keep(RECORD, **record | {"added": [*record.get("added", []), here | {"mutations": found}]})
    return 1 if survive else 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs old and last code of the first edition side by side, on one processor, for each digest.

    python tools/migration_controls.py --out results/migration/controls.jsonl

Most records were made on another processor, where training rounds otherwise and soon goes its own
way. So the run that `migration_reruns.py` trained again is begun twice more, here: once with the
code of its own commit, once with that of the last commit of the first edition. Same code gives
same bits; a change of code that moves any figure is seen at the first look.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LAST = "ae423a659b59fbc5c374c646e45b1945b45dce9d"
ROOT = Path(__file__).parent.parent
STEPS = 50
# The same few lines in both checkouts: their `run` is called alike.
PROGRAM = """
import json, sys, tempfile
from pathlib import Path
from rulekeep.running.run import run
from rulekeep.specs import RunSpec
from rulekeep.records.store import RunFolder

class Enough(Exception): ...

asked, steps = json.loads(sys.argv[1]), int(sys.argv[2])
rows = []

def log(step, row):
    rows.append([step, {k: v for k, v in row.items() if k != "train_seconds"}])
    if step >= steps:
        raise Enough

with tempfile.TemporaryDirectory() as folder:
    try:
        run(RunSpec.parse_json(asked), RunFolder(Path(folder)), lambda step: None, log)
    except Enough:
        pass
print(json.dumps(rows))
"""


def looks(checkout: Path, spec: dict, steps: int) -> list:
    """What the first looks at dev give with the code of a checkout."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(spec), str(steps)],
        cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout / "src")},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def git(place: Path, *words: str) -> str:
    """What git says in a checkout."""
    done = subprocess.run(
        ["git", "-C", str(place), *words], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--reruns", type=Path, required=True)
    asked = parser.parse_args()
    done = set()
    if asked.out.exists():
        done = {json.loads(line)["digest"] for line in asked.out.read_text().splitlines()}
    with tempfile.TemporaryDirectory() as folder:
        places: dict[str, Path] = {}

        def checkout(commit: str) -> Path:
            if commit not in places:
                places[commit] = Path(folder) / commit[:12]
                command = ["git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT)]
                subprocess.run([*command, str(places[commit])], check=True)
                # The records beside the code are large, and of one of them only.
                git(places[commit], "checkout", "--quiet", commit, "--", "src", "benchmarks")
            return places[commit]

        for line in asked.reruns.read_text().splitlines():
            row = json.loads(line)
            if row["digest"] in done:
                continue
            done.add(row["digest"])
            path = f"{LAST}:results/{row['folder']}/{row['run']}/record.json"
            record = json.loads(git(ROOT, "show", path))
            commit = record["environment"]["commit"]
            steps = max(STEPS, row["parted_at"] or 0)
            place = checkout(commit)
            plugin = record["spec"]["mixer"].partition(":")[0]
            if "/" in plugin and not (place / plugin).exists():
                # It was committed after its runs: as it was committed first.
                added = ["log", "--diff-filter=A", "--format=%H", LAST, "--", plugin]
                first = git(ROOT, *added).split()[-1]
                (place / plugin).parent.mkdir(exist_ok=True)
                (place / plugin).write_text(git(ROOT, "show", f"{first}:{plugin}"))
            then = looks(place, record["spec"], steps)
            now = looks(checkout(LAST), record["spec"], steps)
            said = {
                "digest": row["digest"], "run": row["run"], "commit": commit,
                "dirty": record["environment"]["dirty"], "looks": [step for step, _ in now],
                "same_bits": then == now,
            }  # fmt: skip
            with asked.out.open("a") as file:
                file.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()

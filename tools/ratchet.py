"""How large the house is: lines, and the files that two walks go through. A ceiling only falls.

    python tools/ratchet.py            # print the figures, lower the ceilings; above one: exit 1
    python tools/ratchet.py --walk     # each file of the walks, in the order in which it runs

The ceilings stand in pyproject.toml. A figure that has fallen lowers its ceiling there. Whoever
raises one says for which capability, in a line of CHANGELOG.md: "Ceiling of src raised to 25,500:
compaction." None is raised above `HIGHEST`. Until src has come below that, a capability may raise
it by its own budget and no more (`BUDGETS`).

A walk counts the files of src of which a function runs, imports left out:
- batch: from the start of `rulekeep run --task recite --mixer delta` to the first batch that is
  drawn for training, in the process of the command and in that of the run.
- row: from the first record that `rulekeep report` reads to the first row of a table of its page.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "rulekeep"
PYPROJECT, CHANGELOG = ROOT / "pyproject.toml", ROOT / "CHANGELOG.md"
HIGHEST = {"src": 27_600, "batch": 24}
# Lines of src that a capability may add.
BUDGETS = {"compaction": 1_500, "rivals": 1_200, "harnesses": 900}
UNITS = {
    "src": "lines of src",
    "tests": "lines of tests",
    "studies": "lines of studies and tools",
    "batch": "files from the name of a task to its first batch",
    "row": "files from a record to a row of a page",
}
# No other batch of the walk has so many examples.
_BATCH = 7
_RUN = [
    "run", "--task", "recite", "--mixer", "delta", "--context", "64", "--steps", "2",
    "--warmup-steps", "0", "--batch-size", str(_BATCH), "--validation-examples", "8",
    "--test-examples", "8",
]  # fmt: skip
_REPORT = ["report", str(ROOT / "results" / "quick")]
# Python imports this first. It writes the file of each function called, until the walk ends.
_FOLLOWER = """
import os, sys, threading
root, kind, batch = os.environ["WALK"], os.environ["WALK_KIND"], int(os.environ["WALK_BATCH"])
log = os.open(os.environ["WALK_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
is_on = kind == "batch"

def is_import(frame):
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals["__name__"] != "__main__":
            return True
        frame = frame.f_back
    return False

def follow(frame, event, _):
    global is_on
    code = frame.f_code
    name = code.co_filename
    # Flag 2 is set in functions, and not in classes.
    is_ours = name.startswith(root) and name.endswith(".py")
    if event != "call" or not is_ours or not code.co_flags & 2:
        return
    if kind == "row" and code.co_qualname == "Record.read":
        is_on = True
    if is_on and not is_import(frame):
        os.write(log, f"{name[len(root) + 1:]}\\n".encode())
        drawn = frame.f_locals.get("split"), frame.f_locals.get("n")
        is_drawn = code.co_name == "sample" and drawn == ("train", batch)
        if is_drawn or (kind == "row" and code.co_qualname == "Table.of"):
            os.write(log, b"END\\n")
            sys.setprofile(None)
            is_on = False

sys.setprofile(follow)
threading.setprofile(follow)
"""


def lines(*folders: str) -> int:
    """Lines of the Python files that git knows in these folders, and of new ones."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *folders],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    files = [ROOT / name for name in listed if name.endswith(".py")]
    return sum(len(file.read_bytes().splitlines()) for file in files if file.exists())


def walk(kind: str) -> list[str]:
    """The files of a walk, in the order in which a function of each is called first."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        Path(folder, "sitecustomize.py").write_text(_FOLLOWER)
        command = _RUN if kind == "batch" else _REPORT
        environment = {
            **os.environ, "PYTHONPATH": f"{folder}:{PACKAGE.parent}", "WALK": str(PACKAGE),
            "WALK_KIND": kind, "WALK_BATCH": str(_BATCH), "WALK_LOG": str(log),
        }  # fmt: skip
        subprocess.run(
            [sys.executable, "-m", "rulekeep", *command, "--out", f"{folder}/out"],
            env=environment, cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        # The process of the command goes on beside that of the run.
        return [*dict.fromkeys(log.read_text().partition("END\n")[0].splitlines())]


def figures() -> dict[str, int]:
    """Each figure by its name."""
    return {
        "src": lines("src"),
        "tests": lines("tests"),
        "studies": lines("studies", "tools"),
        "batch": len(walk("batch")),
        "row": len(walk("row")),
    }


def ceilings(text: str) -> dict[str, int]:
    """The ceilings that a pyproject.toml has."""
    found: dict[str, int] = tomllib.loads(text)["tool"]["rulekeep"]["ratchet"]
    return found


def raised() -> list[str]:
    """Each raise of a ceiling, in the history or not committed yet, that no changelog names."""
    history = subprocess.run(
        [
            "git", "log", "--first-parent", "--reverse", "--format=", "-p", "-U0", "--",
            "pyproject.toml",
        ],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    changelog, unnamed, spent = CHANGELOG.read_text(), [], Counter[str]()
    for name, now in ceilings(PYPROJECT.read_text()).items():
        values = [int(value) for value in re.findall(rf"^\+{name} = (\d+)$", history, re.MULTILINE)]
        for before, after in pairwise([*values, now]):
            line = f"Ceiling of {name} raised to {after:,}: "
            if after > before and line not in changelog:
                unnamed.append(f"{line}for which capability? Say it so in CHANGELOG.md")
            if after > max(before, HIGHEST.get(name, after)):
                # Above it already: the capability that the changelog names has a budget.
                named = re.search(rf"{re.escape(line)}(\w+)", changelog)
                capability = named[1] if named and name == "src" else ""
                spent[capability] += after - before
                if spent[capability] > BUDGETS.get(capability, 0):
                    unnamed.append(f"{UNITS[name]}: no ceiling is raised above {HIGHEST[name]:,}")
    return unnamed


def main() -> int:
    """Print the figures beside their ceilings; 1 where one is above."""
    if "--walk" in sys.argv:
        for kind in ("batch", "row"):
            print(f"{UNITS[kind]}:", *walk(kind), sep="\n  ")
        return 0
    text = PYPROJECT.read_text()
    known, wrong = ceilings(text), raised()
    for name, figure in figures().items():
        print(f"{figure:>7,} {UNITS[name]} (at most {known[name]:,})")
        if figure > known[name]:
            wrong.append(f"{UNITS[name]}: {figure:,}, more than {known[name]:,}: make it less")
        text = re.sub(rf"^{name} = \d+$", f"{name} = {min(figure, known[name])}", text, flags=re.M)
    if text != PYPROJECT.read_text() and "CI" not in os.environ:
        PYPROJECT.write_text(text)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

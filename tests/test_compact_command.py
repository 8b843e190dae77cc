"""`rulekeep compact` and `rulekeep compare`, as a user gives them and as the page has them."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from conftest import Command

from rulekeep.compaction.messages import text_of

ROOT = Path(__file__).parent.parent
# Where rulekeep is installed, pytest finds the fixture by itself.
_FOUND = any(one.name == "rulekeep" for one in entry_points(group="pytest11"))
PLUGIN = "" if _FOUND else "-p rulekeep.pytest_plugin"
FEW = ("--rounds", "2", "--workers", "1", "--histories", "3")
COMPACTORS = """
def ends(messages, state):
    state["round"] = state.get("round", 0) + 1
    return messages if state["round"] == 1 else messages[:3] + messages[-3:]

def failing(messages):
    raise ValueError("no key")

def longer(messages):
    messages.append(messages[-1])
    return messages + messages
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(COMPACTORS)
    return file


@pytest.mark.core
@pytest.mark.usefixtures("mine")
def test_a_gate_in_ci(run: Command, tmp_path: Path) -> None:
    gate = (*FEW, "--out", "runs", "--junit", "tests.xml", "--fail-below")
    code, output, errors = run("compact", "mine.py:ends", *gate, "0.5,limit=0.9")
    assert code == 1
    assert "mine.py:ends" in output.decode()
    assert "of the limit rules left, below 0.9" in errors
    cases = ElementTree.fromstring((tmp_path / "tests.xml").read_bytes())
    failed = {case.attrib["name"] for case in cases if case.find("failure") is not None}
    assert failed == {"all rules", "limit"}
    assert {"all rules", "limit", "action"} < {case.attrib["name"] for case in cases}
    assert "first gone: download_size '840', file, history 1, lost in round 2" in errors
    # By place and by facts; what hardly shortens is told as well.
    code, _, errors = run("compact", "mine.py:ends", *gate, "system=1,middle=0.9,facts=0.9")
    assert [line.split("; first")[0] for line in errors.strip().splitlines()[-2:]] == [
        "mine.py:ends: 0.00 of the middle rules left, below 0.9",
        "mine.py:ends: 0.00 of the facts left, below 0.9",
    ]
    code, _, errors = run("compact", "everything", *gate, "1", "--fail-above", "left=1.2,misled=0")
    assert code == 1
    assert "everything: left is 6.94, above 1.2" in errors
    assert "misled is" not in errors
    # What else stands in the folder is none of its cells.
    assert "mine.py:ends" not in errors
    # The cells stand there: nothing is run again.
    code, _, errors = run("compact", "mine.py:ends", *gate, "0.2")
    assert (code, "[1/" in errors) == (0, False)
    code, _, errors = run("compact", "everything", *gate, "0.9", "--confident")
    assert code == 1
    # 0.025 ** (1 / 36) is above 0.9.
    assert "0.29 at least of the rules left, below 0.9; give 36 --histories or more" in errors
    _, _, errors = run("compact", "everything", *gate, "1", "--confident")
    assert "below 1; give a line below 1, which no lower end reaches" in errors


@pytest.mark.core
def test_a_product_shortens_histories_round_by_round(run: Command, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def count(text):\n    return 3 * len(text.split())\n")
    counted = ("--count", "own.py:count")
    options = ("--histories", "2", "--rounds", "2", "--budget", "0.5", *counted)
    assert run("compact", "--write-histories", "here", *options)[0] == 0
    left = tmp_path / "here/compacted"
    for number in (1, 2):
        files = sorted((tmp_path / "here").glob(f"*.round-{number}.json"))
        assert len(files) == 2
        for file in files:
            whole = json.loads(file.read_text())
            if number == 1:
                # In the tokens of one's own tokenizer, as a run counts what is left.
                size = sum(3 * len(text_of(one).split()) for one in whole["messages"])
                assert whole["budget"] == int(0.5 * size)
            (left / file.name).write_text(
                json.dumps(whole["messages"][: 1 if number == 2 else None])
            )
        before = files[0].read_bytes()
        # Options are those of the folder.
        assert run("compact", "--write-histories", "here")[0] == 0
        assert files[0].read_bytes() == before
    (left / files[1].name).write_text("[5]")
    (left / files[0].name).write_text('[{"role": "us')
    code, output, errors = run("compact", "--compacted", "here", "--out", "runs", "--workers", "1")
    assert code == 1
    assert (
        "output in here: 2 of 2 histories: failed: history-0000.round-2.json: is broken" in errors
    )
    assert "output in here" in output.decode()


@pytest.mark.usefixtures("mine")
def test_two_versions_of_a_compactor_are_compared(run: Command, tmp_path: Path, mine: Path) -> None:
    run("compact", "mine.py:ends", *(more := (*FEW[:-1], "6")), "--out", "before")
    old = mine.stat()
    mine.write_text(COMPACTORS.replace("messages[:3]", "messages[:1]"))
    os.utime(mine, ns=(old.st_atime_ns, old.st_mtime_ns))
    run("compact", "mine.py:ends", *more, "--out", "after")
    run("compact", "keep_last,nothing", "--guards", "none,system", *FEW, "--out", "ours")
    code, output, _ = run("compare", "before", "after", "--fail-if-worse")
    assert (code, b"-0.143" in output, b"mine.py:ends" in output) == (1, True, True)
    rounds = [line.split()[3] for line in output.decode().splitlines() if "mine.py:ends" in line]
    assert rounds[:2] == ["1", "2"]
    code, output, _ = run("compare", "ours", "--compress", "nothing,nothing+system")
    assert (code, b"0.143" in output) == (0, True)
    code, _, errors = run("compare", "before", "ours")
    assert (code, "no cell of both" in errors) == (2, True)


@pytest.mark.process
def test_the_page_and_the_examples_do_what_they_say(tmp_path: Path) -> None:
    page = (ROOT / "docs/compaction.md").read_text()
    mine, tests = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine.py").write_text(mine)
    (tmp_path / "test_mine.py").write_text(tests)
    (tmp_path / "product.sh").write_text("#!/bin/sh\ncat\n")
    (tmp_path / "product.sh").chmod(0o755)
    # Fewer histories than the page has.
    shim = tmp_path / "bin" / "rulekeep"
    shim.parent.mkdir()
    shim.write_text(
        '#!/bin/sh\ncase "$*" in *histories*|*--compacted*) ;;\n'
        f'compact*) set -- "$@" --histories 4 ;; esac\n'
        f'exec {Path(sys.executable).with_name("rulekeep")} "$@"\n'
    )
    shim.chmod(0o755)
    places = f"{shim.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": places}
    blocks = re.findall(r"```(?:ba)?sh\n(.*?)```", page, re.DOTALL)
    for block in (*blocks, f"pytest -q {PLUGIN} test_mine.py"):
        done = subprocess.run(
            ["sh", "-e", "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        gates = "--fail-below" in block
        assert done.returncode == gates, f"{block}\n{done.stdout}\n{done.stderr}"
        assert ("left, below" in done.stderr) == gates
    done = subprocess.run(
        ["pytest", "-q", *PLUGIN.split(), "-p", "no:cacheprovider"],
        cwd=ROOT / "examples",
        env=environment,
    )
    assert done.returncode == 0


def steps_of(inputs: dict[str, str], folder: Path) -> list[int]:
    """What the shell steps of the action end with, one after another as GitHub runs them."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    known = {name: one.get("default") for name, one in action["inputs"].items()} | inputs
    assert known.keys() == action["inputs"].keys()
    places = {f"${{{{ inputs.{name} }}}}": value for name, value in known.items()}
    places["${{ github.action_path }}"] = str(ROOT)
    codes = list[int]()
    for step in action["runs"]["steps"]:
        if "run" not in step or (any(codes) and "if" not in step):
            continue
        given = {name: places[value] for name, value in step.get("env", {}).items()}
        path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder, env={**os.environ, **given, "PATH": path},
        )  # fmt: skip
        codes.append(done.returncode)
    return codes


@pytest.mark.process
def test_the_action_fails_a_lossy_compactor_and_keeps_the_report(
    mine: Path, tmp_path: Path
) -> None:
    # In place of an installation: what is asked of pip.
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@" >> asked.txt\n')
    python.chmod(0o755)
    workflow = yaml.safe_load((ROOT / "examples" / "compaction.yml").read_text())
    (used,) = (step for step in workflow["jobs"]["rules"]["steps"] if "rulekeep" in step["uses"])
    few = {"options": "--histories 3 --workers 1", "rounds": "1", **used["with"]}
    assert steps_of({**few, "compactor": f"{mine.name}:ends"}, tmp_path) == [0, 0, 0]
    shutil.rmtree(tmp_path / "rules-report")
    assert steps_of({**few, "compactor": "nothing"}, tmp_path) == [0, 1, 0]
    cases = ElementTree.parse(tmp_path / "rules-report" / "rules.xml").getroot()
    lost = {case.get("name") for case in cases if case.find("failure") is not None}
    assert lost == {"all rules", "prohibition"}
    assert (tmp_path / "rules-report" / "runs" / "report" / "report.html").exists()
    asked = (tmp_path / "asked.txt").read_text().splitlines()
    assert asked == [f"-m pip install --quiet {ROOT}"] * 2

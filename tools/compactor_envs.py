"""Environments for compactors that others wrote: one for each file of studies/compactors.

    python3.12 tools/compactor_envs.py make NAME|all DIR

Each has the packages of requirements.toml there, and rulekeep from this checkout without torch,
which compaction does not need. From this folder it runs what the file of its name adapts:

    DIR/langchain/bin/rulekeep compact studies/compactors/langchain.py:summarization

cutctx needs Python 3.12. Nothing is asked of the network after that.
"""

import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def make(name: str, folder: Path, required: list[str], day: str) -> None:
    """Makes the environment of a name in a folder, anew where it stands there."""
    home = folder / name
    venv.create(home, with_pip=True, clear=True)
    python = home / "bin" / "python"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [line for line in project["dependencies"] if re.match(r"[\w-]+", line)[0] != "torch"]
    # The pip that comes with Python knows no day.
    newest, on_day = ["--upgrade", "pip"], f"--uploaded-prior-to={day}"
    # Ours come after theirs, as pip would refuse what aider pins beside what we need.
    for what in (newest, [on_day, *required], [on_day, *ours], ["--no-deps", "-e", str(ROOT)]):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *what], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "studies.pth").write_text(f"{ROOT}\n")


def main(words: list[str]) -> int:
    listed = tomllib.loads((ROOT / "studies" / "compactors" / "requirements.toml").read_text())
    day = listed.pop("day")
    match words:
        case ["make", name, folder] if name in [*listed, "all"]:
            for key in listed if name == "all" else [name]:
                print(f"{key}: {', '.join(listed[key])}")
                make(key, Path(folder), listed[key], day)
            return 0
    print(f"usage: python3.12 tools/compactor_envs.py make NAME|all DIR; NAME: {', '.join(listed)}")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

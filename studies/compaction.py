"""Which compactors keep the rules of an agent's history?

    tools/compactor_envs.py make all DIR                    # an environment a package
    studies/compaction.py DIR results/compaction            # makes missing cells, each in its own
    rulekeep sweep studies/compaction.py:read --out results/compaction-read     # with a model
    rulekeep study compaction build|check

Compactors as they are installed, and our own. A cell is one compactor with one budget and one
guard, over the same histories. Fills docs/compaction-findings.md.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

from rulekeep.language.families import read_families
from rulekeep.specs import CompactionSpec

ROOT = Path(__file__).parent.parent
ADAPTERS = ROOT / "studies" / "compactors"
# What each command adds: the main cells, their floor, and other budgets.
CELLS = (
    ("--guards", "none,system,restate", "--control", "none"),
    ("--guards", "none", "--control", "no_rules"),
    ("--budget", "0.5,0.1", "--control", "none"),
)
OURS = "keep_last,keep_ends,clear_tools,extract,summary,everything,nothing"
# Families that the model is asked about: so many of each group.
_OF_A_GROUP = 4
SMALL = "SmolLM2-135M-Instruct"


def read(*, model: str = SMALL) -> list[CompactionSpec]:
    """Cells in which a small model reads what is left."""
    families = read_families("agents")
    names = list[str]()
    for group in sorted({family.group for family in families.values()}):
        of_group = sorted(name for name, family in families.items() if family.group == group)
        names += of_group[:_OF_A_GROUP]
    whole = {"compactor": "everything", "rounds": 1}
    return [
        CompactionSpec.parse(
            **{
                "reader": model, "families": tuple(names), "style": "chat", "tokens": 2000,
                "histories": 12, "rounds": 3, **cell,
            }
        )
        for cell in (
            whole, {"compactor": "keep_last"}, {"compactor": "keep_ends"},
            {**whole, "control": "no_rules"}, {"compactor": "summary", "model": model},
            {"compactor": "extract"},
        )
    ]  # fmt: skip


def adapters(name: str) -> list[str]:
    """The compactors of one file of adapters."""
    text = (ADAPTERS / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    lines = [line.removeprefix("async ") for line in text.splitlines()]
    found = [line[4:].partition("(")[0] for line in lines if line.startswith("def ")]
    place = f"studies/compactors/{name.replace('-', '_')}.py"
    return [f"{place}:{function}" for function in found if not function.startswith("_")]


def main(words: list[str]) -> int:
    """Makes the missing cells of every package that has an environment in a folder."""
    home, out, *only = words
    required = tomllib.loads((ADAPTERS / "requirements.toml").read_text(encoding="utf-8"))
    every = {name: adapters(name) for name in required if name != "day"}
    every = {"ours": OURS.split(","), **every}
    for name, compactors in every.items():
        command = Path(home) / name / "bin" / "rulekeep" if name != "ours" else Path("rulekeep")
        if (only and name not in only) or not (name == "ours" or command.exists()):
            continue
        for compactor in compactors:
            for cells in CELLS:
                subprocess.run(
                    [command, "compact", compactor, *cells, "--workers", "1", "--out", out],
                    cwd=ROOT, check=False,
                )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

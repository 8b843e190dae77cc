"""Presses in kvpress's own evaluation, beside the same evictions here, into results/kvpress.json.

    rulekeep harness kvpress CHECKOUT && git -C CHECKOUT apply rulekeep.patch
    python tools/presses.py CHECKOUT ./my-model

The rules and the chat are the same. They stand in one turn of the user there, and in a system
prompt and turns here; there a distance is words and marks, here tokens. Replies are greedy text, of
at most 32 tokens there. What stands in CHECKOUT of a press is not run again.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from keeping import keep

from rulekeep.analysis.summary import Interval
from rulekeep.language.families import read_families
from rulekeep.language.figures import cell
from rulekeep.records.store import read_runs

RECORD = Path(__file__).parent.parent / "results" / "kvpress.json"
# Names there, and here. A press drops a share; an eviction keeps one.
PRESSES = {"no_press": "none", "knorm": "knorm@0.5", "snapkv": "snapkv@0.5"}


def theirs(evaluation: Path, model: str, press: str, distance: int) -> dict[str, Any]:
    """What kvpress's evaluation says of a press: the shares of each task."""
    out = f"results/{press}"
    ratio = [] if press == "no_press" else ["--compression_ratio", "0.5"]
    command = [
        sys.executable, "evaluate.py", "--dataset", "rulekeep", "--data_dir", str(distance),
        "--model", model, "--press_name", press, *ratio, "--output_dir", out, "--device", "cpu",
        "--model_kwargs", '{"dtype": "float32"}', "--max_new_tokens", "32",
    ]  # fmt: skip
    if not [*(evaluation / out).glob("*/metrics.json")]:
        ran(command, evaluation)
    (found,) = (evaluation / out).glob("*/metrics.json")
    keys = ("followed", "low", "high", "prompts")
    tasks: dict[str, Any] = json.loads(found.read_text())
    return {task: {key: one[key] for key in keys} for task, one in tasks.items()}


def ours(out: Path, model: str, distance: int, prompts: int) -> dict[str, dict[str, Any]]:
    """What `rulekeep language` says of each eviction: the share of `binding`."""
    ran([
        sys.executable, "-m", "rulekeep", "language", "--model", model, "--replies", "written",
        "--mentions", "word", "--distances", str(distance), "--prompts", str(prompts),
        "--families", ",".join(read_families("")), "--compress", ",".join(PRESSES.values()),
        "--out", str(out),
    ])  # fmt: skip
    (record,) = read_runs(out).records
    return {
        name: {**said(one.retention), "prompts": one.prompts} for name, one in cell(record).items()
    }


def said(one: Interval) -> dict[str, float]:
    """A share with its interval, as kvpress's scorer writes it."""
    return {
        "followed": round(one.mean, 4), "low": round(one.low, 4), "high": round(one.high, 4)
    }  # fmt: skip


def ran(command: Sequence[str], place: Path | None = None) -> None:
    """Runs a command; what it prints is seen."""
    subprocess.run(command, cwd=place, check=True)


def main() -> None:
    """Both sides, one after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--distance", type=int, default=128)
    parser.add_argument("--prompts", type=int, default=4)
    given = parser.parse_args()
    evaluation, model = given.checkout.resolve() / "evaluation", str(given.model.resolve())
    script = "benchmarks/rulekeep/create_huggingface_dataset.py"
    sizes = ["--distances", str(given.distance), "--prompts", str(given.prompts)]
    ran([sys.executable, script, *sizes], evaluation)
    there = {press: theirs(evaluation, model, press, given.distance) for press in PRESSES}
    here = ours(given.checkout / "rulekeep-runs", model, given.distance, given.prompts)
    keep(
        RECORD,
        model=given.model.name,
        distance=given.distance,
        versions={name: version(name) for name in ("kvpress", "transformers", "rulekeep")},
        presses=[
            {"press": press, "eviction": name, "kvpress": there[press], "rulekeep": here[name]}
            for press, name in PRESSES.items()
        ],
    )


if __name__ == "__main__":
    main()

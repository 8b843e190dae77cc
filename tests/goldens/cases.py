"""The cases that goldens hold: every set of options that committed records use, and new mixers.

They were read from records, and stand in `cases.json`, a case a line: a new one is written there.
"""

import json
from pathlib import Path
from typing import Any

from rulekeep.mixers import MIXERS
from rulekeep.tasks import TASKS, Article

HERE = Path(__file__).parent


def cases() -> dict[str, dict[str, Any]]:
    """By family and name."""
    found: dict[str, dict[str, Any]] = json.loads((HERE / "cases.json").read_text())
    _add_new(found["mixers"], found["training"])
    return found


def _add_new(mixers: dict[str, Any], training: dict[str, Any]) -> None:
    """Adds a case with default options for each mixer and task that no record has yet."""
    made = {case["mixer"] for case in mixers.values()}
    trained = {name for case in training.values() for name in case["mixer"].split("+")}
    tasks = {case["task"] for case in training.values()} | {Article.name}
    for name in MIXERS:
        if name not in made:
            mixers[name] = {"mixer": name, "options": {}, "width": 64}
        if name not in trained:
            training[f"recite {name}"] = {"task": "recite", "mixer": name}
    for name in TASKS:
        if name not in tasks:
            training[f"{name} attention"] = {"task": name, "mixer": "attention"}

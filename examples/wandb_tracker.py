"""Figures of a run in wandb, as they come.

rulekeep run --tracker examples/wandb_tracker.py

Trackio has the same functions: `import trackio as wandb`, without `id`, `dir` and `mode`.
"""

import os
from pathlib import Path
from typing import Any

import wandb


def tracker(folder: Path, spec: dict[str, Any]) -> Any:
    """A run of wandb, offline unless WANDB_MODE says otherwise."""
    return wandb.init(
        project=os.environ.get("WANDB_PROJECT") or "rulekeep",
        # The same id after an interruption continues the curve.
        id=folder.name,
        resume="allow",
        name=folder.name,
        dir=str(folder),
        mode=os.environ.get("WANDB_MODE") or "offline",
        config=spec,
    )

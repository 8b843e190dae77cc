"""Figures of a run as event files of TensorBoard, in RUNS/ID/tensorboard.

rulekeep run --tracker examples/tensorboard_tracker.py
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class EventFiles:
    """A scalar a figure over steps; spec and end as text."""

    def __init__(self, folder: Path, spec: Mapping[str, Any]) -> None:
        self.folder, self.spec, self.last = folder, {"id": folder.name, **spec}, 0
        self.writer: Any = None

    def log(self, figures: Mapping[str, Any], step: int | None = None) -> None:
        """Figures after a step; without a step, how the run ended."""
        if self.writer is None:
            # Here, since it loads torch: what plans the run needs none.
            from torch.utils.tensorboard import SummaryWriter

            # An interrupted attempt may have told of this step and later ones already.
            self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
            self.writer.add_text("spec", indented(self.spec), step or 0)
        if step is None:
            self.writer.add_text("end", indented(figures), self.last)
        else:
            self.last = step
            for name, value in figures.items():
                self.writer.add_scalar(name, value, step)
        # A run may be killed at any time: what it has told stays.
        self.writer.flush()

    def finish(self) -> None:
        """Ends the file."""
        self.writer.close()


def indented(content: Mapping[str, Any]) -> str:
    """A code block: what a user names is text, not Markdown."""
    text = json.dumps(content, indent=1, default=str)
    return "\n".join(f"    {line}" for line in text.splitlines())


def tracker(folder: Path, spec: dict[str, Any]) -> EventFiles:
    """Event files in the folder of the run."""
    return EventFiles(folder, spec)

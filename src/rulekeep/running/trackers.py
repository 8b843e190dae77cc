"""An optional callback: sends the figures of a run to TensorBoard or to a wandb-like service.

Off by default. A record never depends on a tracker: it is the same with any tracker or none. A
tracker that fails is ignored for the rest of the run, after one warning.
"""

import importlib
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rulekeep.executors.base import Log
from rulekeep.specs import UsageError

TrackerName: TypeAlias = Literal["none", "tensorboard", "wandb", "trackio"]


class TrackerWarning(UserWarning):
    """A tracker failed; the run continues without it."""


def check_tracker(name: str) -> None:
    """Whether what a tracker needs is installed, without loading it."""
    if importlib.util.find_spec(name) is None:
        package = name if name == "trackio" else f"'rulekeep[{name}]'"
        raise UsageError(f"--tracker {name}: is not installed: pip install {package}")


def tracked(
    name: str, folder: Path, spec: Mapping[str, Any], run: Callable[[Log], dict[str, Any]]
) -> dict[str, Any]:
    """What a run returns; the tracker gets its figures step by step, and how it ended.

    `spec` has JSON types. TensorBoard gets event files in `folder`/tensorboard. wandb and trackio
    read their own environment variables, as WANDB_PROJECT and WANDB_MODE; without the latter, wandb
    keeps its files in `folder`/wandb and sends nothing.
    """
    told: Any = None

    def tell(call: Callable[[], Any]) -> Any:
        nonlocal told
        try:
            # Standard output is for what a command prints.
            with redirect_stdout(sys.stderr):
                return call()
        except Exception as error:
            told = None
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            line = f"tracker {name} failed and is left out from here on: {reason}"
            warnings.warn(line, TrackerWarning, stacklevel=2)

    def log(step: int, figures: Mapping[str, float]) -> None:
        if told is not None:
            tell(lambda: told.log(dict(figures), step=step))

    def finish(end: dict[str, Any]) -> None:
        if told is not None:
            tell(lambda: told.log(end))
        if told is not None:
            tell(lambda: told.finish())

    told = tell(lambda: (_TensorBoard if name == "tensorboard" else _service)(name, folder, spec))
    try:
        made = run(log)
    except BaseException as error:
        finish({"status": "failed", "reason": str(error)})
        raise
    finish({"status": made["status"], **made["costs"]})
    return made


def _service(name: str, folder: Path, spec: Mapping[str, Any]) -> Any:
    """A run of wandb, or of a package with the same `init`, `log` and `finish`."""
    options: dict[str, Any] = {}
    if name == "wandb":
        # The same id after an interruption continues the curve; trackio goes by the name.
        # Online it asks for an account and waits for the network: only who says so gets that.
        mode = os.environ.get("WANDB_MODE") or "offline"
        options = {"id": folder.name, "dir": str(folder), "mode": mode}
    return importlib.import_module(name).init(
        project=os.environ.get("WANDB_PROJECT") or "rulekeep", resume="allow",
        name=folder.name, config=dict(spec), **options,
    )  # fmt: skip


class _TensorBoard:
    """Event files as wandb has a run: a scalar a figure over steps; spec and end as text."""

    def __init__(self, _: str, folder: Path, spec: Mapping[str, Any]) -> None:
        self._folder, self._spec, self._last = folder, {"id": folder.name, **spec}, 0
        self._writer: Any = None

    def log(self, figures: Mapping[str, Any], step: int | None = None) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What an interrupted attempt told of this step and later ones is told again. An
            # attempt that has told nothing takes nothing away.
            self._writer = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step)
            self._writer.add_text("spec", _indented(self._spec), step or 0)
        if step is None:
            self._writer.add_text("end", _indented(figures), self._last)
        else:
            self._last = step
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)
        # A run may be killed at any time: what it has told stays.
        self._writer.flush()

    def finish(self) -> None:
        self._writer.close()


def _indented(content: Mapping[str, Any]) -> str:
    """A code block: what a user names is text, not Markdown."""
    text = json.dumps(content, indent=1, default=str)
    return "\n".join(f"    {line}" for line in text.splitlines())

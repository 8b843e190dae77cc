"""An optional callback: sends the figures of a run to TensorBoard or to a wandb-like service.

Off by default. A record never depends on a tracker: it is the same with any tracker or none. A
tracker that fails is ignored for the rest of the run, after one warning.

    >>> follow = Tracker("tensorboard", Path("runs/x"), {"mixer": "delta"})  # doctest: +SKIP
    >>> follow.log(25, {"val_loss": 1.2})                                    # doctest: +SKIP
    >>> follow.finish("done", {"retention": 0.9})                            # doctest: +SKIP
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
from typing import Any, Literal, TypeAlias, final

from rulekeep.specs import UsageError

TrackerName: TypeAlias = Literal["none", "tensorboard", "wandb", "trackio"]


class TrackerWarning(UserWarning):
    """A tracker failed; the run continues without it."""


def check_tracker(name: TrackerName) -> str | None:
    """Whether there could be a `Tracker`, without loading anything; what a user should know of it.

    Raises:
        UsageError: what it needs is not installed.
    """
    if name != "none" and importlib.util.find_spec(name) is None:
        package = name if name == "trackio" else f"'rulekeep[{name}]'"
        raise UsageError(f"--tracker {name}: is not installed: pip install {package}")
    if name == "wandb" and not os.environ.get("WANDB_MODE"):
        return (
            "tracker wandb: kept offline, for `wandb sync` to upload; "
            "WANDB_MODE=online sends as it goes, and may wait for the network"
        )
    return None


@final
class Tracker:
    """Receives the run of a folder, with its spec in JSON types; it never fails the run.

    TensorBoard gets event files in `folder`/tensorboard. wandb and trackio read their own
    environment variables, as WANDB_PROJECT and WANDB_MODE; without the latter, wandb keeps its
    files in `folder`/wandb and sends nothing.
    """

    def __init__(self, name: TrackerName, folder: Path, spec: Mapping[str, Any]) -> None:
        self._name = name
        self._inner: _TensorBoard | _Wandb | None = None
        if name == "tensorboard":
            self._inner = _TensorBoard(folder, spec)
        elif name != "none":
            self._inner = _Wandb(name)
            self._tell(lambda inner: inner.start(folder, spec))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures after this many steps; steps only grow."""
        self._tell(lambda inner: inner.log(step, figures))

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """The run has ended with this status and these final figures."""
        self._tell(lambda inner: inner.finish({"status": status, **summary}))

    def _tell(self, call: Callable[[Any], None]) -> None:
        if self._inner is None:
            return
        try:
            # Standard output is for what a command prints.
            with redirect_stdout(sys.stderr):
                call(self._inner)
        except Exception as error:
            self._inner = None
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            line = f"tracker {self._name} failed and is left out from here on: {reason}"
            warnings.warn(line, TrackerWarning, stacklevel=4)


class _TensorBoard:
    """Event files: a scalar a figure over steps; the spec and the end as text."""

    def __init__(self, folder: Path, spec: Mapping[str, Any]) -> None:
        self._folder, self._spec = folder, {"id": folder.name, **spec}
        self._last: int | None = None
        self._writer: Any = None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        # What an interrupted attempt told of this step and later ones is told again.
        self._open(purge_step=step)
        self._last = step
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        # A run may be killed at any time: what it has told stays.
        self._writer.flush()

    def finish(self, end: Mapping[str, Any]) -> None:
        # An attempt that has told nothing takes nothing away.
        self._open(purge_step=None)
        self._writer.add_text("end", _indented(end), self._last or 0)
        self._writer.close()

    def _open(self, purge_step: int | None) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder / "tensorboard"), purge_step=purge_step)
            self._writer.add_text("spec", _indented(self._spec), purge_step or 0)


class _Wandb:
    """A run of wandb, or of a package with the same `init`, `log` and `finish`."""

    def __init__(self, module: str) -> None:
        self._module = module

    def start(self, folder: Path, spec: Mapping[str, Any]) -> None:
        options: dict[str, Any] = {}
        if self._module == "wandb":
            # The same id after an interruption continues the curve; trackio goes by the name.
            # Online it asks for an account and waits for the network: only who says so gets that.
            mode = os.environ.get("WANDB_MODE") or "offline"
            options = {"id": folder.name, "dir": str(folder), "mode": mode}
        self._run = importlib.import_module(self._module).init(
            project=os.environ.get("WANDB_PROJECT") or "rulekeep", resume="allow",
            name=folder.name, config=dict(spec), **options,
        )  # fmt: skip

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def finish(self, end: Mapping[str, Any]) -> None:
        self._run.log(dict(end))
        self._run.finish()


def _indented(content: Mapping[str, Any]) -> str:
    """A code block: what a user names is text, not Markdown."""
    text = json.dumps(content, indent=1, default=str)
    return "\n".join(f"    {line}" for line in text.splitlines())

"""Optional callbacks: send the figures of a run to TensorBoard or to a wandb-like service.

Off by default. A record never depends on a tracker: it is the same with any tracker or none. A
tracker that fails is ignored for the rest of the run, after one warning.

    >>> follow = tracker("tensorboard", Path("runs/x"))               # doctest: +SKIP
    >>> follow.start("x", {"mixer": "delta", "seed": 1})              # doctest: +SKIP
    >>> follow.log(25, {"val_loss": 1.2})                             # doctest: +SKIP
    >>> follow.finish("done", {"retention": 0.9})                     # doctest: +SKIP
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
from typing import Any, Literal, Protocol, TypeAlias, final, get_args

from rulekeep.specs import UsageError

TrackerName: TypeAlias = Literal["none", "tensorboard", "wandb", "trackio"]
TRACKERS = get_args(TrackerName)


class TrackerWarning(UserWarning):
    """A tracker failed; the run continues without it."""


class Callback(Protocol):
    """Receives one run: `start` once, `log` as it goes, `finish` once."""

    def start(self, run_id: str, spec: Mapping[str, Any]) -> None:
        """The run with this spec, in JSON types, begins or resumes."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures after this many steps; steps only grow."""

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        """The run has ended with this status and these final figures."""


def tracker(name: str, folder: Path) -> Callback:
    """The tracker of this name for the run that keeps its files in `folder`.

    Args:
        name: none, tensorboard (event files in `folder`/tensorboard), wandb or trackio
            (both read their own environment variables, as WANDB_PROJECT and WANDB_MODE;
            without the latter, wandb keeps its files in `folder`/wandb and sends nothing).
        folder: the run's own.

    Raises:
        UsageError: there is none of this name, or what it needs is not installed.
    """
    check_tracker(name)
    if name == "none":
        return _Guarded(name, None)
    return _Guarded(name, _TensorBoard(folder) if name == "tensorboard" else _Wandb(name, folder))


def check_tracker(name: str) -> str | None:
    """Whether `tracker` would make it, without loading anything; what a user should know of it.

    Raises:
        UsageError: there is none of this name, or what it needs is not installed.
    """
    if name not in TRACKERS:
        raise UsageError(f"--tracker {name[:80]!a}: choose from {', '.join(TRACKERS)}")
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
class _TensorBoard:
    """Event files: a scalar a figure over steps; the spec, the status and the end as text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._last = 0
        self._writer: Any = None

    def start(self, run_id: str, spec: Mapping[str, Any]) -> None:
        self._spec = _indented({"id": run_id, **spec})

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._open(step)
        self._last = step
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        # A run may be killed at any time: what it has told stays.
        self._writer.flush()

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        # An attempt that has told nothing takes nothing away.
        self._open(None)
        self._writer.add_text("end", _indented({"status": status, **summary}), self._last)
        self._writer.close()

    def _open(self, step: int | None) -> None:
        if self._writer is not None:
            return
        from torch.utils.tensorboard import SummaryWriter

        # What an interrupted attempt told of this step and later ones is told again.
        self._writer = SummaryWriter(str(self._folder), purge_step=step)
        # A code block: what a user names is text, not Markdown.
        self._writer.add_text("spec", self._spec, step or 0)


@final
class _Wandb:
    """A run of wandb, or of a package with the same `init`, `log` and `finish`."""

    def __init__(self, module: str, folder: Path) -> None:
        self._module = module
        self._folder = folder

    def start(self, run_id: str, spec: Mapping[str, Any]) -> None:
        service = importlib.import_module(self._module)
        options: dict[str, Any] = {"name": run_id, "config": dict(spec)}
        if self._module == "wandb":
            # The same id after an interruption continues the curve; trackio goes by the name.
            options.update(id=run_id, dir=str(self._folder))
            # Online it asks for an account and waits for the network: only who says so gets that.
            options.update(mode=os.environ.get("WANDB_MODE") or "offline")
        self._run = service.init(
            project=os.environ.get("WANDB_PROJECT") or "rulekeep", resume="allow", **options
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        self._run.log({"status": status, **summary})
        self._run.finish()


@final
class _Guarded:
    """Another callback that must never fail a run; None receives nothing."""

    def __init__(self, name: str, inner: Callback | None) -> None:
        self._name, self._inner = name, inner

    def start(self, run_id: str, spec: Mapping[str, Any]) -> None:
        self._tell(lambda one: one.start(run_id, spec))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._tell(lambda one: one.log(step, figures))

    def finish(self, status: str, summary: Mapping[str, Any]) -> None:
        self._tell(lambda one: one.finish(status, summary))

    def _tell(self, call: Callable[[Callback], None]) -> None:
        if self._inner is None:
            return
        try:
            # Standard output is for what a command prints.
            with redirect_stdout(sys.stderr):
                call(self._inner)
        except Exception as error:
            self._inner = None
            said = " ".join(f"{type(error).__name__}: {error}".split())
            line = f"tracker {self._name} failed and is left out from here on: {said}"
            warnings.warn(line, TrackerWarning, stacklevel=4)


def _indented(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, indent=1, default=str)
    return "\n".join(f"    {line}" for line in text.splitlines())

"""An optional callback: sends the figures of a run elsewhere, as a function of the user's says.

    def tracker(folder, spec):      # --tracker file.py
        return wandb.init(name=folder.name, config=spec)

`folder` is that of the run, a Path, and `spec` has JSON types. What it returns has `log(figures,
step=None)` and `finish()`, as a run of wandb has. The last figures, without a step, say how the run
ended. A record never depends on a tracker: it is the same with any or none. A tracker that fails is
ignored for the rest of the run, after one warning.
"""

import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rulekeep.executors.base import Log
from rulekeep.registry import find_function


class TrackerWarning(UserWarning):
    """A tracker failed; the run continues without it."""


def tracked(
    name: str, folder: Path, spec: Mapping[str, Any], run: Callable[[Log], dict[str, Any]]
) -> dict[str, Any]:
    """What a run returns; the tracker gets its figures step by step, and how it ended."""
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

    told = tell(lambda: find_function(name, (), "tracker")(folder, dict(spec)))
    try:
        made = run(log)
    except BaseException as error:
        finish({"status": "failed", "reason": str(error)})
        raise
    finish({"status": made["status"], **made["costs"]})
    return made

"""Checks a plug-in against its contract: `check_task` for a task, `check_mixer` for a mixer.

The causality screen of a run and the certificates of tasks are here too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rulekeep.checks.mixers import check_mixer
    from rulekeep.checks.rows import Row
    from rulekeep.checks.tasks import check_task

__all__ = ["Row", "check_mixer", "check_task"]
_PLACES = {"Row": "rows", "check_mixer": "mixers", "check_task": "tasks"}


def __getattr__(name: str) -> Any:
    # Only who checks a mixer loads torch, and only who certifies a task loads scikit-learn.
    if name in _PLACES:
        return getattr(import_module(f"rulekeep.checks.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

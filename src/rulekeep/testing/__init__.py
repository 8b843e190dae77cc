"""Holds a plug-in against its contract: `check_task` for a task, `check_mixer` for a mixer."""

from typing import TYPE_CHECKING, Any

from rulekeep.testing.rows import Row
from rulekeep.testing.tasks import check_task

if TYPE_CHECKING:
    from rulekeep.testing.mixers import check_mixer

__all__ = ["Row", "check_mixer", "check_task"]


def __getattr__(name: str) -> Any:
    # Only who checks a mixer loads torch.
    if name == "check_mixer":
        from rulekeep.testing.mixers import check_mixer

        return check_mixer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What the fork server loads first: it must end with the driver that started it.

Only ever imported there, as the first of its preloaded modules. Its children each hold an
end of the pipe by which it would notice that the driver is gone, so it would wait for them:
the kernel tells it instead, and it takes its children along (see `local`).
"""

import sys
from types import TracebackType

from rulekeep.executors.parent import die_with_parent


def _quiet_if_the_driver_left(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    # A worker that is born while the driver stops finds its locks and pipes gone: that is no
    # news to anybody. What fails in a job does not come here.
    if not isinstance(error, (FileNotFoundError, EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _quiet_if_the_driver_left
die_with_parent()

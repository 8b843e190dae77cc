"""The first module of the fork server, which must end with the driver that started it.

It is imported only there. The server would notice a lost driver by a pipe, but each of its children
holds an end of that pipe. So the kernel tells it, and it ends its children too (see `local`).
"""

import gc
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
# Torch makes a million objects as it is loaded, and none is garbage: a fifth of the load was spent
# on finding that out. A job turns the collection on again.
gc.disable()

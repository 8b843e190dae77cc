"""`python -m rulekeep` and the `rulekeep` command: handles Ctrl-C from the first line on.

Nothing is imported here but the command itself. While it loads, Ctrl-C ends the process at once,
because there is nothing to clean up. While it runs, Ctrl-C is `KeyboardInterrupt` as usual. Once it
ends, Ctrl-C does nothing more.
"""

import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """The console entry point."""
    # One that is ignored, as in a background job, stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from rulekeep import cli
    from rulekeep.commands.console import keep_output

    keep_output()
    cli.main(_listen)


def _leave(*_: object) -> NoReturn:
    try:
        os.write(2, b"rulekeep: interrupted\n")
    finally:
        os._exit(130)


def _listen() -> None:
    """From now on, Ctrl-C is an exception."""
    if signal.getsignal(signal.SIGINT) is _leave:
        from rulekeep.cli import interrupt, unraisable

        signal.signal(signal.SIGINT, interrupt)
        sys.unraisablehook = unraisable


if __name__ == "__main__":
    main()

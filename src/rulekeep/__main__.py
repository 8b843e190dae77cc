"""`python -m rulekeep` and the `rulekeep` command."""

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """The console entry point: Ctrl-C while its modules load ends it in one line too."""
    try:
        # Not as an attribute of the package, which finds its public names alone.
        import rulekeep.cli

        rulekeep.cli.main()
    except KeyboardInterrupt:
        os.write(2, b"rulekeep: interrupted\n")
        os._exit(130)
    finally:
        # It has ended: another Ctrl-C has nothing to stop.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()

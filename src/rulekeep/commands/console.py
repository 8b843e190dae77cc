"""What every command says, and how it ends."""

import sys

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 1, 2, 130, 141


def say(line: str) -> None:
    """A line for the user, beside the command's output."""
    print(line, file=sys.stderr, flush=True)

"""The `rulekeep` command: gathers the commands, and turns how one ends into an exit code.

Exit codes: 0 all well, 1 a figure out of tolerance or a failed run, 2 bad usage,
130 interrupted, 141 standard output closed early.
"""

import errno
import os
import signal
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import NoReturn

from cyclopts import App, CoercionError, CycloptsError, UnknownOptionError
from pydantic import ValidationError

import rulekeep
from rulekeep.commands.article import article
from rulekeep.commands.console import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    say,
)
from rulekeep.commands.explain import explain
from rulekeep.commands.mixers import check
from rulekeep.commands.records import list_, report, verify
from rulekeep.commands.retest import retest
from rulekeep.commands.runs import resume, run, sweep
from rulekeep.commands.speed import speed
from rulekeep.commands.tasks import certify, check_task, data, show
from rulekeep.executors.trial import Trial
from rulekeep.registry import tried_first
from rulekeep.specs import UsageError

app = App(
    name="rulekeep",
    help="Which early, weak, parallel rules survive when a context is compressed?",
    version=rulekeep.__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

for command in (
    article, run, sweep, resume, verify, report, explain, check, speed, certify, data, show,
    check_task,
):  # fmt: skip
    app.command(command)
app.command(list_, name="list")
app.command(retest, name="test")


def main() -> NoReturn:
    """The console entry point."""
    _open_streams()
    # A warning is for the user: one line, once, without the place in our code.
    warn = cache(lambda text: say(f"rulekeep: {text}"))
    warnings.showwarning = lambda message, *_, **__: warn(str(message))
    # What is started to ignore a signal goes on doing so, as Python does with SIGINT by itself.
    if signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tried_first(Trial()):
            code = app(exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        _usage(_said(error))
    except UsageError as error:
        _usage(str(error))
    except KeyboardInterrupt:
        say("rulekeep: interrupted")
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left: nothing more can be said there, not at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_BROKEN_PIPE
    except SystemExit as end:
        # rich has turned that into an exit of its own.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        code = EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            _usage(f"{error.filename!r}: is too long a name; give a shorter one")
        say(f"rulekeep: {error}")
        code = EXIT_FAILED
    sys.exit(code or 0)


def _open_streams() -> None:
    """Output that is closed goes nowhere; what a terminal has no letters for is replaced."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Kept open until the process ends.
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="replace")


def _said(error: CycloptsError) -> str:
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        # Options of a task or a mixer without the name of one.
        first = cause.errors(include_url=False)[0]
        option = f"--{first['loc'][0]}".replace("_", "-")
        return f"{option} {first['input']!a}: write {option}.NAME VALUE"
    if isinstance(error, CoercionError) and error.token is None and error.argument is not None:
        # A name in a name, where the option takes one.
        option = error.argument.name
        if "[" in option:
            # Where a task's options stand by themselves.
            return "a task's own options are --NAME VALUE here, as in --rules 8"
        return f"{option}: takes {option}.NAME VALUE, one name without another in it"
    own = ""
    if isinstance(error, UnknownOptionError):
        known = {name for argument in error.argument_collection for name in argument.names}
        options = [f"{one}.NAME" for one in ("--task-options", "--mixer-options") if one in known]
        own = f" (what is a task's or a mixer's own: {', '.join(options)})" if options else ""
    # A long list ends in dots of its own.
    said = " ".join(str(error).split()).removesuffix(", ...").rstrip(".")
    return f"{said}{own}; see rulekeep --help"


def _usage(message: str) -> NoReturn:
    say(f"rulekeep: {message}")
    sys.exit(EXIT_USAGE)

"""The `rulekeep` command: names the commands, and turns their ends into exit codes.

The module of a command is imported when the command is given: `rulekeep --help` imports none.

Exit codes: 0 all well, 1 a figure out of tolerance or a failed run, 2 bad usage, 130 interrupted,
141 standard output closed early.
"""

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

import rulekeep
from rulekeep.console import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    rich_console,
    say,
)


def _shown(default: object) -> str | None:
    """A default value in help; nothing of one that is empty or none."""
    several = default if isinstance(default, tuple) else () if default is None else (default,)
    return ",".join(map(str, several)) or None


app = App(
    name="rulekeep",
    help="Which early, weak, parallel rules survive when a context is compressed?",
    version=lambda: rulekeep.__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    # What is between commas has no other form.
    default_parameter=Parameter(negative_iterable="", show_default=_shown),
)

COMMANDS = {
    "article": "article:article",
    "run": "runs:run",
    "sweep": "runs:sweep",
    "demo": "demo:demo",
    "resume": "runs:resume",
    "verify": "records:verify",
    "report": "records:report",
    "explain": "done:explain",
    "test": "done:retest",
    "pack": "pack:pack",
    "study": "study:study",
    "language": "language:language",
    "compact": "compact:compact",
    "compare": "compare:compare",
    "check": "mixers:check",
    "speed": "speed:speed",
    "certify": "tasks:certify",
    "data": "tasks:data",
    "show": "tasks:show",
    "check-task": "tasks:check_task",
    "list": "listing:list_",
    "harness lm-eval": "harness:lm_eval",
    "harness kvpress": "harness:kvpress",
}


def about(place: str) -> str:
    """What a command's docstring says before its parameters: help imports none of them."""
    module, _, function = place.partition(":")
    source = (Path(__file__).parent / "commands" / f"{module}.py").read_text("utf-8")
    docstring = source.partition(f"\ndef {function}(")[2].split('"""', 2)[1]
    said = docstring.partition("\n\n    Parameters\n")[0]
    return "\n\n".join(" ".join(part.split()) for part in said.split("\n\n"))


app.command(App(name="harness", help="What a harness that others wrote reads of rulekeep."))
for _name, _place in COMMANDS.items():
    *_group, _last = _name.split()
    _app = app[_group[0]] if _group else app
    _app.command(f"rulekeep.commands.{_place}", name=_last, help=about(_place))


def main() -> NoReturn:
    """Carry out the given command."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        # A terminal may lack our letters.
        stream.reconfigure(errors="replace")
    # A warning is for the user: one line, without its place in our code.
    warnings.showwarning = lambda message, *_, **__: say(f"rulekeep: {message}")
    # What is started to ignore a signal goes on doing so, as Python does with Ctrl-C by itself.
    if signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = _carried_out()
    except KeyboardInterrupt as end:
        say(str(end) or "rulekeep: interrupted")
        code = EXIT_INTERRUPTED
    # It has ended: another Ctrl-C has nothing to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _carried_out() -> int:
    try:
        console = rich_console()
        command, given, _ = app.parse_args(
            sys.argv[1:], console=console, exit_on_error=False, print_error=False
        )
        code = command(*given.args, **given.kwargs)
        print(end="", flush=True)
        return code or 0
    except CycloptsError as error:
        return _refused(_line_of(error))
    except BrokenPipeError:
        return _left()
    except SystemExit as end:
        # rich makes one of a broken pipe.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return _left()
    except OSError as error:
        # A full disk, or a place that cannot be written: a user can mend it.
        place = f"{error.filename}: " if error.filename else ""
        try:
            sys.stdout.flush()
        except OSError:
            # Python would try once more as it ends, and tell of it in its own words.
            _give_up_output()
        return _refused(f"{place}{error.strerror or error}; mend it, or name another place")
    except (ValueError, RuntimeError) as error:
        # Where they were raised they have been loaded; help needs none of it.
        from rulekeep.executors.base import RunFailedError
        from rulekeep.specs import UsageError

        if isinstance(error, RunFailedError):
            say(f"rulekeep: {error}")
            return EXIT_FAILED
        if not isinstance(error, UsageError):
            raise
        return _refused(str(error))


def _left() -> int:
    """Whoever read our output has left."""
    _give_up_output()
    return EXIT_BROKEN_PIPE


def _give_up_output() -> None:
    """What is still to be written goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _line_of(error: CycloptsError) -> str:
    """What cyclopts says, or pydantic or a converter of ours of a value, in one line."""
    from pydantic import ValidationError

    from rulekeep.specs import validation_line

    cause, argument, line = error.__cause__, getattr(error, "argument", None), str(error)
    if isinstance(cause, ValidationError):
        line = validation_line(cause)
    elif cause is not None and argument is not None:
        tokens = argument.tokens or filter(None, [getattr(error, "token", None)])
        line = f"{argument.name} {','.join(token.value for token in tokens)!a}: {cause}"
    command = f" {sys.argv[1]}" if sys.argv[1] in COMMANDS else ""
    return f"{line.rstrip(' .,')}; see rulekeep{command} --help"


def _refused(line: str) -> int:
    say(f"rulekeep: {line}")
    return EXIT_USAGE

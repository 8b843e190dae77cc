"""The `rulekeep` command: names the commands, and turns their ends into exit codes.

The module of a command is imported when the command is given: `rulekeep --help` imports none.

Exit codes: 0 all well, 1 a figure out of tolerance or a failed run, 2 bad usage, 130 interrupted,
141 standard output closed early.
"""

import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    UnknownCommandError,
    UnknownOptionError,
    ValidationError,
)

import rulekeep
from rulekeep.commands.console import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    end_output,
    open_streams,
    output,
    remove_empty,
    rich_console,
    say,
)

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

app = App(
    name="rulekeep",
    help="Which early, weak, parallel rules survive when a context is compressed?",
    version=lambda: rulekeep.__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

COMMANDS = {
    "article": "article:article",
    "run": "runs:run",
    "sweep": "runs:sweep",
    "demo": "demo:demo",
    "resume": "runs:resume",
    "verify": "records:verify",
    "report": "records:report",
    "explain": "explain:explain",
    "test": "retest:retest",
    "pack": "pack:pack",
    "submit": "submit:submit",
    "study": "study:study",
    "language": "language:language",
    "compare": "compare:compare",
    "check": "mixers:check",
    "speed": "speed:speed",
    "certify": "tasks:certify",
    "data": "tasks:data",
    "show": "tasks:show",
    "check-task": "tasks:check_task",
    "list": "listing:list_",
}


def about(place: str) -> str:
    """What a command's docstring says before its parameters: help imports none of them."""
    module, _, function = place.partition(":")
    source = (Path(__file__).parent / "commands" / f"{module}.py").read_text("utf-8")
    docstring = source.partition(f"\ndef {function}(")[2].split('"""', 2)[1]
    said = docstring.partition("\n\n    Parameters\n")[0]
    return "\n\n".join(" ".join(part.split()) for part in said.split("\n\n"))


for _name, _place in COMMANDS.items():
    app.command(f"rulekeep.commands.{_place}", name=_name, help=about(_place))

# What is interrupted while it is destroyed loses the interruption: it comes again after this.
_AGAIN_SECONDS = 0.01
_ended = False


def interrupt(number: int, *_: object) -> None:
    """Ctrl-C and SIGTERM: raise an exception while a command runs; do nothing once it has ended."""
    if not _ended:
        raise KeyboardInterrupt
    if number == signal.SIGTERM:
        os._exit(128 + number)


def unraisable(lost: "UnraisableHookArgs") -> None:
    """An exception that nothing can catch; a Ctrl-C lost this way is sent again."""
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
    elif not _ended:
        # To this thread, so that it wakes up where it waits.
        where = (threading.get_ident(), signal.SIGINT)
        again = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, where)
        again.daemon = True
        again.start()


def main(listen: Callable[[], None] | None = None) -> NoReturn:
    """Carry out the given command; `listen` is called once its code is loaded."""
    global _ended
    # Every branch below begins with its end: the next Ctrl-C may come at once.
    _ended = False
    try:
        code = _carried_out(listen)
        _ended = True
    except KeyboardInterrupt:
        _ended = True
        say("rulekeep: interrupted")
        code = EXIT_INTERRUPTED
    except BaseException:
        _ended = True
        raise
    finally:
        if sys.unraisablehook is unraisable:
            # Python takes this module apart before its last exceptions are lost.
            sys.unraisablehook = sys.__unraisablehook__
    sys.exit(code)


def _carried_out(listen: Callable[[], None] | None) -> int:
    open_streams()
    # A warning is for the user: one line, once, without the place in our code.
    warn = cache(lambda text: say(f"rulekeep: {text}"))
    warnings.showwarning = lambda message, *_, **__: warn(str(message))
    # What is started to ignore a signal goes on doing so, as Python does with SIGINT by itself.
    if signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        command, given, _ = _parsed()
        if listen is not None:
            listen()
        code = command(*given.args, **given.kwargs)
        output().flush()
    except CycloptsError as error:
        _usage(_said(error))
    except BrokenPipeError:
        # Whoever read our output has left.
        code = EXIT_BROKEN_PIPE
    except SystemExit as end:
        # rich has turned that into an exit of its own.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        code = EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            _usage(f"{error.filename!r}: is too long a name; give a shorter one")
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename:
            said = f"cannot be written ({error.strerror}); make room or name another folder"
            _usage(f"{error.filename}: {said}")
        say(f"rulekeep: {error}")
        code = EXIT_FAILED
    except ValueError as error:
        # Where it was raised it has been loaded; help needs none of it.
        from rulekeep.specs import UsageError

        if not isinstance(error, UsageError):
            raise
        _usage(str(error))
    finally:
        remove_empty()
        end_output()
    return code or 0


def _parsed() -> Any:
    try:
        return app.parse_args(
            sys.argv[1:], console=rich_console(), exit_on_error=False, print_error=False
        )
    except (AttributeError, TypeError):
        # So the parser ends where an option is given a value and a name under it.
        names = [part.partition("=")[0] for part in sys.argv[2:]]
        for name in names:
            if any(one.startswith(f"{name}.") for one in names):
                _usage(f"{name}: has a value, and an option under it; give it one of them")
        raise


def _said(error: CycloptsError) -> str:
    if isinstance(error, (CoercionError, ValidationError)) and (said := _said_of_value(error)):
        return said
    if isinstance(error, UnknownCommandError):
        from rulekeep.plugins import choose

        given = sys.argv[1]
        return f"command {given[:80]!a}: {choose(given, COMMANDS)}"
    own = ""
    if isinstance(error, UnknownOptionError):
        known = {name for argument in error.argument_collection for name in argument.names}
        options = [f"{one}.NAME" for one in ("--task-options", "--mixer-options") if one in known]
        own = f" (what is a task's or a mixer's own: {', '.join(options)})" if options else ""
    # A long list ends in dots of its own.
    said = " ".join(str(error).split()).removesuffix(", ...").rstrip(".")
    command = f" {sys.argv[1]}" if sys.argv[1] in COMMANDS else ""
    return f"{said}{own}; see rulekeep{command} --help"


def _said_of_value(error: CoercionError | ValidationError) -> str | None:
    """The message for an option with an impossible value, and what is possible."""
    import pydantic

    cause, argument = error.__cause__, error.argument
    if isinstance(cause, pydantic.ValidationError):
        # A field of a spec.
        first = cause.errors(include_url=False)[0]
        option = f"--{first['loc'][0]}".replace("_", "-")
        value = first["input"]
        if first["type"] == "dict_type":
            return f"{option} {value!a}: write {option}.NAME VALUE"
        fix = first["msg"].removeprefix("Value error, ")
        if first["type"].endswith("_parsing"):
            # What follows tells of the parser.
            fix = fix.partition(",")[0]
        value = ",".join(map(str, value)) if isinstance(value, list) else value
        return f"{option} {_written(value)}: {fix[0].lower()}{fix[1:]}"
    if argument is None:
        return None
    option, kinds = argument.name, str(argument.hint)
    if "[" in option:
        # Where a task's options stand by themselves.
        return "a task's own options are --NAME VALUE here, as in --rules 8"
    token = getattr(error, "token", None)
    value = ",".join(one.value for one in argument.tokens or filter(None, [token]))
    if "dict" in kinds:
        # A name in a name, where the option takes one; or no name at all.
        return (
            f"{option} {_written(value)}: write {option}.NAME VALUE"
            if token is not None
            else f"{option}: takes {option}.NAME VALUE, one name without another in it"
        )
    if isinstance(cause, ValueError):
        fix = str(cause)
    elif choices := _choices(argument.hint):
        fix = f"choose from {', '.join(choices)}"
    else:
        fix = "must be true or false" if "bool" in kinds else "must be a number"
    return f"{option} {_written(value)}: {fix}"


def _choices(hint: object) -> list[str]:
    """What an option can be chosen from; nothing if it is no choice."""
    if get_origin(hint) is Literal:
        return [str(one) for one in get_args(hint)]
    return [choice for part in get_args(hint) for choice in _choices(part)]


def _written(value: object) -> str:
    """A value as the user wrote it, in quotes unless it is a number."""
    text = str(value)
    plain = text.removeprefix("-").isdecimal() and text.isascii()
    return text if plain else ascii(text[:80])


def _usage(message: str) -> NoReturn:
    say(f"rulekeep: {message}")
    sys.exit(EXIT_USAGE)

"""A task that a spec names, found and made: its class, its options, its parts tried once."""

from numbers import Integral
from typing import Any, TypeVar

from rulekeep.plugins import failure_line, find_class, takes_by_place
from rulekeep.specs import UsageError
from rulekeep.tasks import TASKS, SampledTask, Task, TaskOptions

_T = TypeVar("_T")
# What a task has beside what its class has to define.
_OF_A_TASK = ("name", "vocabulary", "combinations", "shortest_context", "options")
# What our own code asks of a task as it is made.
_ASKED_FOR = (*_OF_A_TASK, "answer_length")


def load_task(name: str) -> type[Task]:
    """A task of the catalogue, or a class from outside that is a `SampledTask`.

    Raises:
        UsageError: there is no such task, or it cannot be loaded.
    """
    if name in TASKS:
        return TASKS[name]
    # An abstract class: mypy takes none for a type, but any subclass of it will do.
    base: type[Task] = SampledTask
    found = find_class(name, TASKS, base, "task")
    options = getattr(found, "options_type", None)
    if not (isinstance(options, type) and issubclass(options, TaskOptions)):
        raise UsageError(f"task {name!r}: has no options_type, a subclass of TaskOptions")
    return found


def build_task(name: str, kind: type[_T], options: object) -> _T:
    """A task of this class; an exception of its code becomes one line.

    Raises:
        UsageError: it cannot be made, or lacks a part of a task.
    """
    if not takes_by_place(kind):
        raise UsageError(f"task {name!r}: its constructor must take its options: (self, options)")
    try:
        made = kind(options)  # type: ignore[call-arg]
        lacking = [part for part in _OF_A_TASK if not hasattr(made, part)]
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:
        asked = isinstance(error, AttributeError) and isinstance(error.obj, kind) and error.name
        if asked not in _ASKED_FOR:
            raise UsageError(f"task {name!r}: {failure_line(error)}") from None
        lacking = [asked]
    if lacking:
        raise UsageError(
            f"task {name!r}: has no {' and no '.join(lacking)}; a whole one: "
            "examples/outside_task.py"
        )
    found: Any = made
    if not isinstance(found.name, str):
        raise UsageError(f"task {name!r}: its name is {found.name!r}, must be text")
    if not isinstance(found.shortest_context, Integral):
        said = repr(found.shortest_context)
        raise UsageError(f"task {name!r}: its shortest_context is {said}, must be a whole number")
    words = found.vocabulary
    is_list = isinstance(words, (list, tuple)) and words
    if not (is_list and all(isinstance(word, str) for word in words)):
        raise UsageError(f"task {name!r}: its vocabulary must be a list of words, each a text")
    return made

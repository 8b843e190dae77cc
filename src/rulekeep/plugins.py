"""A name to a class: from a catalogue, from a module, or from a file of a user.

    find_class("recite", TASKS, SampledTask, "task")    a name of the catalogue
    find_class("my_package.tasks:Mine", …)              a class of a module that Python finds
    find_class("my_task.py:Mine", …)                    a class of a file

`running.mixers` and `running.tasks` find mixers and tasks with it.

A class that no other process can import, such as one of a notebook, gets a name here
(`name_of_class`), by which this process alone finds it.

A class that cannot be loaded is a `UsageError` of one line that says what there is instead.
Catalogues are imported only when asked for: this module loads no torch.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from rulekeep.records.provenance import is_installed
from rulekeep.specs import UsageError

if TYPE_CHECKING:
    from rulekeep.catalogue import Catalogue

_T = TypeVar("_T")
_ROOT = Path(__file__).parent
# Where a user imports from what is defined elsewhere.
_PUBLIC = {"torch.nn.modules.module": "torch.nn", "rulekeep.tasks.sampled": "rulekeep.tasks"}
# Under which name a class from outside was found, whatever this process is in by then.
_FOUND: dict[object, str] = {}
# Classes that this process alone has, by the name that specs give them.
_HELD: dict[str, type[Any]] = {}


def name_of_class(kind: type[Any], catalogue: "Catalogue[Any]") -> str:
    """The name by which a spec can ask for a class, and `find_class` finds it.

    A class that another process cannot import, for example of a notebook or `__main__`, is held in
    this one.
    """
    module, name = kind.__module__, kind.__qualname__
    for known in catalogue:
        if catalogue.module(known) == module and catalogue[known] is kind:
            return known
    if kind in _FOUND:
        return _FOUND[kind]
    named, stands_in = f"{module}:{name}", sys.modules.get(module)
    of_file = module != "__main__" and getattr(stands_in, "__file__", None) is not None
    if not (of_file and getattr(stands_in, name, None) is kind):
        _HELD[named] = kind
    return named


def held_class(name: str) -> type[Any] | None:
    """The class of this name that only this process has; None if any process can import it."""
    place, _, kind = name.rpartition(":")
    if place == "__main__" and name not in _HELD:
        found = getattr(sys.modules[place], kind, None)
        return found if isinstance(found, type) else None
    return _HELD.get(name)


def is_outside(name: str) -> bool:
    """Whether a name is of no catalogue: `file.py:Class` or `module:Class`."""
    return ":" in name


def takes_by_place(kind: type[Any]) -> bool:
    """Whether a constructor has a positional parameter."""
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return any(p.kind <= p.VAR_POSITIONAL for p in parameters)


def find_class(
    name: str, catalogue: Mapping[str, type[object]], base: type[_T], kind: str
) -> type[_T]:
    """The class that a name stands for; `kind` is what messages call it.

    Raises:
        UsageError: unknown name, missing file or class, a class without `base`, or an
            exception while importing.
    """
    public = f"{_PUBLIC.get(base.__module__, base.__module__)}.{base.__name__}"
    if ":" not in name:
        found = catalogue.get(name)
        if found is None and name.endswith(".py"):
            classes = _classes(_module(name, name, kind), base)
            raise UsageError(f"{kind} {name!r}: name its class, {_as_in(name, classes, public)}")
        if found is None:
            raise UsageError(
                f"{kind} {name!r}: {choose(name, catalogue)}, or name a class of your own as "
                "file.py:Class or module:Class"
            )
    else:
        place, _, class_name = name.rpartition(":")
        if not place or not class_name:
            raise UsageError(f"{kind} {name!r}: must be file.py:Class or module:Class")
        found = held_class(name)
        module = _module(place, name, kind) if found is None else None
        if module is not None:
            found = getattr(module, class_name, None)
        if module is not None and found is None:
            classes = _classes(module, base)
            known = choose(class_name, classes) if classes else f"it has no {public}"
            raise UsageError(f"{kind} {name!r}: {place} has no {class_name}; {known}")
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{kind} {name!r}: is not a subclass of {public}{_other_kind(found)}")
    missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
    if missing:
        raise UsageError(f"{kind} {name!r}: does not define {missing}")
    if ":" in name and held_class(name) is None:
        is_file = Path(place).is_file()
        _FOUND[found] = f"{Path(place).absolute() if is_file else place}:{class_name}"
    return found


def _classes(module: ModuleType, base: type[object]) -> dict[str, type[object]]:
    """The classes of a module that fit."""
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
    }


def _as_in(place: str, classes: Mapping[str, object], public: str) -> str:
    named = " or ".join(f"{place}:{one}" for one in classes)
    return f"as in {named}" if named else f"a subclass of {public}: it has none"


def _other_kind(found: object) -> str:
    """The command for what the user has given, if it is of another kind."""
    bases = {f"{one.__module__}.{one.__name__}" for one in getattr(found, "__mro__", ())}
    if "rulekeep.tasks.sampled.SampledTask" in bases:
        return "; a task goes to --task or rulekeep check-task"
    if "torch.nn.modules.module.Module" in bases:
        return "; a mixer goes to --mixer or rulekeep check"
    return ""


def find_function(name: str, catalogue: Mapping[str, object], default: str) -> Callable[..., Any]:
    """The function of `FILE.py` (named `default`) or `FILE.py:function`.

    Raises:
        UsageError: there is none.
    """
    place, _, attribute = (f"{name}:{default}" if name.endswith(".py") else name).rpartition(":")
    if not place:
        raise UsageError(f"{default} {name!r}: {choose(name, catalogue)}, or name a FILE.py")
    module = _module(place, name, default)
    found = getattr(module, attribute, None)
    if not callable(found):
        functions = {k: v for k, v in vars(module).items() if inspect.isfunction(v)}
        known = choose(attribute, functions) if functions else f"write def {attribute}():"
        raise UsageError(f"{default} {name!r}: {place} has no function {attribute}; {known}")
    if isinstance(found, type):
        raise UsageError(
            f"{default} {name!r}: is a class; of one of your own: "
            f"rulekeep sweep quick --mixers {name}"
        )
    function: Callable[..., Any] = found
    return function


def plugin_file(name: str) -> Path | None:
    """The file that `file.py:Class` or `module:Class` names; None for one of the catalogue.

    Raises:
        UsageError: there is no such file or module.
    """
    place, colon, _ = name.rpartition(":")
    if not colon:
        return None
    origin = _module(place, name, "class").__file__
    if origin is None:
        raise UsageError(f"{name!r}: {place} is not a module with a file of its own")
    return Path(origin)


def nearest(name: str, names: Mapping[str, object] | list[str]) -> str | None:
    """The most similar of the known names, if one is similar."""
    close = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return close[0] if close else None


def failure_line(error: BaseException) -> str:
    """The last line of an exception, and its place in the user's code."""
    last = traceback.format_exception_only(error)[-1]
    if isinstance(error, ValidationError):
        # Its last line is the address of a page about it.
        first = error.errors(include_url=False)[0]
        last = ": ".join([error.title, ".".join(map(str, first["loc"])), first["msg"]])
    last = " ".join(last.split())[:400]
    return f"{last}{failure_place(error)}"


def failure_place(error: BaseException) -> str:
    """The place in the user's code that an exception came from, in brackets; nothing if in ours."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f" ({Path(error.filename).name}, line {error.lineno})"
    every = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in every if not _is_foreign(frame.filename)] or every
    # Where the last line is ours, we have called what cannot be called so: the message names it.
    if not frames or Path(frames[-1].filename).is_relative_to(_ROOT):
        return ""
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _is_foreign(file: str) -> bool:
    """Whether a file is of Python's import system, torch or pydantic, called by a user's code."""
    path = Path(file)
    called = not {"torch", "pydantic"}.isdisjoint(path.parts) and is_installed(path)
    return file.startswith("<frozen") or called


def choose(name: str, names: Mapping[str, object]) -> str:
    """The hint for an unknown name: the most similar one, and all there are."""
    near = nearest(name, names)
    known = f"choose from {', '.join(names)}"
    return f"did you mean {near}? {known}" if near else known


def _module(place: str, name: str, kind: str) -> ModuleType:
    is_file = place.endswith(".py") or "/" in place
    return (_from_file if is_file else _from_module)(place, name, kind)


def _from_file(place: str, name: str, kind: str) -> ModuleType:
    path = Path(place)
    if not path.is_file():
        here = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise UsageError(f"{kind} {name!r}: there is no file {place}{here}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{kind} {name!r}: {place}: {error.strerror}") from None
    # Named after the whole path and the text: two files of one name are two modules, and so is one
    # that was edited in the meantime.
    key = hashlib.sha256(os.fsencode(path.resolve()) + b"\0" + content).hexdigest()[:8]
    module_name = f"{path.stem.replace('-', '_')}_{key}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{kind} {name!r}: {place} is not a Python file (….py)")
    try:
        return executed(spec)
    except KeyboardInterrupt:
        raise
    # Whatever the user's file raises, an early exit included, is the user's to read in one line.
    except BaseException as error:
        raise UsageError(f"{kind} {name!r}: {failure_line(error)}{_beside(path, error)}") from None


def executed(spec: ModuleSpec) -> ModuleType:
    """The module of a file, which is run; whatever it raises is raised, and no module is left."""
    assert spec.loader is not None, spec
    module = importlib.util.module_from_spec(spec)
    # Found there by what looks a class's module up, such as dataclasses, pydantic and pickle.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _beside(path: Path, error: BaseException) -> str:
    """How a file can import what stands beside it, if that is missing."""
    if not isinstance(error, ImportError):
        return ""
    if "relative import" in str(error):
        return f"; write from NAME import …, and set PYTHONPATH={path.parent}"
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        # It was found, and lacks what was asked of it.
        return ""
    top = error.name.partition(".")[0]
    if top in sys.modules:
        # So was its package.
        return ""
    package = path.parent / top
    beside = next((one for one in (package.with_suffix(".py"), package) if one.exists()), None)
    return f"; {beside.name} stands beside it: set PYTHONPATH={path.parent}" if beside else ""


def _from_module(place: str, name: str, kind: str) -> ModuleType:
    if not all(part.isidentifier() for part in place.split(".")):
        raise UsageError(f"{kind} {name!r}: must be file.py:Class or module:Class")
    if place in sys.modules:
        return sys.modules[place]
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if not place.startswith(f"{error.name}"):
            raise UsageError(f"{kind} {name!r}: {failure_line(error)}") from None
        raise UsageError(
            f"{kind} {name!r}: there is no module {error.name}; a file is named as file.py:Class"
        ) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UsageError(f"{kind} {name!r}: {failure_line(error)}") from None

"""One way from a name to a class or a function: of this package, of a module, or of a file.

    MIXERS = Registry("mixer", "rulekeep.mixers", {"delta": "Delta"}, base="torch.nn.Module")
    MIXERS["delta"]                 imports rulekeep.mixers.delta
    "delta" in MIXERS, [*MIXERS]    import nothing
    MIXERS.find("delta")            or my_package.module:Mine, or my_file.py:Mine
    MIXERS.about("delta")           the docstring of its file, which is not run
    options_of(kind)                the options of a class as a spec, from its signature
    version_of(name, kind)          what its id counts it by

A class that no other process can import, such as one of a notebook, gets a name here
(`Registry.name_of`), by which this process alone finds it.

What cannot be loaded is a `UsageError` of one line. This module loads no torch.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, final

from pydantic import ValidationError, create_model

from rulekeep.records.identity import (
    class_digest,
    content_digest,
    is_installed,
    source_digest,
)
from rulekeep.specs import Option, Spec, UsageError, choose

_T = TypeVar("_T")
_ROOT = Path(__file__).parent
_STANDARD = Path(os.__file__).parent
# Files that were loaded here, by the name of their module.
_FILES: dict[str, Path] = {}
# Classes that this process alone has, by the name that specs give them.
_HELD: dict[str, type[Any]] = {}


@final
class Registry(Mapping[str, type[_T]]):
    """The classes of one kind: those of a package by name, and any of a user's by its place.

    A name is the name of the module in which its class is defined. `base` is what a class from
    outside derives from, `needs` what it must have beside that, each with a hint.
    """

    def __init__(
        self, kind: str, package: str, classes: Mapping[str, str], *,
        base: str, needs: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.kind = kind
        self._package = package
        self._classes = dict(classes)
        self._base = base
        self._needs = needs or {}

    def __getitem__(self, name: str) -> type[_T]:
        found: type[_T] = getattr(importlib.import_module(self.module(name)), self._classes[name])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def __contains__(self, name: object) -> bool:
        return name in self._classes

    def module(self, name: str) -> str:
        """The module of a name; it is not imported."""
        if name not in self:
            raise KeyError(name)
        return f"{self._package}.{name}"

    def find(self, name: str) -> type[_T]:
        """The class that a name stands for.

        Raises:
            UsageError: there is none, or it is none of this kind.
        """
        if name in self:
            return self[name]
        what = f"{self.kind} {name!r}"
        if ":" not in name:
            fix = "name a class of your own as file.py:Class or module:Class"
            raise UsageError(f"{what}: {choose(name, self)}, or {fix}")
        found: Any = held_class(name)
        if found is None:
            place, _, class_name = name.rpartition(":")
            module = _load(place, what)
            found = getattr(module, class_name, None)
            if found is None:
                own = [k for k, v in vars(module).items() if isinstance(v, type)]
                raise UsageError(f"{what}: {place} has no {class_name}; {choose(class_name, own)}")
        package, _, base = self._base.rpartition(".")
        if not (
            isinstance(found, type)
            and issubclass(found, getattr(importlib.import_module(package), base))
        ):
            raise UsageError(f"{what}: is not a subclass of {self._base}")
        if missing := ", ".join(sorted(getattr(found, "__abstractmethods__", ()))):
            raise UsageError(f"{what}: does not define {missing}")
        for need, hint in self._needs.items():
            if not hasattr(found, need):
                raise UsageError(f"{what}: define {need}; {hint}")
        return found

    def name_of(self, kind: type[Any]) -> str:
        """The name by which a spec can ask for a class, and `find` finds it.

        A class that another process cannot import, for example of a notebook or `__main__`, is held
        in this one.
        """
        module, name = kind.__module__, kind.__qualname__
        for known, class_name in self._classes.items():
            if (self.module(known), class_name) == (module, name):
                return known
        named = f"{_FILES.get(module, module)}:{name}"
        here = sys.modules.get(module)
        is_in_a_file = module != "__main__" and getattr(here, "__file__", None) is not None
        if not (is_in_a_file and getattr(here, name, None) is kind):
            _HELD[named] = kind
        return named

    def about(self, name: str) -> str:
        """The docstring of a name's module; it is not imported."""
        loader: Any = getattr(importlib.util.find_spec(self.module(name)), "loader", None)
        return ast.get_docstring(ast.parse(loader.get_source(self.module(name)) or "")) or ""

    def public(self, name: str, others: Mapping[str, str]) -> Any:
        """A public name of the package: a class of the registry, or of `others` by its module."""
        places = {kind: module for module, kind in self._classes.items()} | dict(others)
        if name not in places:
            raise AttributeError(f"module {self._package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{self._package}.{places[name]}"), name)


def options_of(kind: type[Any]) -> type[Spec]:
    """The options of a class as a spec: what its constructor takes after its first argument.

    The signature is the specification: another name is an error, and so is a value of another type.
    `serial` is left out: it chooses how to compute, not what.

    Raises:
        UsageError: an annotation names no type that an option can have.
    """
    try:
        fields: dict[str, Any] = {}
        for name, parameter in parameters_of(kind).items():
            if name != "serial":
                annotation = parameter.annotation
                if annotation in (parameter.empty, Any):
                    annotation = Option
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[name] = (annotation, default)
        return create_model(f"{kind.__name__}Options", __base__=Spec, **fields)
    except Exception as error:
        raise UsageError(f"{kind.__name__}: its options cannot be: {failure_line(error)}") from None


def parameters_of(kind: type[Any]) -> dict[str, inspect.Parameter]:
    """What a constructor takes by name after its first argument, and where it has a `**` those
    that it passes on to its bases.
    """
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if constructor := vars(base).get("__init__"):
            own = [*inspect.signature(constructor, eval_str=True).parameters.values()][2:]
            named = [p for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
            found = {**{p.name: p for p in named}, **found}
            if not any(p.kind is p.VAR_KEYWORD for p in own):
                break
    return found


def make(what: str, kind: Callable[..., _T], *values: Any) -> _T:
    """What a class of a user makes of these values; `what` asks for it."""
    try:
        return kind(*values)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{what}: {' '.join(str(error).split())}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"{what}: {failure_line(error)}") from error


def find_function(name: str, known: Iterable[str], default: str) -> Callable[..., Any]:
    """The function of `FILE.py` (named `default`) or `FILE.py:function`; of `known` a hint."""
    what = f"{default} {name!r}"
    place, _, attribute = (f"{name}:{default}" if name.endswith(".py") else name).rpartition(":")
    if not place:
        raise UsageError(f"{what}: {choose(name, known)}, or name a FILE.py")
    module = _load(place, what)
    found = getattr(module, attribute, None)
    if isinstance(found, type) or not callable(found):
        own = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        hint = choose(attribute, own) if own else f"write def {attribute}():"
        raise UsageError(f"{what}: {place} has no function {attribute}; {hint}")
    function: Callable[..., Any] = found
    return function


def held_class(name: str) -> type[Any] | None:
    """The class of this name that only this process has; None if any process can import it."""
    place, _, kind = name.rpartition(":")
    if place == "__main__" and name not in _HELD:
        found = getattr(sys.modules[place], kind, None)
        return found if isinstance(found, type) else None
    return _HELD.get(name)


def is_outside(name: str) -> bool:
    """Whether a name is of no registry: `file.py:Class` or `module:Class`."""
    return ":" in name


def plugin_file(name: str) -> Path | None:
    """The file that `file.py:Class` or `module:Class` names; None for one of the package."""
    place, colon, _ = name.rpartition(":")
    if not colon:
        return None
    origin = _load(place, f"class {name!r}").__file__
    assert origin is not None, f"{name}: its module has a file"
    return Path(origin)


def version_of(name: str, kind: type[Any]) -> int | str:
    """The declared version of a class; for a plug-in without one, a digest of its own files.

    Raises:
        UsageError: it is no whole number, or the text of a class without a file is unknown.
    """
    declared = vars(kind).get("version") if is_outside(name) else kind.version
    if isinstance(declared, int) and not isinstance(declared, bool):
        return declared
    if declared is not None:
        raise UsageError(f"{name!r}: its version is {declared!r}; declare a whole number")
    content = _content_of(name)
    assert content is not None, f"{kind} of the package declares no version"
    return content


def source_of(names: Iterable[str]) -> str:
    """A digest of this package, and of the parts of these names that are outside it."""
    return source_digest(filter(None, map(_content_of, dict.fromkeys(names))))


def _content_of(name: str) -> str | None:
    """A digest of a class from outside; None for one of the package."""
    if (kind := held_class(name)) is not None:
        try:
            return class_digest(kind)
        except OSError:
            raise UsageError(
                f"{name!r}: its source text cannot be read here; write it in a file and name "
                f"FILE.py:{kind.__name__}"
            ) from None
    path = plugin_file(name)
    return content_digest(path) if path else None


def _load(place: str, what: str) -> ModuleType:
    """The module of a file or of an importable name; `what` asks for it."""
    is_file = place.endswith(".py") or "/" in place
    if is_file and not Path(place).is_file():
        raise UsageError(f"{what}: there is no file {place} in {Path.cwd()}")
    try:
        return load_file(Path(place)) if is_file else importlib.import_module(place)
    # Whatever the user's file raises, an early exit included, is the user's to read in one line.
    except (Exception, SystemExit) as error:
        fix = "" if is_file else "; a file is named as file.py:Class"
        raise UsageError(f"{what}: {failure_line(error)}{fix}") from None


def load_file(path: Path) -> ModuleType:
    """The module of a file, which is run once, and again where it was edited in the meantime."""
    text = path.read_bytes()
    key = hashlib.sha256(os.fsencode(path.resolve()) + b"\0" + text).hexdigest()[:8]
    name = f"{path.stem.replace('-', '_')}_{key}"
    if name not in sys.modules:
        # What stands beside it is imported as by a script, after all that is installed.
        if (folder := str(path.resolve().parent)) not in sys.path:
            sys.path.append(folder)
        module = ModuleType(name)
        module.__file__ = str(path)
        # Found there by what looks a class's module up, such as dataclasses, pydantic and pickle.
        sys.modules[name] = module
        try:
            # Not by Python's loader, to which an edit of the same second and size is none.
            exec(compile(text, path, "exec", dont_inherit=True), vars(module))
        except BaseException:
            del sys.modules[name]
            raise
        _FILES[name] = path.absolute()
    return sys.modules[name]


def failure_line(error: BaseException) -> str:
    """The last line of an exception, and its place in the user's code."""
    last = traceback.format_exception_only(error)[-1]
    if isinstance(error, ValidationError):
        # Its last line is the address of a page about it.
        first = error.errors(include_url=False)[0]
        last = ": ".join([error.title, ".".join(map(str, first["loc"])), first["msg"]])
    return f"{' '.join(last.split())[:400]}{failure_place(error)}"


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
    path = Path(file)
    return file.startswith("<") or path.is_relative_to(_STANDARD) or is_installed(path)

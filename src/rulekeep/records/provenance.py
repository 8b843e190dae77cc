"""One digest of the source code behind a figure. It is provenance, and part of no id.

It covers every file of this package, as it was when the process began, and the plug-ins.

A plug-in that declares no version gets another hash as its version. It covers its own file and all
that it imports, except installed packages. Comments and docstrings do not count there.
"""

import ast
import hashlib
import inspect
import io
import linecache
import os
import struct
import sys
import sysconfig
import textwrap
import tokenize
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import cache_from_source, resolve_name
from pathlib import Path
from types import CodeType, FunctionType, ModuleType, NoneType, SimpleNamespace
from typing import Any

from rulekeep.specs import UsageError

_ROOT = Path(__file__).parent.parent
_PACKAGE = _ROOT.name
_INSTALLED = {"site-packages", "dist-packages"}
_FOR_TYPES = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
# What a class may use of the module that it stands in.
_PLAIN, _DEFINED = (bool, int, float, complex, str, bytes, NoneType), (FunctionType, type)
_STANDARD = Path(sysconfig.get_path("stdlib"))
# What a compiled file says of its source has 32 bits.
_MOST = 2**32 - 1


def _of_package() -> str:
    total = hashlib.sha256()
    for path in sorted(_ROOT.rglob("*.py")):
        total.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


# As it is loaded: what changes under a long-lived process is not what it runs.
PACKAGE = _of_package()


def digest(files: Iterable[Path] = (), texts: Iterable[str] = ()) -> str:
    """A hash of this package, of these plug-ins, and of classes without a file.

    Raises:
        OSError: a file cannot be read.
    """
    total = hashlib.sha256(PACKAGE.encode())
    for path in plugin_closure(files):
        # As it is now: the process that makes the run imports it anew.
        total.update(path.name.encode() + b"\0" + _code(path.read_bytes()) + b"\0")
    for text in texts:
        total.update(text_digest(text).encode() + b"\0")
    return total.hexdigest()


def text_digest(text: str) -> str:
    """A hash of Python code alone: the version of a class without a file that declares none."""
    return hashlib.sha256(_code(text.encode())).hexdigest()[:12]


def class_text(kind: type[Any]) -> str:
    """The source text of a class, and of what it uses that is defined beside it.

    For a notebook these are bases, functions and classes as text, and numbers, texts, tables and
    objects of these as values. Other objects, such as tensors, do not count. What it uses of files
    outside packages counts with all that these import, as for a plug-in.

    Raises:
        OSError: there is no text, for example because it was typed at a prompt.
        UsageError: an imported file was changed since.
    """
    module = kind.__module__
    beside = vars(sys.modules[module])
    texts: dict[str, str] = {}
    imported = {base.__module__ for base in kind.__mro__}
    held = set[int]()
    waiting: list[tuple[str, Any]] = [(kind.__qualname__, kind)]
    while waiting:
        name, one = waiting.pop()
        if name in texts:
            continue
        try:
            value = _value(one, module)
        # Objects that hold each other.
        except RecursionError:
            value = None
        if value is not None:
            texts[name] = f"{name} = {value}"
        # A class inherits the mark of a base that is wrapped.
        elif not isinstance(one, type | ModuleType):
            one = inspect.unwrap(one)
        if getattr(one, "__module__", None) != module:
            imported.add(_module_name(one))
        elif value is None and isinstance(one, _DEFINED):
            texts[name] = _definition(one)
            tree = ast.parse(texts[name])
            nodes = [*ast.walk(tree)]
            used = {node.id for node in nodes if isinstance(node, ast.Name)}
            waiting += [(key, beside[key]) for key in sorted(used) if key in beside]
            parts = [(f"{name}.{key}", part) for key, part in _held(one) if id(part) not in held]
            held |= {id(part) for _, part in parts}
            waiting += parts
            # `package.part` is of another file than `package`.
            imported |= {_module_name(_module_of(node, beside)) for node in nodes}
            imported |= {*_imports(texts[name].encode(), beside.get("__package__"))}
    files = [file for name in sorted(imported - {module, ""}) for file in _own_files(name)]
    lines = [texts[name] for name in sorted(texts)]
    if files:
        closure = plugin_closure(files)
        _check_as_imported(closure)
        lines.append(f"files = {_digest(closure)!r}")
    return "\n".join(lines)


def _module_name(one: Any) -> str:
    name = one.__name__ if isinstance(one, ModuleType) else getattr(one, "__module__", None)
    return name if isinstance(name, str) else ""


def _module_of(node: ast.AST, beside: dict[str, Any]) -> ModuleType | None:
    """The module that an expression names, such as `package.part`."""
    found = None
    if isinstance(node, ast.Name):
        found = beside.get(node.id)
    elif isinstance(node, ast.Attribute):
        found = getattr(_module_of(node.value, beside), node.attr, None)
    return found if isinstance(found, ModuleType) else None


def _value(one: Any, module: str) -> str | None:
    """A value as text that is the same in every process; None if it has no such text."""
    if isinstance(one, _PLAIN):
        return repr(one)
    if isinstance(one, SimpleNamespace) or (
        isinstance(getattr(one, "__dict__", None), dict)
        and (type(one).__module__ == module or any(_own_files(type(one).__module__)))
    ):
        return _value(vars(one), module)
    if isinstance(one, dict):
        one = [*one.items()]
    if not isinstance(one, tuple | list | set | frozenset):
        return None
    parts = [_value(part, module) for part in one]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    # The order of a set differs from process to process.
    return f"[{', '.join(sorted(known) if isinstance(one, set | frozenset) else known)}]"


def _definition(one: Any) -> str:
    """The text of a function or a class, with its decorators.

    Raises:
        OSError: there is none.
    """
    codes = [code for code in _codes(one) if not _is_foreign(code)]
    for code in codes:
        # `inspect` does not find the class of a notebook, whose module has no file.
        lines = linecache.getlines(code.co_filename)
        text, name = "".join(lines), one.__name__ if isinstance(one, type) else code.co_name
        nodes = [*ast.walk(ast.parse(text))]
        for node in nodes:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                first, last = _rows(node)
                if first <= code.co_firstlineno <= last:
                    return _dedented(lines, node)
        # All of its line: which of them it is cannot be told.
        said = [
            f"({ast.get_source_segment(text, node)})"
            for node in nodes
            if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno
        ]
        if name == "<lambda>" and said:
            return "\n".join(said)
    if not codes and isinstance(one, type):
        return _without_code(one)
    raise OSError(f"{one.__name__}: no source text")


def _without_code(one: type[Any]) -> str:
    """The text of a class that defines no function, such as a NamedTuple; the last of its name.

    Raises:
        OSError: there is none.
    """
    file = getattr(sys.modules[one.__module__], "__file__", None)
    # A notebook's cells stand there in their order, without a time of change.
    cells = [key for key, entry in linecache.cache.items() if len(entry) > 1 and entry[1] is None]
    for place in [file] if file else reversed(cells):
        lines = linecache.getlines(place)
        # Others write there too, and what they write may be no Python.
        with suppress(SyntaxError):
            tree = ast.parse("".join(lines))
            found = [node for name, node in _classes(tree) if name == one.__qualname__]
            if found:
                # Two definitions of one name differ in these at least.
                values = {
                    key: _value(value, one.__module__)
                    for key, value in sorted(vars(one).items())
                    if isinstance(value, (*_PLAIN, tuple)) and not key.startswith("__")
                }
                return f"{_dedented(lines, found[-1])}\nvalues = {values!r}"
    raise OSError(f"{one.__name__}: no source text")


def _classes(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.ClassDef]]:
    """The classes of a text, by their qualified names."""
    for node in ast.iter_child_nodes(tree):
        inside = within
        if isinstance(node, ast.ClassDef):
            yield within + node.name, node
            inside += f"{node.name}."
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside += f"{node.name}.<locals>."
        yield from _classes(node, inside)


def _dedented(lines: list[str], node: ast.ClassDef | ast.FunctionDef) -> str:
    first, last = _rows(node)
    return textwrap.dedent("".join(lines[first - 1 : last]))


def _rows(node: ast.ClassDef | ast.FunctionDef) -> tuple[int, int]:
    """Its first line, of a decorator if it has one, and its last."""
    first = min(part.lineno for part in (node, *node.decorator_list))
    return first, node.end_lineno or node.lineno


def _codes(one: Any) -> Iterator[CodeType]:
    """The code of a function, or of what a class defines."""
    if isinstance(one, FunctionType):
        yield one.__code__
    else:
        for part in vars(one).values():
            part = getattr(part, "fget", None) or getattr(part, "__func__", part)
            part = part if isinstance(part, type) else inspect.unwrap(part)
            if isinstance(part, FunctionType) and part.__qualname__.startswith(
                f"{one.__qualname__}."
            ):
                yield part.__code__


def _held(one: Any) -> Iterator[tuple[str, Any]]:
    """The functions and classes that a function holds, as one of a decorator does."""
    if isinstance(one, FunctionType):
        for key, cell in zip(one.__code__.co_freevars, one.__closure__ or (), strict=True):
            # One that is not filled yet has no content.
            with suppress(ValueError):
                if isinstance(cell.cell_contents, _DEFINED):
                    yield key, cell.cell_contents


def _is_foreign(code: CodeType) -> bool:
    """Whether code is of a package, or is what a dataclass or a NamedTuple gets."""
    made = code.co_filename == "<string>" and code.co_name.startswith(("__", "<lambda>"))
    return made or not _is_own(Path(code.co_filename))


def content_digest(file: Path) -> str:
    """A hash of the files of a plug-in: its version, if it declares none.

    Raises:
        OSError: a file cannot be read.
    """
    return _digest(plugin_closure([file]))


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        total.update(path.name.encode() + b"\0" + _code(path.read_bytes()) + b"\0")
    return total.hexdigest()[:12]


def code_of_file(path: Path) -> str:
    """A hash of the code of one file, without its imports; the file is not run.

    Raises:
        OSError: it cannot be read.
        SyntaxError: it is no Python.
    """
    return hashlib.sha256(_code(path.read_bytes())).hexdigest()[:12]


def plugin_closure(files: Iterable[Path]) -> tuple[Path, ...]:
    """Plug-ins with the files that they import from no package.

    A file is found whether it is loaded already or not; nothing is imported.
    """
    found: dict[Path, None] = {}
    waiting = list(files)
    while waiting:
        path = waiting.pop(0)
        if path not in found:
            found[path] = None
            for name in _imports(path.read_bytes(), _package_of(path)):
                waiting += _own_files(name)
    return tuple(found)


def _own_files(name: str) -> Iterator[Path]:
    """The file of an imported module and those of its packages, installed ones excluded."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1) if parts[0] != _PACKAGE else ():
        origin = _origin(".".join(parts[:count]))
        if origin and origin.endswith(".py") and _is_own(Path(origin)):
            yield Path(origin)


def _is_own(path: Path) -> bool:
    return not (path.is_relative_to(_STANDARD) or is_installed(path))


def _origin(name: str) -> str | None:
    """The file of a module."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    # A function may import it later.
    found = _unloaded(name)
    return None if found is None else found.origin


def _unloaded(name: str) -> ModuleSpec | None:
    parent, dot, _ = name.rpartition(".")
    if not dot:
        return PathFinder.find_spec(name)
    if parent in sys.modules:
        places = getattr(sys.modules[parent], "__path__", None)
    else:
        found = _unloaded(parent)
        places = found and found.submodule_search_locations
    return PathFinder.find_spec(name, places) if places else None


def is_installed(path: Path) -> bool:
    """Whether a package manager has installed it."""
    return not _INSTALLED.isdisjoint(path.parts)


@cache
def _imports(content: bytes, package: str | None = None) -> tuple[str, ...]:
    """What a module imports, at its top or later; relative imports count in a known package."""
    names = []
    for node in _statements(ast.parse(content).body):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            base = resolve_name("." * node.level + (node.module or ""), package)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every statement that a module may run."""
    for node in body:
        yield node
        inside = ast.iter_child_nodes(node)
        if isinstance(node, ast.If) and ast.unparse(node.test) in _FOR_TYPES:
            # For who reads the types: nothing is imported.
            inside = iter(node.orelse)
        yield from _statements(one for one in inside if not isinstance(one, ast.expr))


def _loaded(path: Path) -> ModuleType | None:
    """The imported module of a file."""
    every = list(sys.modules.values())
    return next((one for one in every if getattr(one, "__file__", None) == str(path)), None)


def _package_of(path: Path) -> str | None:
    """The package of an imported module; none for a single file."""
    module = _loaded(path)
    return (module and module.__package__) or None


def _check_as_imported(files: Iterable[Path]) -> None:
    """Check that files are what this process imported, as far as their compiled copies tell.

    Raises:
        UsageError: one was changed since.
    """
    for path in files:
        compiled = Path(cache_from_source(str(path)))
        if sys.dont_write_bytecode or not os.access(compiled, os.W_OK) or not _loaded(path):
            continue
        # A mark, flags, and the time and the size of the source: PEP 552.
        _, flags, time, size = struct.unpack("<4I", compiled.read_bytes()[:16])
        about = path.stat()
        if flags == 0 and (time, size) != (int(about.st_mtime) & _MOST, about.st_size & _MOST):
            raise UsageError(
                f"{path}: was changed after it was imported; restart the notebook or the script"
            )


@cache
def _code(content: bytes) -> bytes:
    """A file without its comments, docstrings and blank lines.

    They are cut from the text, so every version of Python gives the same.
    """
    # As Python reads it: some editors write a mark first, and some files say what they are in.
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    text = content.decode(encoding)
    tree = ast.parse(text)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    # As the tokenizer counts them: other separators stand inside a line.
    lines = dict(enumerate(text.split("\n"), start=1))
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row] = lines[row][:column]
    for row in _docstring_rows(tree):
        del lines[row]
    inside = _string_rows(tree)
    kept = [line if row in inside else line.rstrip() for row, line in lines.items()]
    blank = [row not in inside and not line.strip() for row, line in lines.items()]
    return "\n".join(line for line, gone in zip(kept, blank, strict=True) if not gone).encode()


def _docstring_rows(tree: ast.Module) -> Iterator[int]:
    """Lines of docstrings; a line shared with code counts as code."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            text, *after = node.body
            last = text.end_lineno or text.lineno
            above = 0 if isinstance(node, ast.Module) else node.lineno
            if above < text.lineno and (not after or last < after[0].lineno):
                yield from range(text.lineno, last + 1)


def _string_rows(tree: ast.Module) -> frozenset[int]:
    """Lines that end inside a string: blank ones belong to a value."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
        ):
            found.update(range(node.lineno, node.end_lineno or node.lineno))
    return frozenset(found)

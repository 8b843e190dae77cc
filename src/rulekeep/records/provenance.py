"""One digest of the source code behind a figure. It is provenance, and part of no id.

It covers every file of this package, as it was when the process began, and the plug-ins.

A plug-in that declares no version gets another hash as its version. It covers its own file and all
that it imports, except installed packages. Comments and docstrings do not count there.
"""

import ast
import hashlib
import io
import linecache
import sys
import sysconfig
import textwrap
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from pathlib import Path
from types import CodeType, FunctionType, NoneType, SimpleNamespace
from typing import Any

_ROOT = Path(__file__).parent.parent
_PACKAGE = _ROOT.name
_INSTALLED = {"site-packages", "dist-packages"}
_FOR_TYPES = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
# What a class may use of the module that it stands in.
_PLAIN, _DEFINED = (bool, int, float, complex, str, bytes, NoneType), (FunctionType, type)
_STANDARD = Path(sysconfig.get_path("stdlib"))


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
    objects of these as values. Other objects, such as tensors, do not count.

    Raises:
        OSError: there is no text, for example because it was typed at a prompt.
    """
    beside = vars(sys.modules[kind.__module__])
    texts: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [(kind.__qualname__, kind)]
    while waiting:
        name, one = waiting.pop()
        if name in texts:
            continue
        try:
            value = _value(one, kind.__module__)
        # Objects that hold each other.
        except RecursionError:
            value = None
        if value is not None:
            texts[name] = f"{name} = {value}"
        elif getattr(one, "__module__", None) == kind.__module__ and isinstance(one, _DEFINED):
            texts[name] = _definition(one)
            tree = ast.parse(texts[name])
            used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            waiting += [(key, beside[key]) for key in sorted(used) if key in beside]
    return "\n".join(texts[name] for name in sorted(texts))


def _value(one: Any, module: str) -> str | None:
    """A value as text that is the same in every process; None if it has no such text."""
    if isinstance(one, _PLAIN):
        return repr(one)
    if isinstance(one, SimpleNamespace) or (
        type(one).__module__ == module and isinstance(getattr(one, "__dict__", None), dict)
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
    """The text of a function or a class.

    Raises:
        OSError: there is none.
    """
    code = next((code for code in _codes(one)), None)
    lines = [] if code is None else linecache.getlines(code.co_filename)
    for node in ast.walk(ast.parse("".join(lines))):
        # `inspect` does not find the class of a notebook, whose module has no file.
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == one.__name__:
            last = node.end_lineno or node.lineno
            if code and node.lineno <= code.co_firstlineno <= last:
                return textwrap.dedent("".join(lines[node.lineno - 1 : last]))
    raise OSError(f"{one.__name__}: no source text")


def _codes(one: Any) -> Iterator[CodeType]:
    if isinstance(one, FunctionType):
        yield one.__code__
    else:
        for part in vars(one).values():
            part = getattr(part, "fget", None) or getattr(part, "__func__", part)
            if isinstance(part, FunctionType) and part.__qualname__.startswith(one.__qualname__):
                yield part.__code__


def content_digest(file: Path) -> str:
    """A hash of the files of a plug-in: its version, if it declares none.

    Raises:
        OSError: a file cannot be read.
    """
    total = hashlib.sha256()
    for path in plugin_closure([file]):
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
                if name.partition(".")[0] != _PACKAGE:
                    waiting += _own_files(name)
    return tuple(found)


def _own_files(name: str) -> Iterator[Path]:
    """The file of an imported module and those of its packages, installed ones excluded."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        origin = _origin(".".join(parts[:count]))
        if origin and origin.endswith(".py"):
            place = Path(origin)
            if not (place.is_relative_to(_STANDARD) or is_installed(place)):
                yield place


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


def _package_of(path: Path) -> str | None:
    """The package of an imported module; none for a single file."""
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(path):
            return module.__package__ or None
    return None


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

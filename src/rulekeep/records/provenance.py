"""One digest of the source code behind a figure. It is provenance, and part of no id.

It covers every file of this package, as it was when the process began, and the plug-ins.

A plug-in that declares no version gets another hash as its version: of its own file, and of what it
imports from its own folder or package. A class of a notebook counts by the text of its functions.
"""

import ast
import hashlib
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

_ROOT = Path(__file__).parent.parent
_INSTALLED = {"site-packages", "dist-packages"}
_PLAIN = (bool, int, float, str)


def _of_package() -> str:
    total = hashlib.sha256()
    for path in sorted(_ROOT.rglob("*.py")):
        total.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


# As it is loaded: what changes under a long-lived process is not what it runs.
PACKAGE = _of_package()


def digest(files: Iterable[Path] = (), texts: Iterable[str] = ()) -> str:
    """A hash of this package, of these plug-ins, and of classes without a file."""
    total = hashlib.sha256(PACKAGE.encode())
    # As it is now: the process that makes the run imports it anew.
    for path in files:
        total.update(content_digest(path).encode())
    for text in texts:
        total.update(text_digest(text).encode())
    return total.hexdigest()


def text_digest(text: str) -> str:
    """A hash of a text: the version of a class without a file that declares none."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def class_text(kind: type[Any]) -> str:
    """The text of what a class without a file defines, and its bases beside it.

    It has functions and plain values. What these use of the notebook does not count: a class that
    hangs on more declares a version.
    """
    texts = list[str]()
    for base in kind.__mro__:
        for name, value in vars(base).items() if base.__module__ == kind.__module__ else ():
            inside = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(inside, FunctionType):
                texts.append(inspect.getsource(inside))
            elif isinstance(inside, _PLAIN) and not name.startswith("__"):
                texts.append(f"{name} = {inside!r}")
    return "\n".join(texts)


def content_digest(file: Path) -> str:
    """A hash of the files of a plug-in: its version, if it declares none."""
    total = hashlib.sha256()
    for path in plugin_closure([file]):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def code_of_file(path: Path) -> str:
    """A hash of one file, without its imports; the file is not run."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def plugin_closure(files: Iterable[Path]) -> tuple[Path, ...]:
    """Plug-ins with the files that they import from their own folder or package."""
    found: dict[Path, None] = {}
    waiting = list(files)
    while waiting:
        path = waiting.pop(0)
        if path not in found:
            found[path] = None
            waiting += _imported_files(path)
    return tuple(found)


def _imported_files(path: Path) -> Iterator[Path]:
    package = path.parent
    while (package / "__init__.py").exists():
        package = package.parent
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names, places = [alias.name for alias in node.names], [path.parent, package]
        elif isinstance(node, ast.ImportFrom):
            above = [path.parent, *path.parent.parents][max(0, node.level - 1)]
            places = [above] if node.level else [path.parent, package]
            base = f"{node.module}." if node.module else ""
            names = [base + alias.name for alias in node.names]
        else:
            continue
        for place in dict.fromkeys(places):
            for name in names:
                parts = name.split(".")
                for count in range(1, len(parts) + 1):
                    module = place.joinpath(*parts[:count])
                    for file in (module.with_suffix(".py"), module / "__init__.py"):
                        if file.is_file() and not is_installed(file):
                            yield file


def is_installed(path: Path) -> bool:
    """Whether a package manager has installed it."""
    return not _INSTALLED.isdisjoint(path.parts)

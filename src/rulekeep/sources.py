"""The source code that a figure comes out of, as one digest.

The code of a module is its file and, in turn, every file of this package that it imports at
its top: what is added beside it changes nothing. What only finds, checks or keeps things is
left out, and so is what a function imports when it is called: it makes a choice, and the choice
stands in the spec. A plug-in counts with its own file.

    >>> digest(("rulekeep.training",), ())      # doctest: +SKIP
    '5d1c…'
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent
_PACKAGE = _ROOT.name
# They carry values into a run and records out of it, and no figure comes out of them.
_CARRIERS = {"specs", "shapes", "sources", "registry", "store", "checkpoints"}


def digest(modules: Iterable[str], files: Iterable[Path]) -> str:
    """A hash of these modules, of all that they import from this package, and of these files.

    Raises:
        OSError: a file cannot be read.
    """
    total = hashlib.sha256()
    for path in sorted(closure(tuple(modules))):
        total.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + _content(path) + b"\0")
    for path in files:
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


@cache
def closure(modules: tuple[str, ...]) -> frozenset[Path]:
    """The files of these modules and of all that they import from this package."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        path = _file(waiting.pop())
        if path is not None and path not in found:
            found.add(path)
            waiting += _imports(path)
    return frozenset(found)


def _file(module: str) -> Path | None:
    if module.partition(".")[0] != _PACKAGE:
        return None
    parts = module.split(".")[1:]
    if not parts or parts[0] in _CARRIERS:
        return None
    place = _ROOT.joinpath(*parts)
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _imports(path: Path) -> tuple[str, ...]:
    names = []
    for node in ast.parse(_content(path)).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


@cache
def _content(path: Path) -> bytes:
    # Read once: what a long-lived process has imported is what it found at its start.
    return path.read_bytes()

"""The id of a run, a hash of what was asked for and of declared versions; its source; checksums.

    id = hash(kind, spec without default values, {protocol, task, mixers: version})

A version is a class variable of a task or a mixer; each kind of spec has one too, its protocol. It
goes up when figures change, which tests/goldens detect. A plug-in that declares none counts by the
content of its own file, and of what that imports from its own folder or package.

The source is provenance, as commit, torch and processor are: the record keeps it, and it is no part
of the id. It covers every file of this package, as it was when the process began, and the plug-ins.
"""

import ast
import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any, Generic, TypeAlias, TypeVar

from rulekeep.specs import AnySpec

# By name, the protocol first: a declared number, or a digest of a plug-in's own files.
Versions: TypeAlias = Mapping[str, int | str]
PROTOCOL = "protocol"
_DIGITS = 16
_Spec = TypeVar("_Spec", bound=AnySpec)
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Identified(Generic[_Spec]):
    """A spec that can be run; each kind adds the parts that its run needs.

    `spec` has every option filled in. `asked` is the spec as JSON has it, without default values.
    `source` is a digest of the code. `notes` say what a user should know before it runs.
    """

    spec: _Spec
    asked: dict[str, Any]
    versions: Versions
    source: str
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def id(self) -> str:
        return identify(self.spec.kind, self.asked, self.versions)


def identify(kind: str, asked: Mapping[str, Any], versions: Versions) -> str:
    """The id of a run; `asked` is its spec as JSON has it, without default values."""
    whole = {"kind": kind, "spec": dict(asked), "versions": dict(versions)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def differing(recorded: Versions, here: Versions) -> str:
    """Each version that is another here, as `delta 1 (here 2)`; nothing if none is."""
    return ", ".join(
        f"{name} {recorded.get(name, 'none')} (here {version})"
        for name, version in here.items()
        if recorded.get(name) != version
    )


def _of_package() -> str:
    total = hashlib.sha256()
    for path in sorted(_ROOT.rglob("*.py")):
        total.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


# As it is loaded: what changes under a long-lived process is not what it runs.
PACKAGE = _of_package()


def source_digest(plugins: Iterable[str] = ()) -> str:
    """A hash of this package, and of plug-ins by the digests of their content."""
    return hashlib.sha256("".join([PACKAGE, *plugins]).encode()).hexdigest()


def class_digest(kind: type[Any]) -> str:
    """A hash of a class without a file: the text of its functions, and its plain values.

    Its bases beside it count. What these use of the notebook does not: a class that hangs on more
    declares a version.
    """
    texts = list[str]()
    for base in kind.__mro__:
        for name, value in vars(base).items() if base.__module__ == kind.__module__ else ():
            inside = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(inside, FunctionType):
                texts.append(inspect.getsource(inside))
            elif isinstance(inside, (bool, int, float, str)) and not name.startswith("__"):
                texts.append(f"{name} = {inside!r}")
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def content_digest(file: Path) -> str:
    """A hash of the files of a plug-in: its version, if it declares none."""
    total = hashlib.sha256()
    for path in plugin_closure(file):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def code_of_file(path: Path) -> str:
    """A hash of one file, without its imports; the file is not run."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def plugin_closure(file: Path) -> tuple[Path, ...]:
    """A plug-in with the files that it imports from its own folder or package."""
    found, waiting = dict[Path, None](), [file]
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
        places = [path.parent, package]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                places = [[path.parent, *path.parent.parents][node.level - 1]]
            base = f"{node.module}." if node.module else ""
            names = [base + alias.name for alias in node.names]
        else:
            continue
        for place in dict.fromkeys(places):
            for parts in (name.split(".") for name in names):
                for count in range(1, len(parts) + 1):
                    module = place.joinpath(*parts[:count])
                    for each in (module.with_suffix(".py"), module / "__init__.py"):
                        if each.is_file() and not is_installed(each):
                            yield each


def is_installed(path: Path) -> bool:
    """Whether a package manager has installed it."""
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts)

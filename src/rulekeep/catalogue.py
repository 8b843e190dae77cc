"""A catalogue: names to classes, which are imported when they are asked for.

    MIXERS = Catalogue("rulekeep.mixers", {"delta": "Delta"})
    MIXERS["delta"]                # imports rulekeep.mixers.delta
    "delta" in MIXERS, [*MIXERS]   # imports nothing
    MIXERS.about("delta")          # the module's docstring; the module is not run
    MIXERS.defaults("delta")       # its options and their default values; likewise

A name is the name of the module in which its class is defined.
"""

import ast
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, final

_T = TypeVar("_T")


@final
class Catalogue(Mapping[str, type[_T]]):
    """The classes of a package by name."""

    def __init__(self, package: str, classes: Mapping[str, str]) -> None:
        self._package = package
        self._classes = dict(classes)

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
        """The module of a name; it is not imported.

        Raises:
            KeyError: there is no such name.
        """
        if name not in self:
            raise KeyError(name)
        return f"{self._package}.{name}"

    def about(self, name: str) -> str:
        """The docstring of a name's module; it is not imported."""
        return ast.get_docstring(self._source(name)) or ""

    def defaults(self, name: str) -> dict[str, Any]:
        """The options of a name's class with their default values; nothing is imported."""
        (found,) = (
            node
            for node in self._source(name).body
            if isinstance(node, ast.ClassDef) and node.name == self._classes[name]
        )
        return keyword_defaults(found)

    def _source(self, name: str) -> ast.Module:
        module = self.module(name)
        loader: Any = getattr(importlib.util.find_spec(module), "loader", None)
        return ast.parse(loader.get_source(module) or "")

    def public(self, name: str, others: Mapping[str, str]) -> Any:
        """A public name of the package: a class of the catalogue, or of `others` by its module.

        Raises:
            AttributeError: there is no such name.
        """
        places = {kind: module for module, kind in self._classes.items()} | dict(others)
        if name not in places:
            raise AttributeError(f"module {self._package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{self._package}.{places[name]}"), name)


def keyword_defaults(found: ast.ClassDef) -> dict[str, Any]:
    """The keyword-only parameters of a class's constructor that have a default, with their values.

    Raises:
        ValueError: the class has no constructor of its own, or a default is no literal.
    """
    for node in found.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            named = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            return {one.arg: ast.literal_eval(value) for one, value in named if value is not None}
    raise ValueError(f"{found.name} has no constructor of its own")

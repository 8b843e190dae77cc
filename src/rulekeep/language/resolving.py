"""A cell of rules in words made whole: its families and its model found, its versions declared.

No torch is loaded, and no model.
"""

import hashlib
import inspect
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rulekeep.language.chat import converse
from rulekeep.language.declared import check_declared
from rulekeep.language.families import Families, digest_of, digest_of_checks, read_families
from rulekeep.language.recorded import Recorded, read_chat
from rulekeep.language.texts import find_compactor
from rulekeep.plugins import find_function
from rulekeep.records import provenance
from rulekeep.records.identity import PROTOCOL, Identified
from rulekeep.specs import UsageError
from rulekeep.specs.language import COMPACTORS, EVICTIONS, Compression, LanguageSpec

_WEIGHTS = (".safetensors", ".bin", ".gguf")
_READ = (*_WEIGHTS, ".json", ".jinja", ".model", ".txt")
# Enough to tell models apart, without reading gigabytes.
_READ_BYTES = 2**20
# What an eviction of the user's may ask for, by name.
_SHOWN = ("keys", "values", "queries", "attention", "layer")


@dataclass(frozen=True)
class ResolvedLanguage(Identified[LanguageSpec]):
    """A cell that can be run, with its families, and what its chat is of if not small talk.

    A model, a file of rules and one of chat count by their content, wherever they stand.
    """

    families: Families
    recorded: Recorded | None
    # Of its compressions, those that drop tokens of the cache, each once.
    evictions: tuple[str, ...]

    def shortens_text(self, one: Compression) -> bool:
        """Whether the model reads a shorter text instead."""
        return one.name in COMPACTORS or (one.is_outside and one.name not in self.evictions)


def check_library(option: str, name: str) -> None:
    """Whether what an option needs is installed, without loading it.

    Raises:
        UsageError: it is not.
    """
    if find_spec(name) is None:
        raise UsageError(f"{option} needs {name}: pip install 'rulekeep[language]'")


def resolve_language(spec: LanguageSpec) -> ResolvedLanguage:
    """Finds the families and the model of a spec; the model is not loaded.

    Raises:
        UsageError: one of them is not there, or cannot be.
    """
    # Before hours of reading: whether what reads is installed.
    option, library = ("--endpoint", "openai") if spec.endpoint else ("--model", "transformers")
    check_library(option, library)
    if not spec.endpoint:
        model_files(Path(spec.model))
        check_declared(Path(spec.model), spec.distance)
    families = read_families(spec.rules)
    if unknown := set(spec.families) - set(families):
        place = spec.rules or "the shipped rules"
        raise UsageError(f"families {', '.join(sorted(unknown))}: not in {place}; see its headings")
    chosen = {name: families[name] for name in spec.families or families}
    # And whether so many can stand together.
    asked_first = converse(chosen, spec.model_copy(update={"distance": 0}), "test", 0, len).asked
    two = [name for name, family in chosen.items() if len(family.options) == 2]
    if spec.replies == "scored" and two and len(asked_first) == spec.rules_at_once:
        # Of two options one is always stated: nothing would say what they score by themselves.
        raise UsageError(
            f"family {two[0]}: has two options, and every prompt states every family; give fewer "
            "--rules-at-once, a third option, or more families"
        )
    asked = spec.model_dump(
        mode="json",
        exclude_defaults=True,
        exclude={"model", "rules", "families", "template", "chat"},
    )
    # A cell that names no family chooses them, and never asks what the rules are: its record is not
    # that of a cell that names the same. Of each pair one is marked, so that published ids stay.
    if len(chosen) == len(families) and bool(spec.families) != bool(spec.rules):
        asked["families"] = "all" if spec.families else "none"
    versions: dict[str, int | str] = {
        PROTOCOL: spec.version,
        "rules": digest_of(chosen),
        "model": f"named {spec.model}" if spec.endpoint else model_digest(Path(spec.model)),
    }
    if spec.replies == "written":
        versions["checks"] = _checked(chosen)
    if spec.template:
        versions["template"] = _template_digest(spec.template)
    evictions = list[str]()
    for text, one in zip(spec.compress, spec.compressions, strict=True):
        if one.name in EVICTIONS or is_eviction(one.name):
            evictions.append(one.name)
        elif one.guard:
            raise UsageError(f"compress {text}: shortens text; leave the guard out")
        if one.is_outside:
            # With its guard, as a report names it.
            versions[text.rpartition("@")[0]] = _outside(one.name)
        if spec.endpoint and one.name in evictions:
            raise UsageError(
                f"compress {text}: an endpoint has no cache to cut; load the model, or "
                "compress the text, as in keep_ends@0.25"
            )
    recorded = read_chat(spec.chat) if spec.chat else None
    if recorded is not None:
        versions["chat"] = recorded.digest
    once = tuple(dict.fromkeys(evictions))
    return ResolvedLanguage(spec, asked, versions, provenance.digest(), chosen, recorded, once)


def _checked(families: Families) -> str:
    """What identifies the checks of written replies.

    Raises:
        UsageError: a family's own reply does not pass its check.
    """
    for name, one in families.items():
        try:
            one.check_finds_replies()
        except ValueError as error:
            raise UsageError(f"family {name}: {error}") from None
    return digest_of_checks(families)


def _template_digest(place: str) -> str:
    try:
        return hashlib.sha256(Path(place).read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise UsageError(f"--template {place}: {error.strerror}; name a Jinja file") from None


def is_eviction(name: str) -> bool:
    """Whether a compression from outside scores the tokens of a cache: its argument `keys` says."""
    return ".py:" in name and "keys" in _parameters(find_function(name, {}, "compact"))


def find_eviction(name: str) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """The function `file.py:function` that scores tokens, and the names of what it takes.

    Of a layer that is any of these:

        keys       [batch, heads, tokens, key width], as they stand in the cache, rotated
        values     [batch, heads, tokens, value width]
        queries    [batch, query heads, tokens, key width], rotated
        attention  [batch, query heads, tokens, tokens], what each token attends to
        layer      its number, counted from 0

    Raises:
        UsageError: there is no such function, or it takes something else.
    """
    function = find_function(name, {}, "compact")
    parameters = _parameters(function)
    for one, parameter in parameters.items():
        if one not in _SHOWN and parameter.default is parameter.empty:
            raise UsageError(
                f"compress {name}: takes {one}; an eviction takes {', '.join(_SHOWN[:-1])} "
                f"or {_SHOWN[-1]}"
            )
    return function, tuple(one for one in parameters if one in _SHOWN)


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except ValueError:
        # One that is not written in Python may not say.
        return {}


def _outside(name: str) -> str:
    """What identifies a compression from outside: the content of its files.

    Those of a command are its program and each file among its words; the words are in the spec.

    Raises:
        UsageError: it is not there, or takes something else.
    """
    if ".py:" in name:
        # Whether it can be called, before hours of reading.
        (find_eviction if is_eviction(name) else find_compactor)(name)
        return provenance.content_digest(Path(name.rpartition(":")[0]))
    try:
        program, *words = shlex.split(name)
    except ValueError as error:
        raise UsageError(f"compress {name}: cannot be read ({error}); close the quote") from None
    if shutil.which(program) is None:
        if "/" not in program or not Path(program).is_file():
            raise UsageError(f"compress {name}: cannot be run: there is no program {program}")
        function = f", or name a function of it, {name}:compact" if name.endswith(".py") else ""
        raise UsageError(f"compress {name}: cannot be run; chmod +x {program}{function}")
    # A program of the system, such as python, counts by its name.
    total = hashlib.sha256(Path(program).read_bytes() if "/" in program else b"")
    for word in words:
        # As in --prompt=FILE too.
        for part in (word, word.partition("=")[2]):
            # A long word is no error here.
            if os.path.isfile(part):  # noqa: PTH113
                total.update(hashlib.sha256(Path(part).read_bytes()).digest())
    return total.hexdigest()[:12]


def model_files(place: Path) -> list[Path]:
    """The files of a model that are read.

    Raises:
        UsageError: there is none.
    """
    if not place.exists():
        raise UsageError(
            f"--model {place}: there is no such folder or file, and nothing is downloaded; "
            "get one first, as in hf download Qwen/Qwen3-0.6B --local-dir qwen"
        )
    if place.is_file() and place.suffix != ".gguf":
        raise UsageError(f"--model {place}: is no .gguf; name the folder, {place.parent}")
    listed = sorted(place.iterdir()) if place.is_dir() else [place]
    found = [path for path in listed if path.suffix in _READ and path.is_file()]
    if not any(path.suffix in _WEIGHTS for path in found):
        raise UsageError(f"--model {place}: has no weights; name a folder that has some, or a GGUF")
    return found


def model_digest(place: Path) -> str:
    """What identifies a model: its configuration, and the sizes and ends of its weights.

    Raises:
        UsageError: there is none.
    """
    total = hashlib.sha256()
    for path in model_files(place):
        size = path.stat().st_size
        with path.open("rb") as file:
            total.update(f"{path.suffix} {size}\n".encode() + file.read(_READ_BYTES))
            file.seek(max(0, size - _READ_BYTES))
            total.update(file.read(_READ_BYTES))
    return total.hexdigest()[:12]

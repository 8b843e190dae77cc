"""A cell of rules in words made whole: its families and its model found, its versions declared.

No torch is loaded, and no model.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rulekeep.language.chat import converse
from rulekeep.language.compressions import Compression
from rulekeep.language.declared import check_positions, model_digest
from rulekeep.language.families import Families, digest_of, digest_of_checks, read_families
from rulekeep.language.recorded import Recorded, read_chat
from rulekeep.language.system import SystemPrompt, read_system
from rulekeep.records.identity import PROTOCOL, Identified, source_digest
from rulekeep.specs import UsageError
from rulekeep.specs.language import LanguageSpec


@dataclass(frozen=True)
class ResolvedLanguage(Identified[LanguageSpec]):
    """A cell that can be run, with its families, and what its chat is of if not small talk.

    A model counts by its content, wherever it stands, and so does each file of rules, chat, or a
    system prompt.
    """

    families: Families
    recorded: Recorded | None
    system: SystemPrompt | None
    # By what was asked for.
    compressions: Mapping[str, Compression]


def check_library(option: str, name: str) -> None:
    """Whether what an option needs is installed, without loading it."""
    if find_spec(name) is None:
        raise UsageError(f"{option} needs {name}: pip install 'rulekeep[language]'")


def resolve_language(spec: LanguageSpec) -> ResolvedLanguage:
    """Finds the families and the model of a spec; the model is not loaded."""
    # Before hours of reading: whether what reads is installed.
    option, library = ("--endpoint", "openai") if spec.endpoint else ("--model", "transformers")
    check_library(option, library)
    if not spec.endpoint:
        check_positions(Path(spec.model), spec.distance)
    families, chosen, system = chosen_families(spec)
    asked = spec.model_dump(
        mode="json",
        exclude_defaults=True,
        exclude={"model", "rules", "families", "template", "chat", "system"},
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
    compressions = dict[str, Compression]()
    for text in spec.compress:
        one = compressions[text] = Compression.parse(text)
        if one.version is not None:
            # With its guard, as a report names it.
            versions[text.rpartition("@")[0]] = one.version
        if spec.endpoint and one.kind in ("eviction", "rounding"):
            raise UsageError(
                f"compress {text}: an endpoint has no cache to cut or round; "
                "compress the text, as in keep_ends@0.25"
            )
    recorded = read_chat(spec.chat) if spec.chat else None
    if recorded is not None:
        versions["chat"] = recorded.digest
    if system is not None:
        versions["system"] = system.digest
    return ResolvedLanguage(
        spec, asked, versions, source_digest(), chosen, recorded, system, compressions
    )


def chosen_families(spec: LanguageSpec) -> tuple[Families, Families, SystemPrompt | None]:
    """The families of a spec's file, those that it asks for, and its system prompt."""
    families = read_families(spec.rules)
    if unknown := set(spec.families) - set(families):
        place = spec.rules or "the shipped rules"
        raise UsageError(f"families {', '.join(sorted(unknown))}: not in {place}; see its headings")
    chosen = {name: families[name] for name in spec.families or families}
    system = read_system(spec.system, chosen) if spec.system else None
    rules = system.rules if system else {}
    if system and ({*spec.families}, spec.rules_at_once) != ({*rules}, len(rules)):
        raise UsageError(
            f"--system {spec.system}: states {', '.join(rules)}; give these families, and "
            f"rules_at_once {len(rules)}"
        )
    # And whether so many can stand together.
    near = spec.model_copy(update={"distance": 0})
    asked_first = converse(chosen, near, "test", 0, len, system=system).asked
    two = [name for name, family in chosen.items() if len(family.options) == 2]
    if spec.replies == "scored" and two and len(asked_first) == spec.rules_at_once:
        # Of two options one is always stated: nothing would say what they score by themselves.
        fewer = "fewer --rules-at-once, a third option, or more families"
        raise UsageError(
            f"family {two[0]}: has two options, and every prompt states every family; give "
            f"{'a third option, or the others as --families' if system else fewer}"
        )
    return families, chosen, system


def _checked(families: Families) -> str:
    """What identifies the checks of written replies."""
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

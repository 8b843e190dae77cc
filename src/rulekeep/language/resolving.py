"""A cell of rules in words, or of compaction, made whole: all that it names found, with versions.

No torch is loaded, and no model.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rulekeep.compaction.compactors import Compactor, find, version_of
from rulekeep.compaction.compactors import digest_of as files_digest
from rulekeep.compaction.history import made
from rulekeep.compaction.messages import Count, Message, as_messages, read_chats, word_count
from rulekeep.language.chat import converse
from rulekeep.language.compressions import Compression
from rulekeep.language.declared import check_positions, model_digest
from rulekeep.language.families import Families, digest_of, digest_of_checks, read_families
from rulekeep.language.recorded import Recorded, read_chat
from rulekeep.language.system import SystemPrompt, read_system
from rulekeep.records.identity import PROTOCOL, Identified, code_of_file, source_digest
from rulekeep.registry import find_function
from rulekeep.specs import CompactionSpec, LanguageSpec, UsageError
from rulekeep.specs.compaction import COMPACTED


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
        for name, family in chosen.items():
            try:
                family.check_finds_replies()
            except ValueError as error:
                raise UsageError(f"family {name}: {error}") from None
        versions["checks"] = digest_of_checks(chosen)
    if spec.template:
        try:
            versions["template"] = code_of_file(Path(spec.template))
        except OSError as error:
            fix = f"{error.strerror}; name a Jinja file"
            raise UsageError(f"--template {spec.template}: {fix}") from None
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
    chosen = _named(families, spec)
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


def _named(families: Families, spec: LanguageSpec | CompactionSpec) -> Families:
    """The families that a spec asks for, all if it names none."""
    if unknown := set(spec.families) - set(families):
        place = spec.rules or "the shipped rules"
        raise UsageError(f"families {', '.join(sorted(unknown))}: not in {place}; see its headings")
    return {name: families[name] for name in spec.families or families}


@dataclass(frozen=True)
class ResolvedCompaction(Identified[CompactionSpec]):
    """A cell that can be run; files of rules and of histories count by their content.

    `compactor` is None where a product has shortened the histories, and its output is read.
    """

    families: Families
    recorded: Sequence[Sequence[Message]]
    compactor: Compactor | None
    count: Count


def resolve_compaction(
    spec: CompactionSpec, compactor: Compactor | None = None
) -> ResolvedCompaction:
    """Finds the compactor if none is given, families and a user's histories; no model is loaded."""
    families = _named(read_families(spec.rules or "agents"), spec)
    for one in map(Compression.parse, spec.compress):
        if one.kind not in ("eviction", "rounding") or one.guard not in ("", "ends"):
            raise UsageError(f"compress {one.name}: name an eviction or a rounding of the cache")
    recorded = read_chats(spec.chat, as_messages) if spec.chat else ()
    count: Count = find_function(spec.count, (), "count") if spec.count else word_count
    versions: dict[str, int | str] = {PROTOCOL: spec.version, "rules": digest_of(families)}
    asked = spec.model_dump(mode="json", exclude_defaults=True, exclude={"rules", "chat"})
    if spec.saved:
        # It counts by its content, wherever it stands.
        asked["compactor"] = "saved"
        versions["compactor"] = files_digest(sorted((spec.saved / COMPACTED).glob("*.json")))
    else:
        compactor = compactor or find(spec.compactor)
        asks = "model" in compactor.asked
        if asks and not spec.model:
            raise UsageError(
                f"compactor {spec.compactor}: asks for a model; give --model deaf,copying, two "
                "stand-ins, or file.py:call, or a folder"
            )
        if spec.model and not asks:
            raise UsageError(f"model {spec.model}: {spec.compactor} asks for none; leave it out")
    for key, place in (("model", spec.model), ("reader", "" if spec.endpoint else spec.reader)):
        if place and Path(place).is_dir():
            versions[key] = model_digest(Path(place))
    for key in ("compactor", "model", "count", "summary_prompt"):
        if key not in versions and (version := version_of(getattr(spec, key))):
            versions[key] = version
    if spec.guard == "ends":
        # Once what stayed could begin with an assistant.
        versions["guard"] = 2
    if spec.chat:
        digest = hashlib.sha256(json.dumps(recorded).encode()).hexdigest()[:12]
        # Once a history had turns of several sessions.
        versions["chat"] = f"{digest}, a session a history"
    # What a user's own sessions have no room for is said before the first is shortened.
    for number in range(spec.histories if recorded else 1):
        made(families, spec, number, count, recorded)
    return ResolvedCompaction(
        spec, asked, versions, source_digest(), families, recorded, compactor, count
    )

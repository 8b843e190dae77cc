"""A cell of compaction made whole: compactor and rules found, versions declared. No torch."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rulekeep.compaction.compactors import Compactor, digest_of, find, version_of
from rulekeep.compaction.history import made
from rulekeep.compaction.messages import Count, Message, read_histories, word_count
from rulekeep.language.compressions import Compression
from rulekeep.language.declared import model_digest
from rulekeep.language.families import Families, read_families
from rulekeep.language.families import digest_of as rules_digest
from rulekeep.records.identity import PROTOCOL, Identified, source_digest
from rulekeep.registry import find_function
from rulekeep.specs import UsageError
from rulekeep.specs.compaction import COMPACTED, CompactionSpec


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
    families = read_families(spec.rules or "agents")
    if unknown := {*spec.families} - families.keys():
        raise UsageError(f"families {', '.join(sorted(unknown))}: not in the rules; see the file")
    families = {name: families[name] for name in spec.families or families}
    for one in map(Compression.parse, spec.compress):
        if one.kind not in ("eviction", "rounding") or one.guard not in ("", "ends"):
            raise UsageError(f"compress {one.name}: name an eviction or a rounding of the cache")
    recorded = read_histories(spec.chat) if spec.chat else ()
    count: Count = find_function(spec.count, (), "count") if spec.count else word_count
    versions: dict[str, int | str] = {PROTOCOL: spec.version, "rules": rules_digest(families)}
    asked = spec.model_dump(mode="json", exclude_defaults=True, exclude={"rules", "chat"})
    if spec.saved:
        # It counts by its content, wherever it stands.
        asked["compactor"] = "saved"
        versions["compactor"] = digest_of(sorted((spec.saved / COMPACTED).glob("*.json")))
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

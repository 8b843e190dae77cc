"""A cell of compaction made whole: compactor and rules found, versions declared. No torch."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rulekeep.compaction.compactors import Compactor, find
from rulekeep.compaction.history import made
from rulekeep.compaction.messages import Count, Message, read_histories, word_count
from rulekeep.language.declared import model_digest
from rulekeep.language.families import Families, digest_of, read_families
from rulekeep.records import provenance
from rulekeep.records.identity import PROTOCOL, Identified
from rulekeep.registry import find_function
from rulekeep.specs import UsageError
from rulekeep.specs.compaction import CompactionSpec

PACKAGE = "rulekeep.compaction"


@dataclass(frozen=True)
class ResolvedCompaction(Identified[CompactionSpec]):
    """A cell that can be run; files of rules and of histories count by their content.

    `compactor` is None where a product has shortened the histories, and its output is read.
    """

    families: Families
    recorded: Sequence[Sequence[Message]]
    compactor: Compactor | None
    count: Count
    notes: tuple[str, ...] = ()


def resolve_compaction(spec: CompactionSpec) -> ResolvedCompaction:
    """Finds the compactor, the families and a user's own histories; no model is loaded.

    Raises:
        UsageError: one of them is not there, or cannot be.
    """
    families = read_families(spec.rules, PACKAGE)
    recorded = read_histories(spec.chat) if spec.chat else ()
    count: Count = find_function(spec.count, (), "count") if spec.count else word_count
    versions: dict[str, int | str] = {PROTOCOL: spec.version, "rules": digest_of(families)}
    compactor = None
    if spec.saved:
        versions["compactor"] = _digest(sorted(spec.saved.glob("*.json")))
    else:
        compactor = find(spec.compactor)
        asks = "model" in compactor.asked
        if asks and not spec.model:
            raise UsageError(
                f"compactor {spec.compactor}: asks for a model; give --model deaf,copying, two "
                "stand-ins, or file.py:call, or a folder"
            )
        if spec.model and not asks:
            raise UsageError(f"model {spec.model}: {spec.compactor} asks for none; leave it out")
    if Path(spec.model).is_dir() and spec.model:
        versions["model"] = model_digest(Path(spec.model))
    for key in ("compactor", "model", "count", "summary_prompt"):
        named = Path(getattr(spec, key).rpartition(":")[0] or getattr(spec, key))
        if named.is_file():
            is_code = named.suffix == ".py"
            versions[key] = provenance.content_digest(named) if is_code else _digest([named])
    if spec.chat:
        versions["chat"] = hashlib.sha256(json.dumps(recorded).encode()).hexdigest()[:12]
    # What a user's own histories have no room for is said before the first is shortened.
    made(families, spec, 0, count, recorded)
    asked = spec.model_dump(mode="json", exclude_defaults=True, exclude={"rules", "chat"})
    return ResolvedCompaction(
        spec, asked, versions, provenance.digest(), families, recorded, compactor, count
    )


def _digest(files: Iterable[Path]) -> str:
    """Raises `UsageError` where one cannot be read."""
    total = hashlib.sha256()
    try:
        for file in files:
            total.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    return total.hexdigest()[:12]

"""One cell of rules in words, one record: conversations read once, then scored under each cache.

    for prompt in validation prompts, test prompts:
        read the conversation ─ observe what evictions need
        for each compression: cut or round the cache, or shorten the text and read it anew
                              ─ score every option of every rule, obeyed and said

What is kept are log-likelihoods, of every option in every prompt: shares are made of them later
(`rulekeep.language.figures`). A run that is stopped goes on after the last prompt it has saved.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rulekeep.language.chat import Split, converse
from rulekeep.language.evictions import evicted, kept_bytes, rounded
from rulekeep.language.families import Family
from rulekeep.language.models import ChatModel, Probe, Read, load_model
from rulekeep.language.resolving import ResolvedLanguage
from rulekeep.language.texts import compact, is_stored
from rulekeep.records.store import RunFolder, Values, text_bytes, write_bytes
from rulekeep.running import costs
from rulekeep.specs.language import NO_COMPRESSION, Compression, LanguageSpec

CHECKPOINT_SECONDS = 20.0
_DIGITS = 4
RECALL = "Which rules do you follow? Repeat them word for word."


def run(
    resolved: ResolvedLanguage,
    folder: RunFolder,
    progress: Callable[[int], None],
    log: Callable[[int, Mapping[str, float]], None],
) -> Values:
    """Reads and scores every prompt of a cell, from its checkpoint if there is one."""
    del log
    costs.prepare_process()
    spec = resolved.spec
    if spec.device != "cpu":
        from rulekeep.running.resolving import check_device

        check_device(spec.device)
    known = _load(folder.checkpoint)
    model = load_model(spec.model, spec.device, spec.dtype)
    saved = time.monotonic()
    done = len(known["tokens"])
    for place, (split, number) in enumerate(_prompts(spec)):
        if place < done:
            continue
        began = time.perf_counter()
        rows, read, sizes = _scored(model, resolved, split, number)
        known["choices"] += rows
        known["tokens"].append(read.tokens)
        known["bytes"] = sizes
        known["seconds"] += time.perf_counter() - began
        progress(place + 1)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            write_bytes(folder.checkpoint, text_bytes(json.dumps(known)))
            saved = time.monotonic()
    return {
        "status": "done",
        "reason": None,
        "spec": {
            **spec.model_dump(mode="json"),
            "task": "language",
            "mixer": Path(spec.model).name,
            "context": max(1, spec.distance),
        },
        "source": resolved.source,
        "history": [],
        "evaluations": [],
        "choices": known["choices"],
        "costs": {
            "seconds": known["seconds"],
            "tokens_per_prompt": sum(known["tokens"]) / len(known["tokens"]),
            "peak_memory_bytes": costs.peak_memory_bytes(),
            "cache_bytes": known["bytes"],
        },
        "environment": {**costs.environment(), "device": spec.device, **_libraries()},
        "notes": [],
    }


def _prompts(spec: LanguageSpec) -> Iterator[tuple[Split, int]]:
    yield from (("dev", number) for number in range(spec.calibration_prompts))
    yield from (("test", number) for number in range(spec.prompts))


def _load(path: Path) -> dict[str, Any]:
    """What was scored before a stop; nothing where that cannot be read."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return {"choices": [], "tokens": [], "bytes": {}, "seconds": 0.0}


def _scored(
    model: ChatModel, resolved: ResolvedLanguage, split: Split, number: int
) -> tuple[list[dict[str, Any]], Read, dict[str, int]]:
    """A row for each rule under each compression: the log-likelihoods of its options in nats."""
    spec, families = resolved.spec, resolved.families
    conversation = converse(families, spec, split, number, model.tokens_of)
    needed = [one.name for one in spec.compressions if one.is_eviction]
    read = model.read(conversation.messages, list(dict.fromkeys(needed)))
    guards = any(one.guard for one in spec.compressions)
    places = model.places(conversation.messages, conversation.rules) if guards else ()
    asked = [(one, how) for one in conversation.asked for how in ("obeyed", "said")]
    probes = [probe for one, how in asked for probe in _probes(families[one.family], how)]
    rows, sizes = list[dict[str, Any]](), dict[str, int]()
    for text, one in zip(spec.compress, spec.compressions, strict=True):
        messages, stored, cache, tokens = conversation.messages, None, None, read.tokens
        if one.is_of_text:
            messages, stored = compact(messages, one, model)
            anew = model.read(messages)
            cache, tokens = anew.cache, anew.tokens
        else:
            cache = compressed(read, one, places)
        sizes[text] = kept_bytes(cache, one.name, int(one.amount))
        found = iter(model.scores(cache, tokens, messages, probes))
        for rule, how in asked:
            family = families[rule.family]
            row = {
                "compress": text, "split": split, "prompt": number, "family": rule.family,
                "rank": rule.rank, "option": rule.option, "how": how,
                "scores": [round(next(found), _DIGITS) for _ in family.options],
            }  # fmt: skip
            if stored is not None:
                row["stored"] = is_stored(stored, family.options[rule.option])
            rows.append(row)
    return rows, read, sizes


def _probes(family: Family, how: str) -> list[Probe]:
    """What is scored of a rule: the reply that needs it, or the rule itself, asked for."""
    if how == "obeyed":
        return [Probe(family.request, family.prefix, reply) for reply in family.continuations]
    before, options = family.recalled
    return [Probe(RECALL, before, option) for option in options]


def compressed(read: Read, one: Compression, rules: Sequence[Sequence[int]] = ()) -> Any:
    """The cache of a conversation under a compression; the one that was read stays as it is.

    `rules` are the places of each rule's tokens, for an eviction with a guard.
    """
    if one.is_eviction:
        return evicted(read.cache, read.scores[one.name], one.amount, one.guard, rules)
    return (
        read.cache if one.name == NO_COMPRESSION else rounded(read.cache, one.name, int(one.amount))
    )


def _libraries() -> dict[str, str]:
    from importlib.metadata import version

    return {"transformers": version("transformers")}

"""Records of rules in words by cell: what was asked for, of which model, families and chat.

    grouped(records)        # by Place, one record with every compression that was run of it

No torch.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rulekeep.printable import name
from rulekeep.records.record import Record
from rulekeep.specs import LanguageSpec

# Mentions of every rival and not of the rule's own option: no reader without rules is at chance.
RIVALS_ALONE = ", rivals alone"


def mentions_of(record: Record) -> str:
    """How options are mentioned in a cell, if they are; the form before version 3 by its name."""
    mentions, version = str(record.spec.rest.get("mentions", "?")), record.versions.get("protocol")
    former = mentions != "none" and isinstance(version, int) and version < 3
    return f"{mentions}{RIVALS_ALONE}" if former else mentions


class Place(NamedTuple):
    """A cell: where the rules stand, how far, what else is in the text, and how it was asked.

    `model`, `families` and `chat` are labels that tell apart what is called alike. `asked` tells
    cells apart that differ in anything else but their compressions.
    """

    model: str
    control: str
    mentions: str
    placement: str
    distance: int
    chat: str
    rules: int
    seed: int
    families: str
    replies: str
    asked: str


class Named(NamedTuple):
    """What a record is of: what tells it from others, its name, and a mark beside others of it."""

    key: str
    called: str
    mark: str


def model_of(record: Record) -> Named:
    """Its model: by content, or by name and address behind an endpoint."""
    called, digest = name(record.spec.mixer, "?"), str(record.versions.get("model", ""))
    mark = digest[:6]
    if endpoint := name(record.spec.rest.get("endpoint"), ""):
        mark = f"{digest} at {endpoint}".removeprefix("named ").removeprefix(f"{called} ")
    return Named(f"{digest or called} {endpoint}", called, mark)


def _families_of(record: Record) -> Named:
    names, digest = record.spec.families, str(record.versions.get("rules", ""))
    digest = f"{record.versions.get('system', '')}{digest}"
    file = Path(name(record.spec.rest.get("system") or record.spec.rest.get("rules"), "")).name
    called = f"{len(names)} of {file}" if file else f"{len(names)} shipped"
    return Named(f"{digest} {names}", called, digest[:6])


def _chat_of(record: Record) -> Named:
    digest = str(record.versions.get("chat", ""))
    called = Path(name(record.spec.rest.get("chat"), "?")).name if digest else ""
    return Named(digest, called, digest[:6])


def labels(named: Callable[[Record], Named], records: Sequence[Record]) -> dict[str, str]:
    """What to call each, by what tells it apart: its name, with a mark where several have it."""
    in_order = sorted(records, key=lambda record: record.id, reverse=True)
    every = {of.key: of for of in map(named, in_order)}
    counts = Counter(of.called for of in every.values())
    return {
        key: of.called if counts[of.called] == 1 else f"{of.called} ({of.mark})"
        for key, of in every.items()
    }


def grouped(records: Sequence[Record]) -> dict[Place, Record]:
    """Each cell as one record: every compression of the first that has it, by id.

    A cell that chooses families is left out.
    """
    records = [record for record in records if record.spec.kind == LanguageSpec.kind]
    called = [labels(named, records) for named in (model_of, _families_of, _chat_of)]
    alike: dict[Place, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.id):
        if record.choices and record.spec.families:
            model, families, chat = (
                of[named(record).key]
                for of, named in zip(called, (model_of, _families_of, _chat_of), strict=True)
            )
            rest = record.spec.rest
            place = Place(
                model=model,
                control=name(rest.get("control"), "?"),
                mentions=mentions_of(record),
                placement=name(rest.get("placement"), "?"),
                distance=int(str(rest.get("distance", record.spec.context))),
                chat=chat,
                rules=int(str(rest.get("rules_at_once", 0))),
                seed=record.spec.seed,
                families=families,
                replies=record.choices[0].judged,
                asked=_asked(record),
            )
            alike[place].append(record)
    return {place: _joined(of) for place, of in sorted(alike.items())}


def _asked(record: Record) -> str:
    # Files count by their content. An option newer than a record is empty in others.
    places = ("model", "device", "rules", "template", "chat", "system", "replies")
    asked = {key: value for key, value in record.spec.rest.items() if value and key not in places}
    # What is from outside is named with its content.
    outside = {text.rpartition("@")[0] for text in record.spec.compress}
    versions = {key: value for key, value in record.versions.items() if key not in outside}
    return json.dumps([asked, record.spec.families, versions], sort_keys=True)


def _joined(alike: Sequence[Record]) -> Record:
    first, *others = alike
    choices, known = [*first.choices], {*first.spec.compress}
    sizes, left = first.cache_bytes, first.tokens_left
    for other in others:
        choices += [row for row in other.choices if row.compress not in known]
        sizes, left = other.cache_bytes | sizes, other.tokens_left | left
        known |= {*other.spec.compress}
    joined = {"choices": tuple(choices), "cache_bytes": sizes, "tokens_left": left}
    return first.model_copy(update=joined)

"""Records of several folders as one: a model trained twice, for other tests, is one run."""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

from rulekeep.report.reading import lengths, number
from rulekeep.store import RESULTS, Record, training


def merged(records: Iterable[Record]) -> list[Record]:
    """Each trained model once: of records that differ in what they test alone, the first.

    It has what the others have more. A run without a result stands for itself.
    """
    return [reduce(joined, same) for same in _by_training(records)]


def trained_apart(records: Iterable[Record]) -> list[str]:
    """A line for those that are merged into a record whose training came out otherwise, if any."""
    pairs = [
        f"{first['id']} and {other['id']}"
        for first, *others in _by_training(records)
        for other in others
        if _trained(first) != _trained(other)
    ]
    if not pairs:
        return []
    more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
    return [
        f"runs {pairs[0]}{more}: one training that came out otherwise, as on another machine; "
        "shown as one run, with the history, costs and tests of the first, and what only the other "
        "tested"
    ]


def joined(first: Record, other: Record) -> Record:
    """The first, with the evaluations, and the costs by length, that only the other has.

    Where both were tested, and training gave the same, the evaluation of more examples; then the
    other's id is one of its `twins`, and what is known of the one holds of the other.
    """
    tested = {(one["split"], one["context"]): one for one in first["evaluations"]}
    same = _trained(first) == _trained(other)
    for one in other["evaluations"]:
        has = tested.setdefault((one["split"], one["context"]), one)
        if same and (number(has.get("n")) or 0) < (number(one.get("n")) or 0):
            tested[one["split"], one["context"]] = one
    costs = dict(first["costs"])
    for name in ("state_bytes", "decode_ms_per_token"):
        by_length = [one["costs"].get(name) for one in (other, first)]
        if all(isinstance(one, dict) for one in by_length):
            costs[name] = {length: cost for one in by_length for length, cost in one.items()}
    asked = set[int]().union(*(lengths(one["spec"].get("test_contexts")) for one in (first, other)))
    later = [entry for one in (first, other) for entry in one.get("tested_later") or ()]
    return {
        **first,
        "spec": {**first["spec"], "test_contexts": sorted(asked)},
        "costs": costs,
        "evaluations": [*tested.values()],
        **({"tested_later": later} if later else {}),
        "twins": [*first.get("twins", ()), *[other["id"]] * same],
    }


def _by_training(records: Iterable[Record]) -> list[list[Record]]:
    found: dict[tuple[str, str], list[Record]] = {}
    for place, record in enumerate(records):
        status = record["status"]
        trained = status in RESULTS and training(record["spec"], str(record.get("source")))
        found.setdefault((status, trained or str(place)), []).append(record)
    return list(found.values())


def _trained(record: Record) -> list[Any]:
    """What training gave, look by look, without its seconds."""
    return [
        {key: value for key, value in look.items() if key != "train_seconds"}
        if isinstance(look, Mapping)
        else look
        for look in record["history"]
    ]

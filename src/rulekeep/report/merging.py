"""Records of several folders as one: a model trained twice, for other tests, is one run."""

from collections.abc import Iterable

from rulekeep.store import RESULTS, Record, training


def merged(records: Iterable[Record]) -> list[Record]:
    """Each trained model once: of records that differ in what they test alone, the first.

    It has what the others have more. A run without a result stands for itself.
    """
    found: dict[tuple[str, str], Record] = {}
    for place, record in enumerate(records):
        status = record["status"]
        trained = status in RESULTS and training(record["spec"], str(record.get("source")))
        key = (status, trained or str(place))
        found[key] = joined(found[key], record) if key in found else record
    return list(found.values())


def joined(first: Record, other: Record) -> Record:
    """The first, with the evaluations, and the costs by length, that only the other has."""
    has = {(one["split"], one["context"]) for one in first["evaluations"]}
    more = [one for one in other["evaluations"] if (one["split"], one["context"]) not in has]
    costs = dict(first["costs"])
    for name in ("state_bytes", "decode_ms_per_token"):
        by_length = [one["costs"].get(name) for one in (other, first)]
        if all(isinstance(one, dict) for one in by_length):
            costs[name] = {length: cost for one in by_length for length, cost in one.items()}
    return {**first, "costs": costs, "evaluations": [*first["evaluations"], *more]}

"""Records of several folders as one: a model trained twice, for other tests, is one run."""

from collections.abc import Iterable
from functools import reduce

from rulekeep.records import Record


def merged(records: Iterable[Record]) -> list[Record]:
    """Each trained model once: of records that differ in what they test alone, the first.

    It has what the others have more. A run without a result stands for itself.
    """
    return [reduce(joined, same) for same in _by_training(records)]


def trained_apart(records: Iterable[Record]) -> list[str]:
    """A line for those that are merged into a record whose training came out otherwise, if any."""
    pairs = [
        f"{first.id} and {other.id}"
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
    tested = {(one.split, one.context): one for one in first.evaluations}
    same = _trained(first) == _trained(other)
    for one in other.evaluations:
        has = tested.setdefault((one.split, one.context), one)
        if same and has.examples < one.examples:
            tested[one.split, one.context] = one
    asked = {*first.spec.test_contexts, *other.spec.test_contexts}
    spec = first.spec.model_copy(update={"test_contexts": tuple(sorted(asked))})
    return first.model_copy(
        update={
            "spec": spec,
            "state_bytes": {**other.state_bytes, **first.state_bytes},
            "decode_ms": {**other.decode_ms, **first.decode_ms},
            "evaluations": (*tested.values(),),
            "tested_later": tuple(sorted({*first.tested_later, *other.tested_later})),
            "twins": (*first.twins, *[other.id] * same),
        }
    )


def _by_training(records: Iterable[Record]) -> list[list[Record]]:
    found: dict[tuple[str, str], list[Record]] = {}
    for place, record in enumerate(records):
        key = record.training if record.is_result else str(place)
        found.setdefault((record.status, key), []).append(record)
    return list(found.values())


def _trained(record: Record) -> list[dict[str, float]]:
    """What training gave, look by look, without its seconds."""
    return [
        {key: value for key, value in look.items() if key != "train_seconds"}
        for look in record.history
    ]

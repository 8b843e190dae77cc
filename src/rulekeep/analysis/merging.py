"""Merges records of several folders: a model trained twice, for other tests, is one run."""

from collections.abc import Iterable
from functools import reduce

from rulekeep.records import Record
from rulekeep.records.record import how_ended


def merged(records: Iterable[Record]) -> list[Record]:
    """Each trained model once: among records that differ only in their tests, the first.

    It gets the tests of the others. A run without a result is not merged.
    """
    return [reduce(joined, same) for same in _by_training(records)]


def trained_apart(records: Iterable[Record]) -> list[str]:
    """A note on merged records whose training gave different figures, if any."""
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
    """The first record, with the evaluations and costs by length that only the other has.

    If both were tested and trained to the same figures, the evaluation with more examples counts.
    The other id becomes one of its `twins`.
    """
    tested = {(one.split, one.context): one for one in first.evaluations}
    same = _trained(first) == _trained(other)
    for one in other.evaluations:
        has = tested.setdefault((one.split, one.context), one)
        if same and has.examples < one.examples:
            tested[one.split, one.context] = one
    ended = how_ended(map(vars, tested.values())) if first.has_model else {}
    asked = {*first.spec.test_contexts, *other.spec.test_contexts}
    spec = first.spec.model_copy(update={"test_contexts": tuple(sorted(asked))})
    return first.model_copy(
        update={
            **ended,
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
        ended = "tested" if record.has_model else record.status
        found.setdefault((ended, key), []).append(record)
    return list(found.values())


def _trained(record: Record) -> list[dict[str, float]]:
    """The result of training, evaluation by evaluation, without its seconds."""
    return [
        {key: value for key, value in look.items() if key != "train_seconds"}
        for look in record.history
    ]

"""Records as flat rows, one per tested length, for pandas and polars.

    pandas.DataFrame(flat(records))

Every row has every column; a missing value is None. Scores are fractions from 0 to 1.
"""

from collections.abc import Iterable
from typing import TypeAlias

from rulekeep.records import Evaluation, Record
from rulekeep.records.figures import SCORES
from rulekeep.specs import written

Value: TypeAlias = str | int | float | None


def flat(records: Iterable[Record]) -> list[dict[str, Value]]:
    """A row for each length that each run was tested at, on the test and the validation split.

    A run without a result has one row, with None for its scores.
    """
    return [_row(record, one) for record in records for one in record.evaluations or (None,)]


def _row(record: Record, one: Evaluation | None) -> dict[str, Value]:
    spec, environment = record.spec, record.environment
    placement, rules = (spec.task_options.get(key) for key in ("placement", "rules"))
    added = spec.rest.get("added_positions")
    # A failed run of before does not say what was asked.
    own = record.shown_options if record.asked else spec.mixer_options
    figures = {} if one is None else one.figures
    at = 0 if one is None else one.context
    return {
        "id": record.id,
        "status": record.status,
        "task": spec.task,
        "placement": placement if isinstance(placement, str) else None,
        "rules": rules if isinstance(rules, int) else None,
        "mixer": spec.mixer,
        # With the options that differ from their defaults, as a sweep reads it.
        "variant": written(spec.mixer, own),
        "added_positions": added if isinstance(added, str) else None,
        "seed": spec.seed,
        "learning_rate": spec.learning_rate,
        "trained_tokens": spec.context if spec.is_trained else None,
        "split": one.split if one else None,
        "tokens": one.context if one else None,
        "examples": int(one.examples) if one else None,
        "not_finite_from": one.not_finite_from if one else None,
        **{score: figures.get(score) for score in SCORES},
        "chance_of_retention": one.chance.get("retention") if one else None,
        "loss": figures.get("val_loss"),
        "state_bytes": record.state_bytes.get(at),
        "decode_ms_per_token": record.decode_ms.get(at),
        "parameters": record.costs.get("parameters"),
        "train_seconds": record.costs.get("train_seconds"),
        "peak_memory_bytes": record.costs.get("peak_memory_bytes"),
        **{key: environment.get(key) for key in ("rulekeep", "torch", "cpu", "device", "commit")},
    }

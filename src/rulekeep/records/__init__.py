"""What is kept of a run: its typed record, its identity, and folders packed into one file."""

from rulekeep.records.identity import Versions, identify
from rulekeep.records.record import (
    RESULTS,
    STATUSES,
    Asked,
    Evaluation,
    Part,
    Prediction,
    Record,
    RecordedSpec,
)

__all__ = [
    "RESULTS",
    "STATUSES",
    "Asked",
    "Evaluation",
    "Part",
    "Prediction",
    "Record",
    "RecordedSpec",
    "Versions",
    "identify",
]

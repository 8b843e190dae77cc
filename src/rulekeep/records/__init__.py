"""What is kept of a run: its typed record, its identity, and folders packed into one file."""

from rulekeep.records.record import STATUSES, Asked, Evaluation, Record, RecordedSpec

__all__ = ["STATUSES", "Asked", "Evaluation", "Record", "RecordedSpec"]

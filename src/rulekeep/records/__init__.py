"""What is kept of a run: its typed record, its identity, and folders packed into one file."""

from rulekeep.records.record import Evaluation, Record, RecordedSpec
